"""Why a point became slower or faster, in words: answers, steps, seconds a forward, host time."""

import math

from bench.comparison.matching import MeasuredPoint
from bench.runtime import run_time
from bench.stats import Attribution, Cause, Phase, RunTime, attribute, leading_causes

_SMALLEST = 0.005
_DETAIL_WORDS = {
    "canvases": "canvases a pass",
    "delivered_per_canvas": "tokens a canvas",
    "steps_per_canvas": "steps a canvas",
    "occupancy": "occupancy of the batch",
    "batch_size": "batch size",
    "plain_share": "steps fused with a commit",
}
_FORWARD_WORDS = {
    "prefill": "prefill",
    "denoise": "denoise",
    "commit": "commit",
    "fused": "fused commit-and-denoise",
    "decode": "decode",
}


def attributed(
    baseline: MeasuredPoint, candidate: MeasuredPoint
) -> tuple[Attribution | None, tuple[Cause, ...]]:
    """The split of the change of delivered tokens per second, and its leading causes.

    Returns:
        None and nothing where a run's tables cannot tell.
    """
    before, after = _pass_time(baseline), _pass_time(candidate)
    if before is None or after is None:
        return None, ()
    found = attribute(before, after)
    causes = tuple(
        Cause(cause.name, cause.effect, cause.share, _words(cause, found, before, after))
        for cause in leading_causes(found, smallest=_SMALLEST)
    )
    return found, causes


def _pass_time(point: MeasuredPoint) -> RunTime | None:
    """Mean of the passes over the prompts, so that runs of other sizes can be compared."""
    tables = point.tables
    requests, steps = tables["requests"], tables["steps"]
    if requests.empty or steps.empty:
        return None
    try:
        whole = run_time(requests, steps, tables["canvases"])
    except ValueError:  # nothing delivered, or no time passed
        return None
    passes = len(requests[["process_id", "repeat"]].drop_duplicates())
    return RunTime(
        delivered_tokens=whole.delivered_tokens / passes,
        phases={
            name: Phase(forwards=phase.forwards / passes, mean_s=phase.mean_s)
            for name, phase in whole.phases.items()
        },
        host_s=whole.host_s / passes,
        canvases=_over(whole.canvases, passes),
        denoise_row_steps=_over(whole.denoise_row_steps, passes),
        batch_size=whole.batch_size,
    )


def _over(value: float | None, passes: int) -> float | None:
    return None if value is None else value / passes


def _words(cause: Cause, found: Attribution, before: RunTime, after: RunTime) -> str:
    name, effect = cause.name, f"{100 * math.expm1(cause.effect):+.1f} %"
    if name == "host_s":
        moved = _moved(before.host_s, after.host_s)
        return f"host time outside of forwards {moved}: {effect} of delivered tok/s"
    if name == "delivered_tokens":
        moved = _moved(before.delivered_tokens, after.delivered_tokens)
        return f"tokens of the answers {moved}: {effect} of delivered tok/s{_of(cause, found)}"
    phase, _, kind = name.rpartition("_")
    said = _FORWARD_WORDS.get(phase, phase)
    absent = Phase(forwards=0, mean_s=None)
    own = [times.phases.get(phase, absent) for times in (before, after)]
    if kind == "s":
        moved = _moved(own[0].mean_s or 0.0, own[1].mean_s or 0.0)
        return f"seconds a {said} forward {moved}: {effect} of delivered tok/s"
    moved = _moved(own[0].forwards, own[1].forwards)
    return f"{said} forwards {moved}: {effect} of delivered tok/s{_of(cause, found)}"


def _of(cause: Cause, found: Attribution) -> str:
    """The factor of a term that made most of it, where the term is split."""
    parts = found.details.get(cause.name)
    if not parts:
        return ""
    largest = max(parts, key=lambda part: abs(parts[part]))
    return f", mostly {_DETAIL_WORDS.get(largest, largest)}"


def _moved(before: float, after: float) -> str:
    if before <= 0 or after <= 0:
        return f"from {before:.3g} to {after:.3g}"
    return f"{100 * (after / before - 1):+.1f} %"
