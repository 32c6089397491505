"""Candidate against baseline: environments, points, verdicts, causes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.comparison.causes import attributed
from bench.comparison.environment import differences, environment
from bench.comparison.judge import judge, notes
from bench.comparison.matching import Match, matches
from bench.comparison.metrics import Metric, chosen
from bench.comparison.result import ComparedPoint, Comparison, Judged, Side
from bench.comparison.sources import opened
from bench.preregistration import State, standing
from bench.stats import DEFAULT_BOUND, control_false_discoveries
from bench.store import Run


def compare(
    a: str | Path,
    b: str | Path,
    *,
    metrics: Sequence[str] | None = None,
    points: Sequence[str] | None = None,
    bound: float = DEFAULT_BOUND,
) -> Comparison:
    """Holds run `b` (the candidate) against run `a` (the baseline).

    Args:
        a, b: run folders, or REV:PATH for one stored in a git revision.
        metrics: names of `bench.comparison.METRICS`; all by default.
        points: point ids of the candidate; all by default.
        bound: change that matters: relative, or in shares for an accuracy.

    Returns:
        a comparison; without a common point it has none, and is INSUFFICIENT_DATA.

    Raises:
        ValueError: a run is missing, damaged or of a future version, an unknown metric or point, or
            a bound of 0 or less.
    """
    if bound <= 0:
        raise ValueError(f"bound {bound:g} must be above 0")
    wanted = chosen(list(metrics) if metrics is not None else None)
    found = compare_with(a, b, wanted, dict.fromkeys((m.name for m in wanted), bound), points)
    known = {point.point_id for point in found.points} | {name for _, name in found.alone}
    for name in points or ():
        if name not in known:
            raise ValueError(f"point {name!r} is in neither run")
    return found


def compare_with(
    a: str | Path,
    b: str | Path,
    metrics: Sequence[Metric],
    bounds: dict[str, float],
    points: Sequence[str] | None = None,
) -> Comparison:
    """As `compare`, with a bound for each metric by name, and no word of points nobody has."""
    with opened(a) as baseline, opened(b) as candidate:
        found, *alone = matches(baseline, candidate)
        if points is not None:
            found = [match for match in found if match.candidate.point_id in points]
            alone = [[name for name in names if name in points] for names in alone]
        sides = (
            _side(baseline, str(a), {match.baseline.point_id for match in found}),
            _side(candidate, str(b), {match.candidate.point_id for match in found}),
        )
        differing = differences(sides[0].environment, sides[1].environment)
        same_code = not differing and _known_code(sides[0])
        judged = [judge(match, metrics, bounds) for match in found]
        family, judged = controlled(judged)
        return Comparison(
            baseline=sides[0],
            candidate=sides[1],
            environment=differing,
            points=tuple(
                compared_point(match, own, same_code)
                for match, own in zip(found, judged, strict=True)
            ),
            alone=tuple(
                (run, name)
                for run, names in zip(("baseline", "candidate"), alone, strict=True)
                for name in names
            ),
            family=family,
        )


def controlled(judged: list[list[Judged]]) -> tuple[int, list[list[Judged]]]:
    """Verdicts with their p adjusted over all metrics and points, and how many tests there were."""
    named = {
        f"{place}/{each.metric.name}": each.verdict
        for place, own in enumerate(judged)
        for each in own
    }
    controlled = control_false_discoveries(named)
    return sum(verdict.p_value is not None for verdict in named.values()), [
        [replace(each, verdict=controlled[f"{place}/{each.metric.name}"]) for each in own]
        for place, own in enumerate(judged)
    ]


def compared_point(match: Match, judged: Sequence[Judged], same_code: bool) -> ComparedPoint:
    """A point with its verdicts, what explains them, and what must be known before quoting them."""
    attribution, causes = attributed(match.baseline, match.candidate)
    return ComparedPoint(
        point_id=match.candidate.point_id,
        config=match.config,
        judged=tuple(judged),
        attribution=attribution,
        causes=causes,
        notes=tuple(notes(match, judged, same_code and not match.config)),
    )


def _known_code(side: Side) -> bool:
    facts = side.environment
    return facts["commit"] is not None and facts["uncommitted changes"] == "False"


def _side(run: Run, name: str, points: set[str]) -> Side:
    table = run.points
    notes = []
    if run.info.get("finished") is False or run.info.get("interrupted"):
        notes.append("the run is unfinished")
    kept = standing(run.info)
    if kept.state is State.CHANGED:
        notes.append(f"its preregistration was {kept.state}: {kept.what}")
    created = run.info.get("created")
    return Side(
        name=name,
        created=None if created is None else str(created),
        environment=environment(run.info, table[table["point_id"].isin(points)]),
        notes=tuple(notes),
    )
