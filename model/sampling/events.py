"""What a generation yields. The loop yields, whoever watches keeps the time.

Legend: B seqs, L canvas, T steps.
"""

from dataclasses import dataclass
from enum import StrEnum

from torch import Tensor


class Phase(StrEnum):
    """What kind of forward a step was.

    `fused` is a canvas's first denoise step that commits the canvas before it; `decode` is one
    autoregressive token for every row.
    """

    PREFILL = "prefill"
    DENOISE = "denoise"
    COMMIT = "commit"
    FUSED = "fused"
    DECODE = "decode"


class StopReason(StrEnum):
    """Why the denoising of a canvas ended."""

    CONVERGED = "converged"
    CAP = "cap"
    FORCED = "forced"


class FinishReason(StrEnum):
    """Why a row ended: an end-of-sequence token or the limit of new tokens."""

    EOS = "eos"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class StepDone:
    """One forward of the whole batch was issued. `step` counts from 1 within its block."""

    phase: Phase
    block: int
    step: int


@dataclass(frozen=True, slots=True)
class CanvasTrace:
    """What happened on a canvas, per step and position, on the host.

    Tensors are [T, B, L] over the batch's T steps; row b's own are the first `steps` of its
    delivery. `accepted_count` and `mean_entropy` ([T, B]) exist at every level, the rest from
    `positions` on, `canvas` (what each step was given) at `full` only.
    """

    accepted_count: Tensor
    mean_entropy: Tensor
    candidate: Tensor | None = None
    accepted: Tensor | None = None
    argmax: Tensor | None = None
    entropy: Tensor | None = None
    canvas: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TokenTrace:
    """The best score of every autoregressive token of a generation [T, B], fp32, on the host.

    A score that is not finite makes all of its row NaN or infinite, and so the best one too.
    """

    top_score: Tensor


@dataclass(frozen=True, slots=True)
class RowDelivery:
    """What one row got of a block, and the ledger of all its slots.

    slots = len(tokens) + after_eos + over_limit, or all of them `row_ended` when the row was over
    before the block began.

    Attributes:
        tokens: delivered token ids, the first EOS included.
        block_tokens: every slot of the block as denoised, before any cut.
        steps: denoise steps this row was active in (1 for an autoregressive token).
        finish_reason: set in the block that ends the row.
    """

    tokens: list[int]
    block_tokens: list[int]
    after_eos: int
    over_limit: int
    row_ended: int
    steps: int
    stop_reason: StopReason | None
    finish_reason: FinishReason | None


@dataclass(frozen=True, slots=True)
class BlockDelivered:
    """A block's text is final and in host memory: a canvas, or one autoregressive token.

    Attributes:
        trace: of the canvas; of all tokens in the last block of an autoregressive generation.
    """

    block: int
    rows: list[RowDelivery]
    trace: CanvasTrace | TokenTrace | None


Event = StepDone | BlockDelivered
