"""A check in a terminal: the machine first, a sentence on denoising, then the prompts."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.text import Text

from bench.comparison import Judged, words
from bench.comparison.environment import Difference
from bench.comparison.result import judged_json
from bench.golden.check import Changed, CheckedGolden, CheckedPoint, Way
from bench.screen import screen
from bench.stats import HypothesisTest, Status

_NAMED = 5
_DENOISING = {
    Status.REGRESSION: "denoises longer",
    Status.IMPROVEMENT: "denoises shorter",
    Status.EQUIVALENT: "denoises as long, within the bound",
}
_SLOWER = "a run that became slower has slower kernels or more host time"


def print_checked(found: CheckedGolden, console: Console | None = None) -> None:
    """Every point, what changed in it, and the verdict's line last."""
    out = screen(console)
    for line in lines(found):
        out.print(Text(line))


def lines(found: CheckedGolden) -> list[str]:
    """The check as text, a line each."""
    kept = found.golden.provenance
    commit = f", commit {kept['commit'][:12]}" if kept["commit"] else ""
    changed = " with uncommitted changes" if kept["uncommitted changes"] == "True" else ""
    told = [f"golden of {kept['collected']}{commit}{changed}"]
    for point in found.points:
        told += ["", *_point(point)]
    told += [f"The run has no {name}: not checked." for name in found.alone]
    return [*told, "", verdict_line(found)]


def verdict_line(found: CheckedGolden) -> str:
    """One line that says what the exit code says."""
    status = found.status.value
    if not found.points:
        return f"{status}: the run has no point of the golden; nothing was checked"
    if not any(point.changed or point.way is Way.NOT for point in found.points):
        untraced = any(point.unknown for point in found.points)
        what = "all that was traced is" if untraced else "steps, revisions and answers are"
        return f"{status}: {what} the same: {_SLOWER}"
    named = "; ".join(f"{p.point_id} {said(p)}" for p in found.points if p.status is found.status)
    if any(point.way is Way.EXACT and point.changed for point in found.points):
        named += "; where that is meant, `canvasbench golden collect` makes a new one to review"
    elif found.status is Status.EQUIVALENT:
        named += ": a run slower by more than the bound has slower kernels or more host time"
    return f"{status}: {named}"


def said(point: CheckedPoint) -> str:
    """What a point does: longer, shorter or as long, and whether it is right less often."""
    if point.way is Way.NOT:
        return "was not checked"
    if not point.changed:
        return "is the same"
    accuracy = point.of("accuracy")
    worse = accuracy is not None and accuracy.verdict.status is Status.REGRESSION
    return f"{_denoising(point)}{' and is right less often' if worse else ''}"


def _denoising(point: CheckedPoint) -> str:
    steps = point.of("steps_per_canvas")
    if steps is None:
        return "answers otherwise"
    if not any(each.name == "steps" for prompt in point.changed for each in prompt.differences):
        return "denoises as long, and differs otherwise"
    verdict = steps.verdict
    if verdict.status in _DENOISING:
        return _DENOISING[verdict.status]
    if verdict.interval is not None and verdict.interval[1] < verdict.bound:
        return "does not denoise longer; whether shorter by more than the bound cannot be told"
    return "may denoise longer or not: it cannot be told"


def as_json(found: CheckedGolden) -> dict[str, Any]:
    """The check in plain types; unknown is null, effects are shares (0.02 is 2 %)."""
    return {
        "status": found.status.value,
        "exit_code": int(found.exit_code),
        "golden": dict(found.golden.provenance),
        "points": [_plain(point) for point in found.points],
        "alone": list(found.alone),
    }


def _point(point: CheckedPoint) -> Iterator[str]:
    differing = "; ".join(map(str, point.differing))
    if point.way is Way.NOT:
        yield f"{point.point_id}: not checked, as the run did not do the same ({differing})"
        return
    if point.way is Way.PAIRED:
        yield f"{point.point_id}: paired by prompt, as rounding may differ ({differing})"
    else:
        yield f"{point.point_id}: compared exactly, on the same machine with the same versions"
    if point.unknown:
        yield f"  not compared: {', '.join(point.unknown)}; one side was traced less"
    if not point.changed:
        yield f"  the same for each of {point.prompts} prompts"
        return
    bound = "".join({f"; bound {100 * j.verdict.bound:g} % or points" for j in point.judged})
    yield f"  {said(point)}; {len(point.changed)} of {point.prompts} prompts have changed{bound}"
    if (steps := point.steps) is not None:
        yield (
            f"  steps by prompt: mean {steps.mean_shift:+.3g}, median {steps.median_shift:+.3g};"
            f" Cliff's delta {steps.cliffs_delta:+.2f}"
        )
    equal = [j.metric.name for j in point.judged if j.verdict.test is HypothesisTest.EQUALITY]
    yield from (f"  {_metric(each)}" for each in point.judged if each.metric.name not in equal)
    if equal:
        yield f"  equal: {', '.join(equal)}"
    yield from (f"  {each}" for each in named(point.changed))


def named(changed: Sequence[Changed]) -> list[str]:
    """The first prompts that were answered otherwise, a line each, and how many more there are."""
    more = len(changed) - _NAMED
    return [*map(str, changed[:_NAMED]), *([f"and {more} more"] if more > 0 else [])]


def _metric(judged: Judged) -> str:
    verdict = judged.verdict
    p = (
        ""
        if verdict.p_value is None
        else f", {verdict.test.value.replace('_', '-')} p {words.p_value(verdict.p_value)}"
    )
    return (
        f"{verdict.status.value}  {judged.metric.name}: {words.value(judged.baseline)} ->"
        f" {words.value(judged.candidate)}, {words.effect(judged)}{p}"
    )


def _plain(point: CheckedPoint) -> dict[str, Any]:
    return {
        "point_id": point.point_id,
        "status": point.status.value,
        "compared": point.way.value,
        "said": said(point),
        "differing": [_difference(each) for each in point.differing],
        "prompts": point.prompts,
        "changed": [
            {
                "request_id": each.request_id,
                "differences": [_difference(difference) for difference in each.differences],
            }
            for each in point.changed
        ],
        "not_compared": list(point.unknown),
        "steps_by_prompt": None if point.steps is None else asdict(point.steps),
        "metrics": {judged.metric.name: judged_json(judged) for judged in point.judged},
    }


def _difference(found: Difference) -> dict[str, str | None]:
    return {"name": found.name, "baseline": found.baseline, "candidate": found.candidate}
