"""Verdicts on made-up pairs whose answer is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.stats import (
    Better,
    HypothesisTest,
    Status,
    mean_interval,
    paired_verdict,
    unpaired_verdict,
)

SPREAD = np.array([-1, 1, -2, 2, -1.5, 1.5, -0.5, 0.5, 0.0, 0.0]) * 0.01  # mean 0, sd 1.3 %


def test_a_slowdown_beyond_the_bound() -> None:
    found = paired_verdict(np.log(1.05) + SPREAD)
    assert found.status is Status.REGRESSION
    assert found.effect == pytest.approx(0.05)
    limits = mean_interval(np.log(1.05) + SPREAD)
    assert limits is not None
    assert found.interval == pytest.approx(np.expm1(limits))
    assert (found.test, found.n, found.n_baseline) == (HypothesisTest.SIGN_FLIP, 10, 10)
    assert (found.bound, found.p_value) == (0.02, 2 / 2**10)
    assert found.reason == (
        "+5.00 % [+4.03 %, +5.97 %] lies beyond the bound of 2 %, and sign-flip rejects equality"
    )


@pytest.mark.parametrize(
    ("ratio", "better", "status"),
    [
        (1.05, Better.LESS, Status.REGRESSION),
        (1 / 1.05, Better.LESS, Status.IMPROVEMENT),
        (1.05, Better.MORE, Status.IMPROVEMENT),
        (1 / 1.05, Better.MORE, Status.REGRESSION),
        (1.0, Better.LESS, Status.EQUIVALENT),
        (1.005, Better.MORE, Status.EQUIVALENT),
        (1.02, Better.LESS, Status.AMBIGUOUS),
        (1.025, Better.MORE, Status.AMBIGUOUS),
    ],
)
def test_status_follows_direction(ratio: float, better: Better, status: Status) -> None:
    assert paired_verdict(np.log(ratio) + SPREAD, better=better).status is status


@given(
    st.lists(st.integers(-100, 100).map(lambda v: v / 1000), min_size=8, max_size=12),
    st.floats(0.005, 0.1),
    st.sampled_from(Better),
)
def test_swapping_arms_turns_the_verdict_round(
    values: list[float], bound: float, better: Better
) -> None:
    turned = {
        Status.REGRESSION: Status.IMPROVEMENT,
        Status.IMPROVEMENT: Status.REGRESSION,
    }
    there = paired_verdict(values, bound, better)
    back = paired_verdict([-v for v in values], bound, better)
    assert back.status is turned.get(there.status, there.status)
    other = paired_verdict(values, bound, Better.LESS if better is Better.MORE else Better.MORE)
    assert other.status is back.status


@given(st.lists(st.integers(-50, 50).map(lambda v: v / 1000), min_size=8, max_size=12))
def test_equivalent_is_tost_at_half_the_level(values: list[float]) -> None:
    found, margin = paired_verdict(values, bound=0.03), np.log1p(0.03)
    if np.ptp(values) == 0:
        return
    over = scipy_stats.ttest_1samp(values, -margin, alternative="greater").pvalue
    under = scipy_stats.ttest_1samp(values, margin, alternative="less").pvalue
    p = max(over, under)
    if abs(p - 0.025) > 1e-6:
        assert (found.status is Status.EQUIVALENT) == (p < 0.025)


def test_few_pairs_are_insufficient_however_clear() -> None:
    found = paired_verdict(np.full(7, 0.5))
    assert found.status is Status.INSUFFICIENT_DATA
    assert found.p_value is None
    assert found.effect == pytest.approx(np.expm1(0.5))
    assert "7 pairs; 8 are needed" in found.reason
    none = paired_verdict([])
    assert (none.status, none.effect, none.interval) == (Status.INSUFFICIENT_DATA, None, None)


def test_an_interval_beyond_the_bound_needs_the_test_too() -> None:
    found = paired_verdict(np.full(8, 0.5), level=0.005)
    assert found.status is Status.AMBIGUOUS
    assert "sign-flip does not reject at level 0.005" in found.reason


def test_reasons_tell_small_from_unclear() -> None:
    assert "may be smaller than the bound" in paired_verdict(np.log(1.02) + SPREAD).reason
    assert "too wide to tell" in paired_verdict(5 * SPREAD).reason
    assert "lies within the bound of 2 %" in paired_verdict(SPREAD).reason


def test_unpaired_arms() -> None:
    baseline = np.exp(SPREAD)
    slower = unpaired_verdict(1.06 * baseline, baseline)
    assert slower.status is Status.REGRESSION
    assert slower.test is HypothesisTest.MANN_WHITNEY
    assert slower.effect == pytest.approx(0.06)
    assert unpaired_verdict(1.06 * baseline, baseline, better=Better.MORE).status is (
        Status.IMPROVEMENT
    )
    assert unpaired_verdict(baseline, baseline, bound=0.03).status is Status.EQUIVALENT
    few = unpaired_verdict(2 * baseline, baseline[:7])
    assert few.status is Status.INSUFFICIENT_DATA
    assert "10 and 7 processes; 8 are needed in each arm" in few.reason
    assert (few.n, few.n_baseline) == (10, 7)
    beyond = unpaired_verdict(baseline[:8] * 2, baseline[:8], level=1e-5)
    assert beyond.status is Status.INSUFFICIENT_DATA
    assert "cannot bound a difference" in beyond.reason


@pytest.mark.parametrize("bound", [0.0, -0.1, np.nan])
def test_a_bound_must_be_positive(bound: float) -> None:
    with pytest.raises(ValueError, match=r"bound .* must lie between 0 and inf"):
        paired_verdict(SPREAD, bound)


def test_log_ratios_must_be_finite() -> None:
    with pytest.raises(ValueError, match="log-ratio nan must be finite"):
        paired_verdict([*SPREAD, np.nan])
