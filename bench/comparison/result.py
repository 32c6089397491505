"""What a comparison found: plain values, a status and an exit code, and the same as JSON."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from bench.comparison.environment import Difference
from bench.comparison.metrics import Metric
from bench.stats import Attribution, Cause, Status, Verdict


class ExitCode(IntEnum):
    """Of every verb with a verdict; 2 is bad input's."""

    POSITIVE = 0
    NEGATIVE = 1
    UNDECIDED = 3


_UNDECIDED = {Status.AMBIGUOUS, Status.INSUFFICIENT_DATA}
_CHANGES = {Status.REGRESSION, Status.IMPROVEMENT, Status.CHANGED}
_GRAVEST_FIRST = (
    Status.REGRESSION,
    Status.INSUFFICIENT_DATA,
    Status.AMBIGUOUS,
    Status.CHANGED,
    Status.IMPROVEMENT,
    Status.EQUIVALENT,
)


@dataclass(frozen=True, slots=True)
class Judged:
    """A metric of a point.

    Attributes:
        baseline, candidate: its values, in its unit.
        detectable: the smallest effect that the data could have told from none with power 0.8, in
            the unit of the effect; None where it is unknown or the values are equal.
    """

    metric: Metric
    baseline: float | None
    candidate: float | None
    verdict: Verdict
    detectable: float | None


@dataclass(frozen=True, slots=True)
class ComparedPoint:
    """A point that both runs measured.

    Attributes:
        config: keys in which its configurations differ; empty where their hashes are the same.
        judged: its metrics; those that it does not have are missing.
        attribution, causes: of the change of delivered tokens per second; None and empty where the
            tables cannot tell.
        notes: what limits the numbers, a sentence each.
    """

    point_id: str
    config: tuple[Difference, ...]
    judged: tuple[Judged, ...]
    attribution: Attribution | None
    causes: tuple[Cause, ...]
    notes: tuple[str, ...] = ()

    @property
    def cause_lines(self) -> tuple[str, ...]:
        """The causes as text; called causes only where the point has a verdict of a change.

        Elsewhere a time may have moved by noise. What is counted, forwards and tokens, has none.
        """
        judged = any(judged.verdict.status in _CHANGES for judged in self.judged)

        def word(cause: Cause) -> str:
            if judged:
                return "cause"
            counted = cause.name == "delivered_tokens" or cause.name.endswith("_forwards")
            return "changed" if counted else "moved, but not told from noise"

        return tuple(f"{word(cause)}: {cause.text}" for cause in self.causes)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two runs: what was given, when it was made, and what limits it."""

    name: str
    created: str | None
    environment: dict[str, str | None]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Candidate against baseline.

    Attributes:
        environment: facts in which the runs differ.
        alone: points that only one run has, as (run, point).
        family: how many tests were judged together (Benjamini-Hochberg).
    """

    baseline: Side
    candidate: Side
    environment: tuple[Difference, ...]
    points: tuple[ComparedPoint, ...]
    alone: tuple[tuple[str, str], ...]
    family: int

    @property
    def status(self) -> Status:
        """The gravest of all metrics that have a better direction."""
        found = [
            judged.verdict.status
            for point in self.points
            for judged in point.judged
            if judged.metric.better is not None
        ]
        return gravest(found)

    @property
    def exit_code(self) -> ExitCode:
        return exit_code(self.status)


def gravest(statuses: Iterable[Status]) -> Status:
    """A regression above all, then what could not be decided; INSUFFICIENT_DATA of nothing."""
    found = set(statuses)
    return next((s for s in _GRAVEST_FIRST if s in found), Status.INSUFFICIENT_DATA)


def exit_code(status: Status) -> ExitCode:
    """0 where nothing got worse, 1 where something did, 3 where that cannot be said."""
    if status is Status.REGRESSION:
        return ExitCode.NEGATIVE
    return ExitCode.UNDECIDED if status in _UNDECIDED else ExitCode.POSITIVE


def as_json(found: Comparison) -> dict[str, Any]:
    """The comparison in plain types; unknown is null, effects are shares (0.02 is 2 %)."""
    return {
        "status": found.status.value,
        "exit_code": int(found.exit_code),
        "baseline": _side(found.baseline),
        "candidate": _side(found.candidate),
        "environment": [_difference(each) for each in found.environment],
        "points": [_point(point) for point in found.points],
        "alone": [{"run": run, "point_id": point} for run, point in found.alone],
        "family": found.family,
    }


def _side(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "created": side.created,
        "environment": side.environment,
        "notes": list(side.notes),
    }


def _difference(found: Difference) -> dict[str, Any]:
    return {"name": found.name, "baseline": found.baseline, "candidate": found.candidate}


def _point(point: ComparedPoint) -> dict[str, Any]:
    attribution = point.attribution
    return {
        "point_id": point.point_id,
        "config_differences": [_difference(each) for each in point.config],
        "metrics": {judged.metric.name: judged_json(judged) for judged in point.judged},
        "attribution": None
        if attribution is None
        else {
            "log_change": attribution.change,
            "terms": attribution.terms,
            "details": attribution.details,
            "causes": [cause.name for cause in point.causes],
        },
        "notes": list(point.notes),
    }


def judged_json(judged: Judged) -> dict[str, Any]:
    """A metric with its verdict in plain types."""
    verdict = judged.verdict
    return {
        "status": verdict.status.value,
        "baseline": judged.baseline,
        "candidate": judged.candidate,
        "unit": judged.metric.unit,
        "effect": _finite(verdict.effect),
        "effect_is": "relative" if judged.metric.relative else "difference",
        "interval": None if verdict.interval is None else list(verdict.interval),
        "test": verdict.test.value,
        "p_value": verdict.p_value,
        "n": verdict.n,
        "n_baseline": verdict.n_baseline,
        "bound": verdict.bound,
        "detectable": _finite(judged.detectable),
        "reason": verdict.reason,
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
