"""Diffusion over autoregressive, three ways: a ratio is no better than what it is divided by."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.claims.claim import Claim
from bench.claims.decomposition import Floors
from bench.claims.judge import Judgement, denominator
from bench.claims.observed import Observed


@dataclass(frozen=True, slots=True)
class Baseline:
    """An autoregressive rate, and the measured diffusion rate over it.

    Attributes:
        kind: published | measured | projected.
        floor_share: of the sibling's own op floor on the claim's device.
    """

    name: str
    kind: str
    tok_per_s: float | None
    floor_share: float | None
    ratio: float | None


def baselines(
    judgement: Judgement,
    points: Sequence[Observed],
    published: float | None,
    floors: Floors | None,
    sibling: Floors | None,
) -> list[Baseline]:
    """Over the published sibling, over ours, and over ours at diffusion's share of its own floor.

    Args:
        published: rate of the autoregressive sibling under the claim's conditions, where known.
        floors, sibling: of the judged point's forwards and of the autoregressive sibling's.

    Returns:
        Nothing for claims that are not about a diffusion model's speed, or with no sibling at all.
    """
    claim, point = judgement.claim, judgement.point
    rate = None if point is None else point.value(claim.metric)
    if point is None or not rate or not claim.is_speed or claim.conditions.decoding != "diffusion":
        return []
    own = denominator(claim, point, points)
    measured = None if own is None else own.value(claim.metric)
    equal = None
    if floors is not None and sibling is not None:
        equal = sibling.rate(sibling.op_ms) * rate / floors.rate(floors.op_ms)

    def baseline(name: str, kind: str, value: float | None) -> Baseline:
        share = None
        if value and sibling is not None:
            share = sibling.op_ms / sibling.forward_ms(value)
        return Baseline(name, kind, value, share, rate / value if value else None)

    found = [
        baseline("the published autoregressive figure", "published", published),
        baseline("our autoregressive sibling, this engine", "measured", measured),
        baseline("the sibling at diffusion's share of its floor", "projected", equal),
    ]
    return found if any(each.ratio is not None for each in found) else []


def published_sibling(claim: Claim, claims: Sequence[Claim]) -> float | None:
    """The published rate of the same device's and precision's autoregressive model."""
    own = claim.conditions
    found = [
        other.value
        for other in claims
        if other.is_speed
        and other.metric == claim.metric
        and other.conditions.decoding == "autoregressive"
        and other.conditions.drafter == "none"
        and (other.conditions.device, other.conditions.precision, other.conditions.batch_size)
        == (own.device, own.precision, own.batch_size)
    ]
    return found[0] if found else None
