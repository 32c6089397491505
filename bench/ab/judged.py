"""The comparison of two arms: processes by their pairs, contents by prompt, causes as in `compare`.

The arms' run folders are compared as any two runs are, but for the verdicts on speeds and memory:
here they are of pairs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from bench.ab.contents import changed_lines
from bench.ab.measuring import Pairs, verdict_so_far
from bench.comparison import METRICS, Comparison, Judged, Metric, Side
from bench.comparison.environment import differences, environment
from bench.comparison.judge import incomparable, judge
from bench.comparison.matching import Match, matches
from bench.comparison.result import ComparedPoint
from bench.comparison.runs import compared_point, controlled
from bench.stats import GoOn, detectable_difference
from bench.store import Run, open_run

_ARMS = ("baseline", "candidate")


def compared(
    folders: Mapping[str, Path],
    metrics: Sequence[Metric],
    bound: float,
    pairs: Pairs,
    *,
    contents: Path | None,
    stopped: str,
    same_code: bool,
) -> Comparison:
    """Candidate against baseline; INSUFFICIENT_DATA without a point where an arm has nothing.

    Args:
        folders: the arms' run folders, by name.
        contents: holds a run of each by its name, of more prompts, from which contents are judged;
            None where the pairs' own prompts are all.
        stopped: why no more pairs were measured.
        same_code: both arms are one commit without changes.

    Raises:
        ValueError: a run's tables are damaged.
    """
    bounds = dict.fromkeys((metric.name for metric in metrics), bound)
    runs = [open_run(folders[arm]) for arm in _ARMS]
    sides = [_side(run) for run in runs]
    whole = Comparison(
        baseline=sides[0],
        candidate=sides[1],
        environment=differences(sides[0].environment, sides[1].environment),
        points=(),
        alone=(),
        family=0,
    )
    if any(run.table("points") is None for run in runs):
        return whole
    found, *alone = matches(runs[0], runs[1])
    answered = runs if contents is None else [open_run(contents / arm) for arm in _ARMS]
    more = {own.candidate.point_id: own for own in matches(answered[0], answered[1])[0]}
    changed = changed_lines(answered[0], answered[1])
    judged = [
        [
            _paired(each, match, pairs, bound, stopped)
            for each in _judged(match, more.get(match.candidate.point_id), metrics, bounds)
        ]
        for match in found
    ]
    family, judged = controlled(judged)
    return replace(
        whole,
        points=tuple(
            _with_notes(compared_point(match, own, same_code), changed)
            for match, own in zip(found, judged, strict=True)
        ),
        alone=tuple((arm, name) for arm, names in zip(_ARMS, alone, strict=True) for name in names),
        family=family,
    )


def _side(run: Run) -> Side:
    points = run.table("points")
    facts = environment(run.info, pd.DataFrame() if points is None else points)
    return Side(str(run.path), str(run.info["created"]), facts)


def _judged(
    match: Match, more: Match | None, metrics: Sequence[Metric], bounds: Mapping[str, float]
) -> list[Judged]:
    """Metrics of processes from the pairs' runs, those of contents from the larger ones."""
    contents = [metric for metric in metrics if not metric.by_process]
    found = {each.metric.name: each for each in judge(match, metrics, bounds)}
    if more is not None:
        found |= {each.metric.name: each for each in judge(more, contents, bounds)}
    return [found[metric.name] for metric in metrics if metric.name in found]


def _with_notes(point: ComparedPoint, changed: Mapping[str, list[str]]) -> ComparedPoint:
    return replace(point, notes=(*point.notes, *changed.get(point.point_id, ())))


def _paired(judged: Judged, match: Match, pairs: Pairs, bound: float, stopped: str) -> Judged:
    """The metric with the verdict of its pairs, where processes of both arms have it."""
    point_id, metric = match.candidate.point_id, METRICS[judged.metric.name]
    if not metric.by_process or incomparable(match) or not pairs.has(point_id, metric.name):
        return judged
    found = verdict_so_far(pairs, point_id, metric, bound)
    if isinstance(found, GoOn):
        found = replace(found.so_far, reason=f"{found.so_far.reason}; {stopped}")
    used = pairs.log_ratios(point_id, metric.name)[: found.n]
    smallest = detectable_difference(used, level=found.level)
    detectable = None if smallest is None else float(np.expm1(smallest))
    return replace(judged, metric=metric, verdict=found, detectable=detectable)
