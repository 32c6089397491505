"""Metrics of one point in two runs: values, verdict, and what the data could have told."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from bench.comparison.matching import Match, MeasuredPoint
from bench.comparison.metrics import COMMITS, PEAKS, Metric, process_values, prompt_sums
from bench.comparison.result import Judged
from bench.phases import FUSED, SEPARATE
from bench.stats import (
    LEVEL,
    Better,
    HypothesisTest,
    Status,
    Verdict,
    content_verdict,
    detectable_between_processes,
    unpaired_verdict,
)

_CLOCK_SHARE = 0.005
"""Clocks that differ by less explain no difference that matters."""


def judge(match: Match, metrics: Sequence[Metric], bounds: Mapping[str, float]) -> list[Judged]:
    """Every metric that both runs have of a point.

    Points that are invalid or were asked other prompts are not compared: each of their metrics is
    INSUFFICIENT_DATA with the reason. Contents of random weights are left out.
    """
    why = incomparable(match)
    found = []
    for metric in metrics:
        judged = (_process if metric.by_process else _content)(match, metric, bounds[metric.name])
        if judged is not None and metric.name in COMMITS and len(set(_commits(match))) > 1:
            judged = _of_one_way(judged)
        if judged is not None:
            found.append(judged if why is None else withheld(judged, why))
    return found


def incomparable(match: Match) -> str | None:
    """Why no verdict may be given on a point at all; None where one may."""
    for name, point in (("baseline", match.baseline), ("candidate", match.candidate)):
        if not point.valid:
            return f"the {name} is invalid: {point.known('validity_reason') or 'no reason given'}"
    prompts = [point.known("prompts_sha256") for point in (match.baseline, match.candidate)]
    if prompts[0] != prompts[1]:
        return "the runs were asked other prompts"
    return None


def withheld(judged: Judged, why: str) -> Judged:
    """The metric with its values, and no verdict."""
    found = judged.verdict
    verdict = replace(
        found, status=Status.INSUFFICIENT_DATA, interval=None, p_value=None, reason=why
    )
    return replace(judged, verdict=verdict, detectable=None)


def _of_one_way(judged: Judged) -> Judged:
    """The time of a forward that only one way of committing has: shown, and no verdict hangs on it.

    What the ways cost is in the times of whole answers and canvases, which both have.
    """
    why = f"only commit={COMMITS[judged.metric.name]} has this forward"
    return replace(withheld(judged, why), metric=replace(judged.metric, better=None))


def _commits(match: Match) -> tuple[str | None, str | None]:
    """How canvases are committed, the baseline's and the candidate's; None without canvases.

    Before rows told, every engine that told of its forwards committed in one of their own.
    """

    def of(point: MeasuredPoint) -> str | None:
        told = point.known("commit_mode")
        has_commits = (point.tables["steps"]["phase"] == "commit").any()
        return SEPARATE if told is None and has_commits else told

    return of(match.baseline), of(match.candidate)


def _process(match: Match, metric: Metric, bound: float) -> Judged | None:
    arms = [process_values(metric, point.tables) for point in (match.candidate, match.baseline)]
    values = [
        None if arm is None else _value(point, metric, arm)
        for point, arm in zip((match.candidate, match.baseline), arms, strict=True)
    ]
    if arms[0] is None or arms[1] is None:
        return _one_sided(metric, values, bound)
    return Judged(
        metric,
        values[1],
        values[0],
        unpaired_verdict(arms[0], arms[1], bound, metric.better or Better.LESS),
        detectable_between_processes(np.log(arms[0]), np.log(arms[1])),
    )


def _value(point: MeasuredPoint, metric: Metric, values: np.ndarray) -> float:
    """As `points` says it, so that every page of a run shows the same number."""
    known = point.known(metric.name)
    return float(np.exp(np.log(values).mean())) if known is None else float(known)


def _content(match: Match, metric: Metric, bound: float) -> Judged | None:
    if match.baseline.dummy or match.candidate.dummy:
        return None
    arms = [prompt_sums(metric, point.tables) for point in (match.candidate, match.baseline)]
    values = [None if arm is None else arm[1].ratio for arm in arms]
    if arms[0] is None or arms[1] is None:
        return _one_sided(metric, values, bound)
    (our_ids, ours), (their_ids, theirs) = arms[0], arms[1]
    if not np.array_equal(our_ids, their_ids):
        why = "the runs do not have the same prompts with this metric"
        verdict = _no_verdict(metric, (len(our_ids), len(their_ids)), bound, why)
        return Judged(metric, values[1], values[0], verdict, None)
    found = content_verdict(ours, theirs, bound, metric.better, relative=metric.relative)
    return Judged(metric, values[1], values[0], found.verdict, found.detectable)


def _one_sided(metric: Metric, values: Sequence[float | None], bound: float) -> Judged | None:
    """A metric that one run lacks; nothing where both do. Values are candidate's, baseline's."""
    if values[0] is None and values[1] is None:
        return None
    owner = "candidate" if values[1] is None else "baseline"
    if metric.name in PEAKS:  # runs of older versions do not tell: no reason to leave all undecided
        metric = replace(metric, better=None)
    verdict = _no_verdict(metric, (0, 0), bound, f"only the {owner} has this metric")
    return Judged(metric, values[1], values[0], verdict, None)


def _no_verdict(metric: Metric, n: tuple[int, int], bound: float, why: str) -> Verdict:
    test = HypothesisTest.MANN_WHITNEY if metric.by_process else HypothesisTest.SIGN_FLIP
    return Verdict(Status.INSUFFICIENT_DATA, None, None, test, None, *n, bound, LEVEL, why)


def notes(match: Match, judged: Sequence[Judged], same_code: bool) -> list[str]:
    """What a reader must know of a point before quoting its verdicts."""
    found = [*_engines(match), *_other_commits(match)]
    for name, point in (("baseline", match.baseline), ("candidate", match.candidate)):
        if point.known("validity") == "low_validity":
            found.append(f"the {name} is of low validity: {point.known('validity_reason')}")
        if (condition := point.known("condition")) not in (None, "clean", "unknown"):
            found.append(f"the {name} was {condition}: {point.known('condition_reason')}")
    found += _clock_effect(match, judged)
    processes = [p.known("num_processes") for p in (match.baseline, match.candidate)]
    if 1 in processes:
        found.append(
            "screening: one process has no between-process interval; measure=publish has eight"
        )
    if match.baseline.dummy or match.candidate.dummy:
        found.append("random weights: contents are nobody's answer and are not compared")
    contents = [j for j in judged if not j.metric.by_process]
    if same_code and any(j.verdict.test is not HypothesisTest.EQUALITY for j in contents):
        found.append(
            "contents differ although code, configuration, weights, prompts and machine are the"
            " same: something is not deterministic"
        )
    return found


def _engines(match: Match) -> list[str]:
    """That other engines ran the point, and what each one's clock covers."""
    points = match.baseline, match.candidate
    engines = [str(point.known("backend")) for point in points]
    if engines[0] == engines[1]:
        return []
    found = [f"different engines, {engines[0]} and {engines[1]}: noise is not shared"]
    timed = [point.known("timed") for point in points]
    if timed[0] != timed[1]:
        found.append(f"timed are other things: baseline, {timed[0]}; candidate, {timed[1]}")
    return found


def _other_commits(match: Match) -> list[str]:
    """That one of the points has commits of its own, and what cannot be held together then."""
    ways = _commits(match)
    if FUSED not in ways or None in ways or ways[0] == ways[1]:
        return []
    return [
        f"commits differ: {ways[0]} in the baseline, {ways[1]} in the candidate; a fused forward "
        "is a commit and step 1 of the next canvas at once, so commit_ms and fused_ms have no "
        "counterpart, and step_ms leaves the steps out that are fused"
    ]


def _clock_effect(match: Match, judged: Sequence[Judged]) -> list[str]:
    """What a change of a forward's time is in cycles, where the device ran at other clocks."""
    before, after = (p.known("sm_clock_mean_mhz") for p in (match.baseline, match.candidate))
    if before is None or after is None or abs(after / before - 1) < _CLOCK_SHARE:
        return []
    found = [f"the mean SM clock went from {before:.0f} to {after:.0f} MHz"]
    for each in judged:
        effect = each.verdict.effect
        if each.metric.name in ("step_ms", "decode_ms") and effect is not None:
            cycles = (1 + effect) * after / before - 1
            found.append(f"{each.metric.name} changed by {100 * cycles:+.2f} % in cycles")
    return ["; ".join(found)]
