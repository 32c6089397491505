"""A comparison's own verdicts as decisions, so that every verb's results are told in one form.

`decide` holds a comparison against a gate file. Where the comparison was planned beforehand itself,
as `canvasbench ab` does, its verdicts are the decisions: nothing is asked beyond them, and the exit
code is the comparison's.
"""

from collections.abc import Mapping, Sequence

from bench.comparison import Comparison, Judged
from bench.gate.decide import Decided, Decision, Outcome
from bench.gate.declaration import Gate, OnAmbiguous
from bench.stats import MIN_PAIRS, MIN_PROCESSES, Status

_OUTCOMES = {
    Status.REGRESSION: Outcome.FAILED,
    Status.CHANGED: Outcome.WARNED,
    Status.AMBIGUOUS: Outcome.UNDECIDED,
    Status.INSUFFICIENT_DATA: Outcome.UNDECIDED,
    Status.IMPROVEMENT: Outcome.PASSED,
    Status.EQUIVALENT: Outcome.PASSED,
}


def by_verdicts(
    found: Comparison,
    *,
    name: str,
    bounds: Mapping[str, float],
    sha256: str,
    failures: Sequence[str] = (),
) -> Decided:
    """The comparison as decisions, for `markdown`, `junit`, `annotations` and `publish`.

    Args:
        name, sha256: of the plan that was fixed before the first measurement.
        bounds: by metric, as planned.
        failures: what went wrong besides, a sentence each; with one, nothing passes.
    """
    gate = Gate(
        name=name,
        bounds=dict(bounds),
        points=None,
        min_processes=MIN_PROCESSES,
        min_prompts=MIN_PAIRS,
        on_ambiguous=OnAmbiguous.FAIL,
        may_differ=(),
        sha256=sha256,
    )
    decisions = [
        _decision(point.point_id, judged) for point in found.points for judged in point.judged
    ]
    decisions += [
        Decision("any point", "processes", Outcome.UNDECIDED, f"{Status.INSUFFICIENT_DATA}: {why}")
        for why in failures
    ]
    return Decided(gate, found, tuple(decisions))


def _decision(point_id: str, judged: Judged) -> Decision:
    verdict = judged.verdict
    outcome = _OUTCOMES[verdict.status]
    if judged.metric.better is None and outcome is Outcome.UNDECIDED:
        outcome = Outcome.WARNED  # neither way would be worse
    reason = f"{verdict.status.value}: {verdict.reason}"
    return Decision(point_id, judged.metric.name, outcome, reason, judged)
