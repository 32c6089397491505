"""Who runs the model: our own engine (`native`), `transformers`, or a server over HTTP (`openai`).

Two ways to answer: a `Session` takes a batch and tells of every forward, a `LoadSession` takes all
prompts of a repeat and sends them as a load; their requests overlap in time and may fail.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from bench.backends.capabilities import Capabilities, Steps
from bench.records import FailedRequest, LoadRecord, Reconciled, RequestRecord
from bench.thought import Thought
from bench.timing import Stopwatch

if TYPE_CHECKING:
    from bench.workloads.prompt import Prompt  # its package imports torch

__all__ = [
    "AnySession",
    "Backend",
    "BackendConfig",
    "Capabilities",
    "Delivery",
    "Forward",
    "Identity",
    "LoadSession",
    "Loaded",
    "Mark",
    "RowBlock",
    "Session",
    "Steps",
    "Told",
    "Trace",
    "unmarked",
]

Backend = Enum("Backend", ["native", "openai", "simulated", "transformers"])

Mark = Callable[[], None]
"""Called in the moment of an event: a stopwatch's `mark`."""


def unmarked() -> None:
    """A mark of nobody's."""


@dataclass(kw_only=True, slots=True)
class BackendConfig:
    """Who runs the model; by itself, our own engine."""

    name: Backend = Backend.native

    @property
    def starts_server(self) -> bool:
        """Whether a process starts a server of its own, with the sampler's knobs."""
        return False

    def process_key(self) -> str:
        """Points that differ here must not share a process."""
        return repr(self)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a session really runs, for the result rows.

    Attributes:
        thought: how the model marks its reasoning, None where it has no such marks.
        template_sha256: of the chat template, None where prompts are given bare.
    """

    model: str
    decoding: str
    emulated: bool
    weights: str
    weights_sha256: str | None
    vocab_size: int
    canvas_length: int | None
    device: str
    eos_token_ids: tuple[int, ...]
    thought: Thought | None = None
    template_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Forward:
    """A forward of the whole batch has been issued, and on a CPU finished."""

    phase: str
    canvas_index: int
    step: int


@dataclass(frozen=True, slots=True)
class RowBlock:
    """One row's share of a delivery, in host memory."""

    tokens: list[int]
    slots: list[int]
    after_eos: int
    over_limit: int
    row_ended: int
    steps: int
    stop_reason: str | None
    finish_reason: str | None


@dataclass(frozen=True, slots=True)
class Trace:
    """A canvas's decisions over the batch's steps: [T, B] sums and [T, B, L] positions."""

    accepted_slots: np.ndarray
    mean_entropy_nat: np.ndarray
    candidate: np.ndarray | None
    accepted: np.ndarray | None
    argmax: np.ndarray | None
    entropy_nat: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A block's text is in hand: a canvas, or one autoregressive token, for every row.

    Attributes:
        top_score: with the last autoregressive token, the best score of every token [T, B].
    """

    canvas_index: int
    rows: list[RowBlock]
    trace: Trace | None
    top_score: np.ndarray | None = None


class Told(Protocol):
    """What every session says of itself and of its tokens."""

    @property
    def identity(self) -> Identity: ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can tell, and what not and why."""
        ...

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Raises ValueError for a prompt this session cannot answer."""
        ...

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, put into the session's chat template where it has one."""
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of delivered tokens, without special tokens; empty without a tokenizer."""
        ...

    def vocabulary(self, token: int) -> str:
        """One token's text, special tokens included; its id without a tokenizer."""
        ...


class Session(Told, Protocol):
    """A loaded model that answers batches of prompts."""

    def stopwatch(self) -> Stopwatch:
        """A new one, with the clocks of this session's device."""
        ...

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        row_keys: Sequence[int],
        *,
        first_canvas: Sequence[Sequence[int]] | None = None,
        max_new_tokens: int | None = None,
        mark: Mark = unmarked,
    ) -> Iterator[Forward | Delivery]:
        """Generates for a batch; `row_keys` key each row's noise, `first_canvas` is its start.

        Args:
            mark: called once an event when it happens, which may be long before it is yielded.
        """
        ...

    def touched_experts(
        self, prompts: Sequence[Sequence[int]], row_keys: Sequence[int]
    ) -> Iterator[tuple[Forward, list[int]]]:
        """Generates once, untimed, the beginning of a long answer alone.

        Each forward comes with every layer's number of distinct experts.
        """
        ...

    def weight_bytes(self, distinct_experts: float) -> float:
        """Bytes of weights a denoise or decode step reads with so many experts a layer."""
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one pass over a load's prompts left.

    Attributes:
        window_s: from the first request sent to the last one's end, on time.perf_counter.
        requests, failed: a long load's lie on the disk and are made anew whenever they are gone
            through.
    """

    window_s: tuple[float, float]
    requests: Iterable[RequestRecord]
    failed: Iterable[FailedRequest]
    load: LoadRecord
    reconciled: list[Reconciled]


@runtime_checkable
class LoadSession(Told, Protocol):
    """A server that is sent all prompts of a repeat, several under way at a time."""

    def warm(self, prompts: Sequence["Prompt"], num_requests: int) -> None:
        """Sends so many requests, untimed."""
        ...

    def answer_all(
        self,
        prompts: Sequence["Prompt"],
        *,
        process_id: int,
        repeat: int,
        on_outcome: Callable[[], None],
    ) -> Loaded:
        """Sends every prompt once, in order.

        Args:
            on_outcome: called for every answer and every failure.
        """
        ...

    def machine(self) -> dict[str, Any]:
        """What is known of the machine that answers, by the names of `bench.provenance.machine`."""
        ...

    def note(self) -> dict[str, Any]:
        """What a point's row says of the server, by its columns."""
        ...

    def close(self) -> None:
        """Ends what was started for the session; once is enough."""
        ...


AnySession = Session | LoadSession
