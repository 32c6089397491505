"""Which deliveries are canvases, and where their slots went.

A server has no word for a canvas. It is told by tokens where the server counted every chunk:
canvas k is in hand with the chunk that brings token (k + 1) x C, or the last one. Where only the
text could be counted, a chunk is taken for a canvas as long as it holds no more tokens than one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bench.backends.openai.events import Columns
from bench.backends.openai.tokens import Delivery, Source, TokenCount


class Canvas(NamedTuple):
    """A canvas in hand; `tokens` are its own, those over the limit included."""

    at_s: float
    tokens: int


@dataclass(frozen=True, slots=True)
class CanvasLedger:
    """An answer in canvases: slots = delivered + after_eos + over_limit.

    Attributes:
        canvases: None where they cannot be told; `reason` then says why.
        after_eos, over_limit: to one of them go the slots of the last canvas without a token that
            the server showed: after the EOS where one ended the answer, over the limit otherwise.
    """

    canvases: list[Canvas] | None
    reason: str | None
    slots: int | None = None
    after_eos: int | None = None
    over_limit: int | None = None


def in_canvases(count: TokenCount, canvas_length: int, *, ended: bool) -> CanvasLedger:
    """Cuts an answer into canvases.

    Args:
        ended: by an EOS, not by the limit.
    """
    if count.by_chunk is None or count.delivered is None:
        return CanvasLedger(None, "tokens_by_chunk_unknown")
    counted = [(delivery.at_s, delivery.tokens or 0) for delivery in count.deliveries]
    if count.by_chunk in (Source.RUNNING_USAGE, Source.TOKEN_IDS):
        canvases = _by_tokens(count.deliveries, canvas_length)
    elif any(tokens > canvas_length for _, tokens in counted):
        return CanvasLedger(None, "a_chunk_holds_more_than_a_canvas")
    else:
        canvases = Columns(Canvas(at_s, tokens) for at_s, tokens in counted if tokens)
    slots = len(canvases) * canvas_length
    rest = slots - count.delivered - count.over_limit
    if rest < 0:
        return CanvasLedger(None, "more_tokens_than_slots")
    return CanvasLedger(
        canvases=canvases,
        reason=None,
        slots=slots,
        after_eos=rest if ended else 0,
        over_limit=count.over_limit + (0 if ended else rest),
    )


def _by_tokens(deliveries: Sequence[Delivery], canvas_length: int) -> list[Canvas]:
    """Canvases by their tokens; a chunk may hold several, or one may come in several chunks."""
    canvases = Columns[Canvas]()
    filled, at_s = 0, 0.0
    for delivery in deliveries:
        filled, at_s = filled + (delivery.tokens or 0), delivery.at_s
        while filled >= canvas_length:
            canvases.append(Canvas(at_s, canvas_length))
            filled -= canvas_length
    if filled:
        canvases.append(Canvas(at_s, filled))
    return canvases
