"""What a simulation replays: prompts, and for each the canvases or tokens that answered it.

Token ids are the simulation's own: a tokenizer is not part of a run's tables, so texts are cut into
as many pieces as tokens were delivered and every piece gets an id.

Legend: T steps, L canvas positions.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from bench.backends import Forward
from bench.phases import FUSED

PAD, EOS, BOS = range(3)
_SPECIAL = ("<pad>", "<eos>", "<bos>")
_WRONG = "\N{REPLACEMENT CHARACTER}"


class Vocabulary:
    """Pieces of text and their ids, which come into being as they are asked for."""

    def __init__(self) -> None:
        self._shown = list(_SPECIAL)
        self._decoded = [""] * len(_SPECIAL)
        self._ids: dict[tuple[str, object], int] = {}

    def __len__(self) -> int:
        return len(self._shown)

    def piece(self, text: str) -> int:
        """The id of a piece of text; decoding gives it back."""
        return self._id(("piece", text), text, text)

    def wrong(self, index: int) -> int:
        """One of a family of tokens that are in no right answer."""
        return self._id(("wrong", index), f"<wrong {index}>", _WRONG)

    def foreign(self, token: int, text: str | None) -> int:
        """A token of the recorded model, whose text may be unknown or special."""
        shown = f"<{token}>" if text is None else text
        special = len(shown) > 2 and shown.startswith("<") and shown.endswith(">")
        return self._id(("foreign", token), shown, "" if special else shown)

    def pieces(self, text: str, count: int) -> list[int]:
        """Exactly `count` ids whose texts join to `text`; the last are blank if it is shorter.

        Raises:
            ValueError: a text without a token to hold it.
        """
        if text and not count:
            raise ValueError(f"the text {text!r} was delivered in 0 tokens")
        parts = min(count, len(text))
        cuts = [i * len(text) // parts for i in range(parts + 1)] if parts else [0]
        found = [self.piece(text[a:b]) for a, b in pairwise(cuts)]
        return found + [self.piece("")] * (count - parts)

    def shown(self, token: int) -> str:
        """A token's text, special tokens included."""
        return self._shown[token]

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of tokens, without special ones."""
        return "".join(self._decoded[int(token)] for token in tokens)

    def _id(self, key: tuple[str, object], shown: str, decoded: str) -> int:
        if key not in self._ids:
            self._ids[key] = len(self._shown)
            self._shown.append(shown)
            self._decoded.append(decoded)
        return self._ids[key]


@dataclass(frozen=True, slots=True)
class RecordedCanvas:
    """One canvas as its row denoised it; the last argmax is what was delivered.

    Attributes:
        stop_reason: converged | cap | forced.
        accepted_slots, mean_entropy_nat: [T].
        candidate, accepted, argmax, entropy_nat: [T, L].
    """

    stop_reason: str
    accepted_slots: np.ndarray
    mean_entropy_nat: np.ndarray
    candidate: np.ndarray
    accepted: np.ndarray
    argmax: np.ndarray
    entropy_nat: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.argmax)

    @property
    def slots(self) -> list[int]:
        """Every position as denoised."""
        return [int(token) for token in self.argmax[-1]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long the forwards of one batch took.

    Attributes:
        forward_s: seconds by (phase, block, step).
        delivery_s: by block, from its last forward to its text in hand.
    """

    forward_s: Mapping[tuple[str, int, int], float]
    delivery_s: Sequence[float]


@dataclass(frozen=True, slots=True)
class RecordedRepair:
    """The repair test's outcome on a request: tokens left corrupted, others lost, steps taken."""

    left: int
    lost: int
    steps: int


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One prompt and its answer.

    Attributes:
        prompt_ids: the prompt as token ids; they join to its text.
        canvases: the answer's canvases; empty for an autoregressive model.
        tokens: the answer's tokens; empty for a diffusion model.
        paces: by process, one for every time it was answered there; empty when only a phase's
            usual time is known.
        limit: tokens after which this answer is cut, whatever was asked for.
    """

    request_id: int
    task: str
    prompt: str
    answer: str | None
    prompt_ids: tuple[int, ...]
    canvases: tuple[RecordedCanvas, ...] = ()
    tokens: tuple[int, ...] = ()
    paces: Mapping[int, Sequence[Pace]] = field(default_factory=lambda: MappingProxyType({}))
    repair: RecordedRepair | None = None
    limit: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """Everything a `SimulatedSession` plays.

    Attributes:
        max_new_tokens, eos_policy, trace: what the answers were recorded with.
        phase_s: a forward's usual seconds by phase, for those without a recorded time.
        experts: what the forwards of an untimed batch touched, by its first request.
        weight_bytes_per_step: None where nothing was recorded.
    """

    model: str
    decoding: str
    canvas_length: int | None
    weights: str
    weights_sha256: str | None
    emulated: bool
    max_new_tokens: int
    eos_policy: str
    trace: str
    vocabulary: Vocabulary
    requests: tuple[RecordedRequest, ...]
    phase_s: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    experts: Mapping[int, list[tuple[Forward, list[int]]]] = field(
        default_factory=lambda: MappingProxyType({})
    )
    weight_bytes_per_step: float | None = None

    @property
    def fused_commit(self) -> bool | None:
        """Whether commits were fused with a step; None where both kinds have a time, or neither."""
        separate, fused = (kind in self.phase_s for kind in ("commit", FUSED))
        return None if separate == fused else fused


def prompt_ids(vocabulary: Vocabulary, text: str, count: int) -> tuple[int, ...]:
    """A prompt of `count` token ids, the beginning of the sequence included."""
    return (BOS, *vocabulary.pieces(text, count - 1))


def num_content(slots: Sequence[int], eos_policy: str) -> int:
    """Positions up to and including the first EOS."""
    stops = eos_policy == "stop" and EOS in slots
    return slots.index(EOS) + 1 if stops else len(slots)
