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

    phase: str  # prefill | denoise | commit | fused | decode
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
    steps: int | None  # None where the backend does not tell
    stop_reason: str  # converged | cap | forced, unknown where steps are
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
    phase: str  # prefill | denoise | commit | fused | decode
    canvas_index: int
    step: int
    layer: int
    distinct_experts: int


@dataclass(slots=True)
class RequestRecord:
    """One prompt answered once.

    Attributes:
        deliveries: (seconds since the request began, tokens brought) of every delivery; of its
            tokens None where nobody could tell.
        prefill_s: None where the backend does not tell.
        sent_s: since the timed window began; None where requests do not overlap.
        canvases_unknown: why an answer of canvases cannot be cut into them; None where it can.
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
    prefill_s: float | None
    finish_reason: str  # eos | length
    correct: bool | None
    deliveries: list[tuple[float, int | None]]
    sent_s: float | None = None
    canvases_unknown: str | None = None
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


@dataclass(slots=True)
class FailedRequest:
    """A request that a server did not answer.

    Attributes:
        sent_s: since the timed window began.
        ended_s: from sending to the failure.
        failure: reason code (`bench.backends.openai.events.Failure`).
        failure_detail: what the server or the system said, one line.
        text: what came before.
    """

    request_id: int
    process_id: int
    repeat: int
    task: str
    prompt: str
    sent_s: float
    ended_s: float
    failure: str
    failure_detail: str
    text: str


@dataclass(frozen=True, slots=True)
class LoadRecord:
    """A repeat of a load as a whole.

    Attributes:
        connections: requests under way at a time; None where they were sent at times of their own.
        rate_per_s: of a Poisson process; None where there is none.
        window_s: seconds from the first request sent to the end of the last.
        late_s: the most by which a request was sent after its time; None in a closed loop.
        canvases, tokens: of all answers, as the client counted them; None where it could not.
        server_canvases, server_denoise_steps, server_tokens: by the server's own counters, of all
            its clients; None where they were not read or do not tell.
        server_reason: why they do not tell.
        contradictions: what the counters hold against the run, joined by commas; None for nothing.
    """

    process_id: int
    repeat: int
    connections: int | None
    rate_per_s: float | None
    window_s: float
    num_answers: int
    num_failures: int
    late_s: float | None
    canvases: int | None
    tokens: int | None
    server_canvases: int | None
    server_denoise_steps: int | None
    server_tokens: int | None
    server_reason: str | None
    contradictions: str | None


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What another tool would have printed for a repeat, under its own name for it."""

    process_id: int
    repeat: int
    tool: str
    name: str
    value: float | None
