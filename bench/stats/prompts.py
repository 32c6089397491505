"""Two arms that answered the same prompts: contents (steps, answers, revisions) paired by prompt.

A metric of contents is a ratio of sums over prompts: steps over canvases, right answers over
prompts. One seed repeats contents exactly, so where every prompt's numbers are the same the arms
are equal, and no test has to say so. Otherwise the difference of the two ratios is made up of a
part a prompt (its linearisation, as for a ratio in survey sampling; Woodruff 1971), and those parts
are tested like any paired differences. A right or wrong answer a prompt is McNemar's test.
"""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from bench.stats.checks import finite, in_range, same_length
from bench.stats.detectable import detectable_difference
from bench.stats.intervals import LEVEL
from bench.stats.paired import MIN_PAIRS, mean_limits, sign_flip_p_value
from bench.stats.verdict import Better, HypothesisTest, Status, Verdict, classify


@dataclass(frozen=True, slots=True)
class PromptSums:
    """One arm: numerator and denominator of a ratio, a prompt each, in the same order of prompts.

    Raises:
        ValueError: lengths differ, a value is not finite, or there is nothing to divide by.
    """

    numerator: np.ndarray
    denominator: np.ndarray

    def __post_init__(self) -> None:
        finite("numerator", self.numerator)
        finite("denominator", self.denominator)
        same_length(numerator=self.numerator, denominator=self.denominator)
        if self.denominator.sum() <= 0:
            raise ValueError("the denominators of all prompts sum to 0")

    @property
    def ratio(self) -> float:
        return float(self.numerator.sum() / self.denominator.sum())

    @property
    def parts(self) -> np.ndarray:
        """(prompts,) whose mean is the ratio and whose spread is that of the ratio's estimate."""
        own = self.numerator - self.ratio * self.denominator
        return np.asarray(own / self.denominator.mean() + self.ratio)


@dataclass(frozen=True, slots=True)
class ContentVerdict:
    """A verdict, and the smallest effect that as many prompts could have told from none."""

    verdict: Verdict
    detectable: float | None


def content_verdict(
    candidate: PromptSums,
    baseline: PromptSums,
    bound: float,
    better: Better | None,
    *,
    relative: bool,
    level: float = LEVEL,
) -> ContentVerdict:
    """What a metric of contents says of candidate against baseline.

    Args:
        candidate, baseline: the same prompts in the same order.
        bound: change that matters, above 0: a share of the baseline, or plain units of the metric.
        better: which way it improves; None where neither is better, and a difference beyond the
            bound is CHANGED.
        relative: effect, interval and bound as shares of the baseline's ratio; else plain
            differences (0.02 of an accuracy is 2 percentage points).

    Returns:
        INSUFFICIENT_DATA below 8 prompts, unless all are equal. A relative effect of a baseline of
        0 is unknown, and its verdict AMBIGUOUS.

    Raises:
        ValueError: another number of prompts, a bound of 0 or less, a level outside 0 to 1.
    """
    in_range("bound", bound, 0, np.inf)
    in_range("level", level, 0, 1)
    same_length(candidate=candidate.numerator, baseline=baseline.numerator)
    n = len(candidate.numerator)
    if _equal(candidate, baseline):
        reason = f"the same for each of {n} prompts"
        return ContentVerdict(_equality(n, bound, level, reason), None)
    differences = candidate.parts - baseline.parts
    scale = baseline.ratio if relative else 1.0
    p_value, test = _p_value(candidate, baseline, differences)
    unknown = HypothesisTest.SIGN_FLIP if test is None else test
    if p_value is None:
        lacking = f"{n} prompts; {MIN_PAIRS} are needed"
        return ContentVerdict(_without(n, bound, level, unknown, lacking), None)
    if scale == 0:
        why = f"{candidate.ratio:.3g} where the baseline has 0: no relative change can be said"
        found = _without(n, bound, level, unknown, why, Status.AMBIGUOUS, p_value)
        return ContentVerdict(found, None)
    low, high = (float(limit) / scale for limit in mean_limits(differences, level))
    effect = float(differences.mean()) / scale
    rejected = np.asarray(p_value <= level)
    margins = np.asarray(low), np.asarray(high)
    status = Status(str(classify(*margins, rejected, bound, better or Better.LESS)))
    if better is None and status in (Status.REGRESSION, Status.IMPROVEMENT):
        status = Status.CHANGED
    reason = _reason(status, effect, (low, high), bound, relative, unknown)
    smallest = detectable_difference(differences, level=level)
    return ContentVerdict(
        Verdict(status, effect, (low, high), unknown, p_value, n, n, bound, level, reason),
        None if smallest is None else smallest / scale,
    )


def _equal(ours: PromptSums, theirs: PromptSums) -> bool:
    return np.array_equal(ours.numerator, theirs.numerator) and np.array_equal(
        ours.denominator, theirs.denominator
    )


def _p_value(
    ours: PromptSums, theirs: PromptSums, differences: ArrayLike
) -> tuple[float | None, HypothesisTest | None]:
    arms = (ours, theirs)
    answers = all((arm.denominator == 1).all() for arm in arms) and all(
        np.isin(arm.numerator, (0, 1)).all() for arm in arms
    )
    if not answers:
        return sign_flip_p_value(differences), HypothesisTest.SIGN_FLIP
    if len(ours.numerator) < MIN_PAIRS:
        return None, HypothesisTest.MCNEMAR
    gained = int((ours.numerator > theirs.numerator).sum())
    lost = int((ours.numerator < theirs.numerator).sum())
    return float(scipy.stats.binomtest(gained, gained + lost).pvalue), HypothesisTest.MCNEMAR


def _equality(n: int, bound: float, level: float, reason: str) -> Verdict:
    return Verdict(
        Status.EQUIVALENT,
        0.0,
        (0.0, 0.0),
        HypothesisTest.EQUALITY,
        None,
        n,
        n,
        bound,
        level,
        reason,
    )


def _without(
    n: int,
    bound: float,
    level: float,
    test: HypothesisTest,
    reason: str,
    status: Status = Status.INSUFFICIENT_DATA,
    p_value: float | None = None,
) -> Verdict:
    return Verdict(status, None, None, test, p_value, n, n, bound, level, reason)


def _reason(
    status: Status,
    effect: float,
    interval: tuple[float, float],
    bound: float,
    relative: bool,
    test: HypothesisTest,
) -> str:
    unit = "%" if relative else "points"
    low, high = interval
    found = f"{100 * effect:+.2f} {unit} [{100 * low:+.2f}, {100 * high:+.2f}]"
    tested = test.value.replace("_", "-")
    edge = f"the bound of {100 * bound:g} {unit}"
    if status is Status.EQUIVALENT:
        return f"{found} lies within {edge}"
    if status is not Status.AMBIGUOUS:
        return f"{found} lies beyond {edge}, and {tested} rejects equality"
    if low > bound or high < -bound:
        return f"{found} lies beyond {edge}, but {tested} does not reject"
    return f"{found} reaches beyond {edge}: too wide to tell"
