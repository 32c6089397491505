"""A verdict instead of a p-value: what a difference means against a bound set beforehand.

| status | when |
|---|---|
| REGRESSION, IMPROVEMENT | the interval lies beyond the bound and the test rejects equality |
| EQUIVALENT | the interval lies within the bound (TOST at half the level) |
| AMBIGUOUS | anything else: more data, or a wider bound, could tell |
| INSUFFICIENT_DATA | too few pairs or processes for the test |
| CHANGED | as REGRESSION, of a metric that has no better direction |

Ranks do not see how far off a process is, and a machine with two speeds can look equal or slower by
the luck of the draw. So without pairs EQUIVALENT also asks that the interval of the means (Welch)
lies within the bound, and no verdict is given that the two speeds of an arm could have made.

A bound of 2 % means a ratio of 1.02 one way and 1 / 1.02 the other: log-ratios are symmetric.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from bench.stats.checks import finite, in_range, positive
from bench.stats.intervals import LEVEL, Interval
from bench.stats.modes import TwoSpeeds, two_speeds
from bench.stats.paired import MIN_PAIRS, mean_interval, sign_flip_p_value
from bench.stats.unpaired import (
    hodges_lehmann_interval,
    hodges_lehmann_shift,
    mann_whitney_p_value,
    welch_interval,
)

DEFAULT_BOUND = 0.02
"""Relative change of a time that matters in practice."""
MIN_PROCESSES = 8
"""An arm, for the unpaired test."""


class Status(StrEnum):
    """What a comparison found."""

    REGRESSION = "REGRESSION"
    IMPROVEMENT = "IMPROVEMENT"
    EQUIVALENT = "EQUIVALENT"
    AMBIGUOUS = "AMBIGUOUS"
    INSUFFICIENT_DATA = "INSUFFICIENT_DATA"
    CHANGED = "CHANGED"


class Better(StrEnum):
    """Which way a metric improves: seconds get less, tokens per second more."""

    LESS = "less"
    MORE = "more"


class HypothesisTest(StrEnum):
    """Of no difference between the arms; `equality` is none: every value is the same."""

    SIGN_FLIP = "sign_flip"
    MANN_WHITNEY = "mann_whitney"
    MCNEMAR = "mcnemar"
    EQUALITY = "equality"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of candidate against baseline.

    Attributes:
        effect: candidate / baseline - 1: geometric mean of the pairs, or exp of the Hodges-Lehmann
            shift of the logs. 0.05 is 5 % more of the metric, better or not. None without data.
        interval: of the effect, at confidence 1 - `level`.
        p_value: of "no difference", to be held against 5 %; over all looks where there are several.
        n: pairs, or the candidate's processes.
        n_baseline: the baseline's; n where they are paired.
        bound: relative change that matters.
        level: 5 %, or what a sequential plan allows at the look this verdict was reached.
        reason: one sentence, for a person.
    """

    status: Status
    effect: float | None
    interval: Interval
    test: HypothesisTest
    p_value: float | None
    n: int
    n_baseline: int
    bound: float
    level: float
    reason: str


def paired_verdict(
    log_ratios: ArrayLike,
    bound: float = DEFAULT_BOUND,
    better: Better = Better.LESS,
    level: float = LEVEL,
) -> Verdict:
    """Verdict of pairs measured in turn, once: t interval and sign-flip test.

    For pairs that are added until they tell, use `sequential_verdict`; calling this after every
    batch rejects far more often than 5 %.

    Args:
        log_ratios: (pairs,) log(candidate / baseline).
        bound: relative change, above 0.
        better: which way the metric improves.
        level: 1 - confidence of the interval, and of the test.

    Raises:
        ValueError: a log-ratio is not finite, a bound of 0 or less, a level outside 0 to 1.
    """
    values = finite("log-ratio", log_ratios)
    in_range("bound", bound, 0, np.inf)
    shift = float(values.mean()) if len(values) else None
    p_value = sign_flip_p_value(values)
    limits = mean_interval(values, level)
    lacking = f"{len(values)} pairs; {MIN_PAIRS} are needed" if p_value is None else None
    n = (len(values), len(values))
    return _verdict(
        shift, limits, p_value, HypothesisTest.SIGN_FLIP, n, bound, better, level, lacking
    )


def unpaired_verdict(
    candidate: ArrayLike,
    baseline: ArrayLike,
    bound: float = DEFAULT_BOUND,
    better: Better = Better.LESS,
    level: float = LEVEL,
) -> Verdict:
    """Verdict of arms not measured in turn: Hodges-Lehmann shift of logs and Mann-Whitney test.

    Args:
        candidate, baseline: (n,) and (m,), process means, positive.
        bound, better, level: as for `paired_verdict`.

    Raises:
        ValueError: a mean is not positive, a bound of 0 or less, a level outside 0 to 1.
    """
    ours, theirs = np.log(positive("candidate", candidate)), np.log(positive("baseline", baseline))
    in_range("bound", bound, 0, np.inf)
    n = (len(ours), len(theirs))
    lacking = None
    if min(n) < MIN_PROCESSES:
        lacking = f"{n[0]} and {n[1]} processes; {MIN_PROCESSES} are needed in each arm"
    found = _verdict(
        hodges_lehmann_shift(ours, theirs),
        hodges_lehmann_interval(ours, theirs, level),
        None if lacking else mann_whitney_p_value(ours, theirs),
        HypothesisTest.MANN_WHITNEY,
        n,
        bound,
        better,
        level,
        lacking,
    )
    why = _doubt(found, ours, theirs)
    return found if why is None else replace(found, status=Status.AMBIGUOUS, reason=why)


def _doubt(found: Verdict, ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """Why ranks alone are not to be believed here, if so; from logs of process means."""
    if found.status is Status.INSUFFICIENT_DATA:
        return None
    margin = float(np.log1p(found.bound))
    arms = {"candidate": two_speeds(ours, margin), "baseline": two_speeds(theirs, margin)}
    if any(arms.values()) and not _beyond_any_speed(found, ours, theirs, arms, margin):
        said = "; ".join(f"the {name}'s {speeds}" for name, speeds in arms.items() if speeds)
        return f"{said}: which speed a process got may be all the difference there is"
    if found.status is Status.AMBIGUOUS:
        return None
    limits = welch_interval(ours, theirs, found.level)
    if found.status is Status.EQUIVALENT and limits is not None and np.abs(limits).max() > margin:
        low, high = 100 * np.expm1(limits)
        return (
            f"ranks differ by less than the bound of {100 * found.bound:g} %, but means may by"
            f" [{low:+.2f} %, {high:+.2f} %]: single processes are far from the others"
        )
    return None


def _beyond_any_speed(
    found: Verdict,
    ours: np.ndarray,
    theirs: np.ndarray,
    arms: dict[str, TwoSpeeds | None],
    margin: float,
) -> bool:
    """Whether every speed of one arm is beyond the bound from every speed of the other."""
    levels = [
        [values.mean()] if speeds is None else [speeds.low, speeds.high]
        for values, speeds in ((ours, arms["candidate"]), (theirs, arms["baseline"]))
    ]
    gaps = np.subtract.outer(*map(np.asarray, levels))
    return found.status in (Status.REGRESSION, Status.IMPROVEMENT) and bool(
        (gaps > margin).all() or (gaps < -margin).all()
    )


def classify(
    low: np.ndarray, high: np.ndarray, rejected: np.ndarray, margin: float, better: Better
) -> np.ndarray:
    """Statuses as strings, from limits of log-ratios and the test's answer, elementwise."""
    above, below = rejected & (low > margin), rejected & (high < -margin)
    worse, gained = (above, below) if better is Better.LESS else (below, above)
    within = (low > -margin) & (high < margin)
    return np.select(
        [worse, gained, within],
        [Status.REGRESSION.value, Status.IMPROVEMENT.value, Status.EQUIVALENT.value],
        Status.AMBIGUOUS.value,
    )


def _verdict(
    shift: float | None,
    limits: Interval,
    p_value: float | None,
    test: HypothesisTest,
    n: tuple[int, int],
    bound: float,
    better: Better,
    level: float,
    lacking: str | None,
) -> Verdict:
    """From log-ratios; `lacking` says why there can be no verdict."""
    effect = None if shift is None else float(np.expm1(shift))
    interval = None if limits is None else (float(np.expm1(limits[0])), float(np.expm1(limits[1])))
    status = Status.INSUFFICIENT_DATA
    if lacking is None and (limits is None or p_value is None):
        lacking = f"{n[0]} and {n[1]} values cannot bound a difference at level {level:.2g}"
    if lacking is None and limits is not None and p_value is not None:
        low, high = (np.asarray(limit) for limit in limits)
        rejected = np.asarray(p_value <= level)
        status = Status(str(classify(low, high, rejected, np.log1p(bound), better)))
    reason = lacking or _reason(status, effect, interval, test, bound, level)
    return Verdict(status, effect, interval, test, p_value, *n, bound, level, reason)


def _reason(
    status: Status,
    effect: float | None,
    interval: Interval,
    test: HypothesisTest,
    bound: float,
    level: float,
) -> str:
    assert effect is not None
    assert interval is not None
    low, high = interval
    found = f"{100 * effect:+.2f} % [{100 * low:+.2f} %, {100 * high:+.2f} %]"
    tested = test.value.replace("_", "-")
    edge = f"the bound of {100 * bound:g} %"
    if status in (Status.REGRESSION, Status.IMPROVEMENT):
        return f"{found} lies beyond {edge}, and {tested} rejects equality"
    if status is Status.EQUIVALENT:
        return f"{found} lies within {edge}"
    if low > bound or high < 1 / (1 + bound) - 1:
        return f"{found} lies beyond {edge}, but {tested} does not reject at level {level:.2g}"
    if low > 0 or high < 0:
        return f"{found} is a difference, but may be smaller than {edge}"
    return f"{found} reaches from no difference to beyond {edge}: too wide to tell"
