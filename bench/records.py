"""What one measured run leaves behind, before it becomes tables: plain data, no torch.

The runner fills these from the model's events; `bench.metrics` and `bench.tables` read them. Arrays
of a canvas hold the row's own active steps only.

Legend: T steps, L canvas positions.
"""

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class StepRecord:
    """One forward. Times of a batched forward belong to the batch; every row of it carries them."""

    phase: str  # prefill | denoise | commit | decode
    canvas_index: int
    step: int  # from 1 within the canvas
    device_ms: float
    accepted_slots: int | None = None
    mean_entropy_nat: float | None = None
    host_ms: float | None = None  # the same forward on the host's clock


@dataclass(frozen=True, slots=True)
class CanvasRecord:
    """One finished canvas of one request (diffusion only).

    Attributes:
        tokens: delivered ids, the first EOS included; slots = tokens + the three ledger fields.
        slots: every position as denoised, [L].
        candidate, accepted, argmax, entropy_nat: [T, L], or None when the trace was `counts`.
        delivered_s: host clock when the canvas was in hand, seconds since the request began.
    """

    canvas_index: int
    steps: int
    stop_reason: str  # converged | cap | forced
    tokens: np.ndarray
    slots: np.ndarray
    after_eos: int
    over_limit: int
    row_ended: int
    delivered_s: float
    candidate: np.ndarray | None = None
    accepted: np.ndarray | None = None
    argmax: np.ndarray | None = None
    entropy_nat: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class ExpertRecord:
    """How many distinct experts one layer touched in one forward of a batch."""

    batch_index: int
    phase: str  # prefill | denoise | commit | decode
    canvas_index: int
    step: int
    layer: int
    distinct_experts: int


@dataclass(slots=True)
class RequestRecord:
    """One prompt answered once.

    Attributes:
        deliveries: (seconds since the request began, tokens brought) of every delivery.
        text: what a reader sees of the answer; reasoning in a thought channel is no part of it.
        reasoning_tokens, visible_tokens: the delivered tokens in a thought channel, its markers
            included, and all others; None where the model has no such channel.
        well_formed: whether the text has the form of an answer, right or wrong; None without one.
        scores_finite: whether every autoregressive token came from finite scores; None where the
            backend does not tell, and for canvases, whose entropies do.
        wall_s: from handing over the prompt to the last text in hand.
        active_row_steps, waiting_row_steps, ended_row_steps: what this row did in the batch's
            denoise forwards: denoised, waited for a slower row, or was already over.
    """

    request_id: int
    process_id: int
    repeat: int
    task: str
    prompt: str
    answer: str | None
    text: str
    prompt_tokens: int
    delivered_tokens: int
    wall_s: float
    prefill_s: float
    finish_reason: str  # eos | length
    correct: bool | None
    deliveries: list[tuple[float, int]]
    reasoning_tokens: int | None = None
    visible_tokens: int | None = None
    well_formed: bool | None = None
    scores_finite: bool | None = None
    batch_size: int = 1
    canvases: list[CanvasRecord] = field(default_factory=list)
    steps: list[StepRecord] = field(default_factory=list)
    active_row_steps: int = 0
    waiting_row_steps: int = 0
    ended_row_steps: int = 0


@dataclass(frozen=True, slots=True)
class RepairRecord:
    """A right canvas with some content tokens replaced by random ones, denoised again.

    Attributes:
        corrupted: content positions whose token was changed; of these `repaired` came back right.
        untouched: the other content positions; of these `preserved` stayed right.
    """

    request_id: int
    task: str
    corrupted: int
    repaired: int
    untouched: int
    preserved: int
    steps: int
    correct: bool
