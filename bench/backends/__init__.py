"""Who runs the model. One protocol; `native` is our own engine, `transformers` the upstream one."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from bench.thought import Thought
from bench.timing import Stopwatch

Backend = Enum("Backend", ["native", "simulated", "transformers"])

Mark = Callable[[], None]
"""Called in the moment of an event: a stopwatch's `mark`."""


def unmarked() -> None:
    """A mark of nobody's."""


@dataclass(kw_only=True, slots=True)
class BackendConfig:
    """Who runs the model; by itself, our own engine."""

    name: Backend = Backend.native


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


class Session(Protocol):
    """A loaded model that answers batches of prompts."""

    @property
    def identity(self) -> Identity: ...

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
