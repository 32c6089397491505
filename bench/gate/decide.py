"""A comparison against a gate: what each declared metric decides, and the gate's exit code.

| a metric's verdict | decision |
|---|---|
| EQUIVALENT, IMPROVEMENT | passed |
| REGRESSION; CHANGED of a metric without a better direction | failed |
| AMBIGUOUS | as the file says: failed to decide, warned or passed |
| INSUFFICIENT_DATA, and whatever the runs lack | undecided, never passed |

A pass with a bound tighter than what the runs could have detected would mean nothing: it is refused
and undecided. A regression or an improvement that the same runs did find stands.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bench.comparison import Comparison, Judged, compare_with
from bench.comparison.environment import MACHINE
from bench.comparison.judge import withheld
from bench.comparison.metrics import METRICS
from bench.comparison.result import ComparedPoint, ExitCode
from bench.gate.declaration import CONFIG, HOST, Gate, OnAmbiguous
from bench.stats import HypothesisTest, Status


class Outcome(StrEnum):
    """What a metric, or the whole gate, came to."""

    FAILED = "failed"
    UNDECIDED = "undecided"
    WARNED = "passed with a warning"
    PASSED = "passed"


@dataclass(frozen=True, slots=True)
class Decision:
    """A declared metric of a point.

    Attributes:
        judged: None where the runs do not have it.
        reason: one sentence.
    """

    point_id: str
    metric: str
    outcome: Outcome
    reason: str
    judged: Judged | None = None


@dataclass(frozen=True, slots=True)
class Decided:
    """A gate's decisions on a comparison."""

    gate: Gate
    comparison: Comparison
    decisions: tuple[Decision, ...]

    @property
    def outcome(self) -> Outcome:
        """The gravest of all; a gate that judged nothing is undecided."""
        found = {decision.outcome for decision in self.decisions}
        return next((each for each in Outcome if each in found), Outcome.UNDECIDED)

    @property
    def exit_code(self) -> ExitCode:
        return {
            Outcome.FAILED: ExitCode.NEGATIVE,
            Outcome.UNDECIDED: ExitCode.UNDECIDED,
        }.get(self.outcome, ExitCode.POSITIVE)


def gate_runs(gate: Gate, a: str | Path, b: str | Path) -> Decided:
    """Compares run `b` with baseline `a` in the declared metrics, and decides.

    Raises:
        ValueError: a run is missing, damaged or of a future version.
    """
    metrics = [METRICS[name] for name in gate.bounds]
    return decide(gate, compare_with(a, b, metrics, dict(gate.bounds), gate.points))


def decide(gate: Gate, found: Comparison) -> Decided:
    """What a gate says of a comparison made with its metrics and bounds."""
    moved = [
        difference
        for difference in found.environment
        if difference.name in (*MACHINE, HOST) and difference.name not in gate.may_differ
    ]
    elsewhere = "; ".join(map(str, moved))
    decisions = [
        decision for point in _points(gate, found) for decision in _of(gate, point, elsewhere)
    ]
    heard = {decision.metric for decision in decisions}
    decisions += [
        Decision("any point", name, Outcome.UNDECIDED, "no point of the runs has this metric")
        for name in gate.bounds
        if name not in heard
    ]
    return Decided(gate, found, tuple(decisions))


def _points(gate: Gate, found: Comparison) -> Iterator[tuple[str, ComparedPoint | None]]:
    """Every point that the gate is about, with what was compared of it."""
    compared = {point.point_id: point for point in found.points}
    missing = [point for run, point in found.alone if run == "baseline"]
    for name in (*compared, *missing) if gate.points is None else gate.points:
        yield name, compared.get(name)


def _of(gate: Gate, named: tuple[str, ComparedPoint | None], elsewhere: str) -> Iterator[Decision]:
    point_id, point = named
    if point is None:
        for name in gate.bounds:
            yield Decision(point_id, name, Outcome.UNDECIDED, "not in both runs")
        return
    changed = "" if CONFIG in gate.may_differ else "; ".join(_changed(point))
    for judged in point.judged:
        yield _decision(gate, point_id, judged, elsewhere, changed)


def _changed(point: ComparedPoint) -> Iterator[str]:
    """Keys set to other values; one that only one run knows came or went with the code."""
    for difference in point.config:
        if difference.baseline is not None and difference.candidate is not None:
            yield str(difference)


def _decision(gate: Gate, point_id: str, judged: Judged, elsewhere: str, changed: str) -> Decision:
    lacking = _lacking(gate, judged, elsewhere, changed)
    if lacking is not None and judged.verdict.status is not Status.INSUFFICIENT_DATA:
        judged = withheld(judged, lacking)
    outcome, reason = _outcome(gate, judged)
    return Decision(point_id, judged.metric.name, outcome, reason, judged)


def _lacking(gate: Gate, judged: Judged, elsewhere: str, changed: str) -> str | None:
    """Why the gate will not hear this metric, if so."""
    verdict = judged.verdict
    if changed:
        return f"configurations differ ({changed}); may_differ: [config] can allow it"
    if judged.metric.by_process and elsewhere:
        return f"numbers of different machines ({elsewhere}); may_differ can allow it"
    least = gate.min_processes if judged.metric.by_process else gate.min_prompts
    n = min(verdict.n, verdict.n_baseline)
    if n < least and verdict.test is not HypothesisTest.EQUALITY:
        unit = "processes" if judged.metric.by_process else "prompts"
        return f"{n} {unit}; the gate asks for {least}"
    return None


def _outcome(gate: Gate, judged: Judged) -> tuple[Outcome, str]:
    verdict, told = judged.verdict, f"{judged.verdict.status.value}: {judged.verdict.reason}"
    if verdict.status in (Status.REGRESSION, Status.CHANGED):
        return Outcome.FAILED, told
    if verdict.status is Status.INSUFFICIENT_DATA:
        return Outcome.UNDECIDED, told
    if verdict.status is Status.IMPROVEMENT:
        return Outcome.PASSED, told
    smallest = judged.detectable
    if smallest is not None and smallest > verdict.bound:
        refused = (
            f"bound {100 * verdict.bound:.3g} % is tighter than the {100 * smallest:.3g} % that"
            f" these runs could detect; {told}"
        )
        return Outcome.UNDECIDED, f"refused: {refused}"
    if verdict.status is Status.AMBIGUOUS:
        return {
            OnAmbiguous.FAIL: Outcome.UNDECIDED,
            OnAmbiguous.WARN: Outcome.WARNED,
            OnAmbiguous.PASS: Outcome.PASSED,
        }[gate.on_ambiguous], told
    return Outcome.PASSED, told
