"""Contents paired by prompt: equality, ratios of sums, McNemar's test, no better direction."""

import numpy as np
import pytest
from scipy import stats

from bench.stats import (
    Better,
    HypothesisTest,
    PromptSums,
    Status,
    content_verdict,
    detectable_difference,
    sign_flip_p_value,
)

STEPS = np.array([5, 9, 12, 7, 20, 6, 8, 11, 9, 10], dtype=float)
CANVASES = np.array([1, 1, 2, 1, 2, 1, 1, 2, 1, 1], dtype=float)


def sums(top: np.ndarray, bottom: np.ndarray | None = None) -> PromptSums:
    return PromptSums(top, np.ones(len(top)) if bottom is None else bottom)


def test_equal_contents_are_said_to_be_equal() -> None:
    arms = [PromptSums(STEPS, CANVASES) for _ in range(2)]
    found = content_verdict(*arms, 0.02, Better.LESS, relative=True).verdict
    assert (found.status, found.test) == (Status.EQUIVALENT, HypothesisTest.EQUALITY)
    assert (found.effect, found.interval, found.p_value, found.n) == (0.0, (0.0, 0.0), None, 10)
    assert found.reason == "the same for each of 10 prompts"


def test_equality_needs_no_number_of_prompts() -> None:
    arms = [sums(np.array([3.0, 4.0])) for _ in range(2)]
    assert content_verdict(*arms, 0.02, None, relative=True).verdict.status is Status.EQUIVALENT


def test_one_step_more_a_canvas() -> None:
    found = content_verdict(
        PromptSums(STEPS + CANVASES, CANVASES),
        PromptSums(STEPS, CANVASES),
        0.02,
        Better.LESS,
        relative=True,
    ).verdict
    assert found.status is Status.REGRESSION
    ratio = STEPS.sum() / CANVASES.sum()
    assert found.effect == pytest.approx(1 / ratio)
    assert found.interval == pytest.approx((1 / ratio, 1 / ratio))


def test_the_effect_is_that_of_ratios_of_sums_and_tested_by_prompt() -> None:
    rng = np.random.default_rng(2)
    more = STEPS + rng.integers(0, 3, 10)
    canvases = CANVASES + np.array([0, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    ours, theirs = PromptSums(more, canvases), PromptSums(STEPS, CANVASES)
    found = content_verdict(ours, theirs, 0.02, Better.LESS, relative=True)
    ratios = more.sum() / canvases.sum(), STEPS.sum() / CANVASES.sum()
    assert found.verdict.effect == pytest.approx(ratios[0] / ratios[1] - 1)
    parts = ours.parts - theirs.parts
    assert parts.mean() == pytest.approx(ratios[0] - ratios[1])
    assert found.verdict.p_value == sign_flip_p_value(parts)
    smallest = detectable_difference(parts)
    assert smallest is not None
    assert found.detectable == pytest.approx(smallest / ratios[1])


def test_answers_are_mcnemars() -> None:
    theirs = np.array([1.0] * 30 + [0.0] * 10)
    ours = theirs.copy()
    ours[:9] = 0
    ours[39] = 1
    found = content_verdict(sums(ours), sums(theirs), 0.02, Better.MORE, relative=False).verdict
    assert found.test is HypothesisTest.MCNEMAR
    assert found.p_value == pytest.approx(stats.binomtest(1, 10).pvalue)
    assert found.effect == pytest.approx(-0.2)
    assert found.status is Status.REGRESSION


@pytest.mark.parametrize(("factor", "better"), [(1.5, None), (0.5, None)])
def test_without_a_better_direction_a_difference_is_a_change(
    factor: float, better: Better | None
) -> None:
    arms = sums(STEPS * factor), sums(STEPS)
    assert content_verdict(*arms, 0.02, better, relative=True).verdict.status is Status.CHANGED


def test_few_prompts_and_a_baseline_of_zero() -> None:
    few = content_verdict(sums(STEPS[:7] + 1), sums(STEPS[:7]), 0.02, None, relative=True).verdict
    assert (few.status, few.reason) == (Status.INSUFFICIENT_DATA, "7 prompts; 8 are needed")
    zero = content_verdict(sums(STEPS), sums(STEPS * 0), 0.02, None, relative=True).verdict
    assert (zero.status, zero.effect) == (Status.AMBIGUOUS, None)
    assert "no relative change" in zero.reason


def test_a_wide_difference_is_ambiguous() -> None:
    rng = np.random.default_rng(0)
    found = content_verdict(
        sums(STEPS * rng.lognormal(0, 0.3, 10)), sums(STEPS), 0.02, Better.LESS, relative=True
    ).verdict
    assert found.status is Status.AMBIGUOUS
    assert "too wide to tell" in found.reason


def test_nothing_to_divide_by() -> None:
    with pytest.raises(ValueError, match="sum to 0"):
        PromptSums(STEPS, STEPS * 0)
