"""A run judged by a claim: the fitting point, the condition diff, the interval, the verdict."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.claims.claim import Claim
from bench.claims.observed import Observed, between_processes
from bench.claims.verdict import Outcome, outcome, why
from bench.claims.words import told, unit_of
from bench.later import EXACT
from bench.stats import Interval

_NOT_STATED = "not stated"
_UNKNOWN = "unknown"
_SHARED = (
    "device",
    "precision",
    "batch_size",
    "workload",
    "prompt_tokens",
    "max_new_tokens",
    "eos_policy",
)
"""Conditions in which both points of a ratio agree."""
_EXACT = {key.rpartition(".")[2]: value for key, value in EXACT.items()}
"""Columns of `points`; no published figure is of any other value."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One condition, published and actual.

    Attributes:
        state: same | different | unknown (not stated, or not known of the run).
        blocking: whether a difference takes the verdict away.
    """

    name: str
    published: str
    actual: str
    state: str
    blocking: bool

    @property
    def blocks(self) -> bool:
        """A stated condition that is not met, or of which the run does not tell whether it is."""
        return self.blocking and self.published != _NOT_STATED and self.state != "same"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a run says of a claim, and why.

    Attributes:
        point: the one that was judged, None where the run has none.
        below: the point its figure is divided by, for a claim about a ratio.
        value, interval: of the claim's metric, or of the ratio it is about.
        reasons: what stands in the way of a verdict, or what makes it what it is.
        alike: other points that meet the claim's conditions as well.
    """

    claim: Claim
    outcome: Outcome
    point: Observed | None
    below: Observed | None
    value: float | None
    interval: Interval
    num_cases: int
    conditions: tuple[Difference, ...]
    reasons: tuple[str, ...]
    alike: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A point, and everything that keeps it from a verdict."""

    point: Observed
    below: Observed | None
    conditions: tuple[Difference, ...]
    obstacles: tuple[str, ...]

    def distance(self, claim: Claim) -> tuple[bool, int, int]:
        """How far from the claim; the largest of equally near points counts."""
        other_decoding = self.point.conditions["decoding"] != claim.conditions.decoding
        return other_decoding, len(self.obstacles), -self.point.num_cases(claim.metric)


def judge(claim: Claim, points: Sequence[Observed]) -> Judgement:
    """The verdict by the point that least keeps from one."""
    if not points:
        reason = "the run has no finished point"
        return Judgement(
            claim, Outcome.NOT_COMPARABLE, None, None, None, None, 0, (), (reason,), ()
        )
    candidates = [_candidate(claim, point, points) for point in points]
    found = min(candidates, key=lambda each: each.distance(claim))
    point, below = found.point, found.below
    value, interval = _figure(claim, point, below)
    cases = [p.num_cases(claim.metric) for p in (point, below) if p is not None]
    if found.obstacles:
        result, reasons = Outcome.NOT_COMPARABLE, found.obstacles
    elif min(cases) < claim.min_requests:
        result = Outcome.INSUFFICIENT
        reasons = (f"n = {min(cases)}; the claim needs at least {claim.min_requests}",)
    elif value is None or interval is None:
        result = Outcome.INSUFFICIENT
        reasons = ("the metric has no interval: too few processes or requests to bound it",)
    else:
        result = outcome(claim, interval)
        shown, within = told(value, interval)
        said = f"{shown}{unit_of(claim.unit, is_ratio=claim.over is not None)} (95 %: {within})"
        reasons = (f"{said} by this engine ({point.engine}): {why(claim, result)}",)
    alike = tuple(
        each.point.point_id for each in candidates if each is not found and not each.obstacles
    )
    return Judgement(
        claim, result, point, below, value, interval, min(cases), found.conditions, reasons, alike
    )


def conditions(claim: Claim, point: Observed) -> tuple[Difference, ...]:
    """Every condition, published against actual: the blocking ones, then what is disclosed."""
    published: Mapping[str, Any] = asdict(claim.conditions)
    blocking = [
        _difference(name, published[name], actual, blocking=True)
        for name, actual in point.conditions.items()
        if name != "steps" or claim.conditions.decoding == "diffusion"
    ]
    has_metric = point.value(claim.metric) is not None
    metric = _difference(
        "metric", claim.metric, claim.metric if has_metric else None, blocking=True
    )
    changed = [
        _difference(name, exact, point.row[name], blocking=True)
        for name, exact in _EXACT.items()
        if point.row.get(name) not in (None, exact)
    ]
    disclosed = [
        _difference(name, claim.disclosed.get(name), actual, blocking=False)
        for name, actual in point.disclosed.items()
    ]
    return (*blocking, metric, *changed, *disclosed)


def denominator(
    claim: Claim, point: Observed, points: Sequence[Observed], *, drafter: str = "none"
) -> Observed | None:
    """The valid autoregressive (or whatever the claim divides by) point under like conditions."""
    decoding = "autoregressive" if claim.over is None else claim.over.decoding
    model = None if claim.over is None else claim.over.model
    found = [
        other
        for other in points
        if other is not point
        and other.conditions["decoding"] == decoding
        and other.conditions["drafter"] == drafter
        and (model is None or _same("model", model, other.conditions["model"]))
        and all(other.conditions[name] == point.conditions[name] for name in _SHARED)
        and other.valid
        and other.value(claim.metric)
    ]
    return max(found, key=lambda other: other.num_cases(claim.metric), default=None)


def ratio_of(
    top: float, top_interval: Interval, bottom: float, bottom_interval: Interval
) -> Interval:
    """The interval of a ratio of two independent figures: their widths in log add in quadrature.

    Returns:
        None where either has no interval or is not positive.
    """
    if top_interval is None or bottom_interval is None:
        return None
    limits = (*top_interval, *bottom_interval)
    if min(limits) <= 0:
        return None
    centre = math.log(top / bottom)
    below = math.hypot(math.log(top / limits[0]), math.log(limits[3] / bottom))
    above = math.hypot(math.log(limits[1] / top), math.log(bottom / limits[2]))
    return math.exp(centre - below), math.exp(centre + above)


def figure_under(metric: str, point: Observed, below: Observed | None) -> float | None:
    """A point's figure under a definition, over the other point's where there is one."""
    value = point.value(metric)
    if below is None or value is None:
        return value
    base = below.value(metric)
    return value / base if base else None


def interval_under(metric: str, point: Observed, below: Observed | None) -> Interval:
    """The interval of `figure_under`.

    A ratio is taken process by process where both points ran in the same ones, block by block;
    else as one of independent figures.
    """
    interval = point.interval(metric)
    if below is None:
        return interval
    top, bottom = point.by_process(metric), below.by_process(metric)
    if top is not None and bottom is not None and len(top) > 1 and top.index.equals(bottom.index):
        return between_processes(top / bottom)
    value, base = point.value(metric), below.value(metric)
    return ratio_of(value, interval, base, below.interval(metric)) if value and base else None


def _figure(claim: Claim, point: Observed, below: Observed | None) -> tuple[float | None, Interval]:
    if claim.over is not None and below is None:
        return None, None
    metric = claim.metric
    return figure_under(metric, point, below), interval_under(metric, point, below)


def _candidate(claim: Claim, point: Observed, points: Sequence[Observed]) -> _Candidate:
    found = conditions(claim, point)
    obstacles = [_obstacle(difference) for difference in found if difference.blocks]
    below = None
    if claim.over is not None:
        drafter = claim.over.drafter
        below = denominator(claim, point, points, drafter=drafter)
        if below is None:
            drafting = "" if drafter == "none" else f" with drafter {drafter}"
            obstacles.append(
                f"denominator: the run has no valid {claim.over.decoding} point{drafting} like it"
            )
    judged = [point] if below is None else [point, below]
    if claim.depends_on_content and any(p.dummy for p in judged):
        obstacles.append("weights are random, and the claim depends on what they would write")
    if any(p.simulated for p in judged) and claim.conditions.device != "simulated":
        obstacles.append("no model ran: the point is a simulation")
    if not point.valid:
        obstacles.append(f"the point is invalid: {point.row.get('validity_reason')}")
    return _Candidate(point, below, found, tuple(obstacles))


def _difference(name: str, published: Any, actual: Any, *, blocking: bool) -> Difference:
    if published is None or actual is None:
        state = "unknown"
    else:
        state = "same" if _same(name, published, actual) else "different"
    return Difference(
        name,
        _NOT_STATED if published is None else str(published),
        _UNKNOWN if actual is None else str(actual),
        state,
        blocking,
    )


def _same(name: str, published: Any, actual: Any) -> bool:
    if name == "model" and actual is not None:
        wanted, found = str(published).lower(), str(actual).lower()
        return found == wanted or found.startswith(f"{wanted}-")
    if name == "device":
        return str(published).lower() == str(actual).lower()
    return bool(published == actual)


def _obstacle(difference: Difference) -> str:
    return f"{difference.name}: published {difference.published}, here {difference.actual}"
