"""A run against a golden: exactly where the machine is the same, paired by prompt elsewhere.

| machine | answers | status |
|---|---|---|
| any | the same | EQUIVALENT |
| the same | not the same | REGRESSION of steps or accuracy, else CHANGED: a failure either way |
| another | not the same | of steps and accuracy, paired by prompt: the graver verdict |

Weights, prompts, seed and sampler must be the same in any case; of other work nothing is said.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import fmean, median

from bench.comparison import METRICS, Difference, ExitCode, Judged
from bench.comparison.environment import differences
from bench.comparison.judge import judge
from bench.comparison.matching import Match
from bench.comparison.result import exit_code, gravest
from bench.golden.files import Golden
from bench.golden.table import COLUMNS, Answer, GoldenPoint, golden_points
from bench.stats import Status, control_false_discoveries
from bench.store import Run

BOUND, FP32_BOUND = 0.1, 0.02
"""Of steps a share, of accuracy a difference. What other rounding does to 150 prompts is no less in
bf16 and fp8: with kernels=reference for torch the intervals of steps are 4.1 % wide either way in
bf16 and 5.4 % in fp8, those of accuracy 3.2 and 3.7 points. In fp32 nothing changes there."""
_CONTENTS = [metric for metric in METRICS.values() if not metric.by_process]


class Way(StrEnum):
    """How a point was checked."""

    EXACT = "exact"
    PAIRED = "paired"
    NOT = "not"


@dataclass(frozen=True, slots=True)
class Changed:
    """A prompt that was answered otherwise: what differs, in the order of the table."""

    request_id: int
    prompt: str
    differences: tuple[Difference, ...]

    def __str__(self) -> str:
        return f"prompt {self.request_id} ({self.prompt}): {'; '.join(map(str, self.differences))}"


@dataclass(frozen=True, slots=True)
class StepsShift:
    """By how many steps a canvas the prompts of a run differ from the golden's, each by its mean.

    Attributes:
        mean_shift, median_shift: over prompts, the run's less the golden's.
        cliffs_delta: share of prompts with more steps less that of those with fewer.
    """

    mean_shift: float
    median_shift: float
    cliffs_delta: float


@dataclass(frozen=True, slots=True)
class CheckedPoint:
    """A golden point against a run's.

    Attributes:
        differing: facts of the machine, where it is another; of the work, where it is not checked.
        prompts: how many there are.
        changed: those answered otherwise.
        unknown: columns that one side does not know, because it was traced less.
        judged: metrics of contents with verdicts; empty where no number differs.
        steps: None where no prompt's mean differs.
    """

    point_id: str
    way: Way
    differing: tuple[Difference, ...]
    prompts: int
    changed: tuple[Changed, ...] = ()
    unknown: tuple[str, ...] = ()
    judged: tuple[Judged, ...] = ()
    steps: StepsShift | None = None

    @property
    def status(self) -> Status:
        if self.way is Way.NOT:
            return Status.INSUFFICIENT_DATA
        if not self.changed:
            return Status.EQUIVALENT
        found = gravest(j.verdict.status for j in self.judged if j.metric.better is not None)
        if self.way is Way.EXACT and found is not Status.REGRESSION:
            return Status.CHANGED
        return found

    @property
    def failed(self) -> bool:
        """Worse, or different where it must be the same."""
        different = self.way is Way.EXACT and bool(self.changed)
        return different or self.status is Status.REGRESSION

    def of(self, metric: str) -> Judged | None:
        return next((j for j in self.judged if j.metric.name == metric), None)


@dataclass(frozen=True, slots=True)
class CheckedGolden:
    """A run against a golden.

    Attributes:
        alone: golden points that the run was not to have; they were not checked.
    """

    golden: Golden
    points: tuple[CheckedPoint, ...]
    alone: tuple[str, ...]

    @property
    def status(self) -> Status:
        """The gravest of what failed; of everything where nothing did."""
        failed = [point.status for point in self.points if point.failed]
        return gravest(failed or [point.status for point in self.points])

    @property
    def exit_code(self) -> ExitCode:
        if any(point.failed for point in self.points):
            return ExitCode.NEGATIVE
        return exit_code(self.status)


def check(golden: Golden, run: Run, bound: float | None = None) -> CheckedGolden:
    """Holds every point of a run that does a golden point's work against it.

    Args:
        bound: change that matters, where the machine is another: of steps as a share, of accuracy
            as a difference; by default what a point's precision allows.

    Raises:
        ValueError: the run has no finished point or a damaged table, or a bound of 0 or less.
    """
    if bound is not None and bound <= 0:
        raise ValueError(f"bound {bound:g} must be above 0")
    ours = golden_points(run)
    checked = [
        _checked(theirs, own, bound) for theirs in golden.points for own in _like(theirs, ours)
    ]
    heard = {_kind(own) for own in ours}
    absent = [point for point in golden.points if _kind(point) not in heard]
    failed = set(run.info.get("points", [])) - set(run.points["point_id"])
    checked += [_unmeasured(point) for point in absent if point.point_id in failed]
    alone = tuple(point.point_id for point in absent if point.point_id not in failed)
    return CheckedGolden(golden, tuple(_controlled(checked)), alone)


def _unmeasured(golden: GoldenPoint) -> CheckedPoint:
    """A point that the run was to measure: its absence is no pass."""
    lacking = Difference("measured", "yes", "no: failed or unfinished")
    return CheckedPoint(golden.point_id, Way.NOT, (lacking,), len(golden.answers))


def _kind(point: GoldenPoint) -> tuple[str | None, str | None]:
    return point.work["decoding"], point.work["precision"]


def _like(golden: GoldenPoint, points: Sequence[GoldenPoint]) -> list[GoldenPoint]:
    """All that do the golden's work; where none does, the first of its kind, to say why not."""
    same = [point for point in points if point.work == golden.work]
    return same or [point for point in points if _kind(point) == _kind(golden)][:1]


def _checked(golden: GoldenPoint, own: GoldenPoint, bound: float | None) -> CheckedPoint:
    prompts = len(golden.answers)
    if other := differences(golden.work, own.work):
        return CheckedPoint(own.point_id, Way.NOT, other, prompts)
    if own.fault is not None:
        return CheckedPoint(
            own.point_id, Way.NOT, (Difference("validity", "valid", own.fault),), prompts
        )
    asked = [[answer.request_id for answer in point.answers] for point in (golden, own)]
    if asked[0] != asked[1]:
        lacking = Difference("prompts answered", str(len(asked[0])), str(len(asked[1])))
        return CheckedPoint(own.point_id, Way.NOT, (lacking,), prompts)
    if bound is None:
        bound = FP32_BOUND if golden.work["precision"] == "fp32" else BOUND
    elsewhere = differences(golden.machine, own.machine)
    changed = tuple(changed_prompts(golden, own))
    return CheckedPoint(
        point_id=own.point_id,
        way=Way.PAIRED if elsewhere else Way.EXACT,
        differing=elsewhere,
        prompts=prompts,
        changed=changed,
        unknown=_unknown(golden, own),
        judged=tuple(_judged(golden, own, bound)) if changed else (),
        steps=_steps(golden, own),
    )


def changed_prompts(golden: GoldenPoint, own: GoldenPoint) -> Iterator[Changed]:
    """The prompts that were answered otherwise, of two points that were asked the same."""
    for theirs, ours in zip(golden.answers, own.answers, strict=True):
        differing = tuple(
            Difference(name, _told(getattr(theirs, name)), _told(getattr(ours, name)))
            for name in COLUMNS
            if _differ(getattr(theirs, name), getattr(ours, name))
        )
        if differing:
            yield Changed(ours.request_id, ours.prompt, differing)


def _differ(theirs: object, ours: object) -> bool:
    return theirs != ours and _known(theirs) and _known(ours)


def _known(value: object) -> bool:
    return value is not None and not (isinstance(value, tuple) and None in value)


def _told(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _unknown(golden: GoldenPoint, own: GoldenPoint) -> tuple[str, ...]:
    pairs = list(zip(golden.answers, own.answers, strict=True))

    def lacks(name: str, pair: tuple[Answer, Answer]) -> bool:
        known = [_known(getattr(answer, name)) for answer in pair]
        return known[0] != known[1]

    return tuple(name for name in COLUMNS if any(lacks(name, pair) for pair in pairs))


def _judged(golden: GoldenPoint, own: GoldenPoint, bound: float) -> list[Judged]:
    match = Match(golden.measured(), own.measured())
    found = judge(match, _CONTENTS, {metric.name: bound for metric in _CONTENTS})
    return [each for each in found if None not in (each.baseline, each.candidate)]


def _steps(golden: GoldenPoint, own: GoldenPoint) -> StepsShift | None:
    shifts = [
        fmean(ours.steps) - fmean(theirs.steps)
        for theirs, ours in zip(golden.answers, own.answers, strict=True)
        if theirs.steps and ours.steps
    ]
    if not any(shifts):
        return None
    signs = [(shift > 0) - (shift < 0) for shift in shifts]
    return StepsShift(fmean(shifts), median(shifts), fmean(signs))


def _controlled(points: Sequence[CheckedPoint]) -> Iterator[CheckedPoint]:
    """The points with p adjusted over all metrics and points (Benjamini-Hochberg)."""
    named = {
        f"{place}/{each.metric.name}": each.verdict
        for place, point in enumerate(points)
        for each in point.judged
    }
    controlled = control_false_discoveries(named)
    for place, point in enumerate(points):
        judged = (
            replace(each, verdict=controlled[f"{place}/{each.metric.name}"])
            for each in point.judged
        )
        yield replace(point, judged=tuple(judged))
