"""One run under every definition that is mistaken for the claim's, beside the published figure."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.claims.judge import Judgement, figure_under, interval_under
from bench.stats import Interval

MEANING = {
    "delivered_tok_per_s": "delivered tokens / wall seconds, prefill included",
    "decode_tok_per_s": "(delivered - first delivery) / (last delivery - first); ratio of sums",
    "decode_tok_per_s_median": "the same for each request; the median request",
    "generation_tok_per_s_excl_prefill": "delivered tokens / (wall seconds - prefill seconds)",
    "slot_tok_per_s": "canvas positions / wall seconds, padding counted",
    "inverse_tpot_tok_per_s": "(delivered - 1) / (last delivery - first): 1/TPOT",
    "tokens_per_forward_denoise": "delivered tokens / denoise forwards",
    "tokens_per_forward_all": "delivered tokens / all forwards, prefill and commits included",
    "slots_per_forward": "canvas positions / denoise forwards",
    "steps_per_canvas_median": "denoise steps of a canvas, the median one",
    "steps_per_canvas_p90": "denoise steps of a canvas, the 90th percentile",
    "accuracy": "right answers / prompts with an answer",
}


@dataclass(frozen=True, slots=True)
class Definition:
    """One definition's figure of a run, beside the published one.

    Attributes:
        ratio: measured over published; None where the definition gives no figure.
        is_claims: whether the claim is about this one.
        is_closest: whether it comes nearest to the published figure.
    """

    metric: str
    meaning: str
    value: float | None
    interval: Interval
    ratio: float | None
    is_claims: bool
    is_closest: bool


def definition_matrix(judgement: Judgement) -> list[Definition]:
    """The claim's own definition first; empty where no point was judged."""
    claim, point, below = judgement.claim, judgement.point, judgement.below
    if point is None or (claim.over is not None and below is None):
        return []
    names = sorted(claim.family, key=lambda name: name != claim.metric)
    values = {name: figure_under(name, point, below) for name in names}
    away = {name: _away(judgement, value) for name, value in values.items() if value}
    nearest = min(away, key=lambda name: abs(away[name] - 1), default=None)
    return [
        Definition(
            name,
            MEANING[name],
            value,
            interval_under(name, point, below),
            away.get(name),
            name == claim.metric,
            name == nearest,
        )
        for name, value in values.items()
    ]


def spread(matrix: Sequence[Definition]) -> float | None:
    """How far the definitions of one run lie apart: largest over smallest."""
    values = [d.value for d in matrix if d.value]
    return max(values) / min(values) if values else None


def _away(judgement: Judgement, value: float) -> float:
    """Measured over published; over the nearest end of a published range, 1 inside of it."""
    claim = judgement.claim
    upper = claim.value if claim.upper is None else claim.upper
    return value / min(max(value, claim.value), upper)
