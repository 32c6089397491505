"""Pairs: against full enumeration, scipy and closed forms."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from bench.stats import (
    log_ratios,
    mean_interval,
    sign_flip_p_value,
)
from bench.stats.paired import sign_flip_p_values

DIFFERENCES = st.lists(st.floats(-10, 10, width=32), min_size=8, max_size=10)


@settings(max_examples=40)
@given(DIFFERENCES)
def test_sign_flip_is_the_full_enumeration(values: list[float]) -> None:
    found = abs(sum(values))
    patterns = list(itertools.product([1, -1], repeat=len(values)))
    tolerance = 1e-12 * sum(abs(v) for v in values)
    as_far = sum(
        abs(sum(s * v for s, v in zip(signs, values, strict=True))) >= found - tolerance
        for signs in patterns
    )
    assert sign_flip_p_value(values) == pytest.approx(as_far / len(patterns), abs=1e-12)


@pytest.mark.parametrize("n", [12, 16])
def test_sign_flip_agrees_with_scipys_exact_test(n: int) -> None:
    values = np.random.default_rng(n).normal(0.4, 1, size=n)
    theirs = scipy_stats.permutation_test(
        (values,),
        lambda sample, axis: sample.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**n,
    )
    assert sign_flip_p_value(values) == pytest.approx(theirs.pvalue, abs=1e-12)


def test_sign_flip_of_many_pairs_is_seeded_and_near_the_exact_p() -> None:
    values = np.random.default_rng(5).normal(0.5, 1, size=18)
    signs = 1 - 2 * ((np.arange(2**18)[:, None] >> np.arange(18)) & 1)
    exact = (np.abs(signs @ values) >= abs(values.sum()) - 1e-9).mean()
    found = sign_flip_p_value(values)
    assert found is not None
    assert 0.01 < exact < 0.2
    assert abs(found - exact) < 4 * np.sqrt(exact / 9_999)
    assert found == sign_flip_p_value(values)
    assert found != sign_flip_p_value(values, seed=1)
    assert sign_flip_p_value(np.ones(30)) == 1 / 10_000  # the observed pattern counts


def test_sign_flip_needs_eight_pairs() -> None:
    assert sign_flip_p_value(np.ones(7)) is None
    assert sign_flip_p_value(np.ones(8)) == 2 / 2**8
    assert sign_flip_p_value(np.zeros(8)) == 1.0


def test_sign_flip_rejects_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for n in (10, 20):
        p = sign_flip_p_values(rng.standard_t(2, size=(4000, n)))
        for level in (0.01, 0.05, 0.2):
            error = 3.5 * np.sqrt(level / 4000)
            assert level - error - 2 / 2**n <= (p <= level).mean() <= level + error


def test_rows_together_are_rows_alone() -> None:
    rows = np.random.default_rng(1).normal(0.3, 1, size=(900, 16))  # several chunks
    together = sign_flip_p_values(rows)
    assert [sign_flip_p_value(row) for row in rows[::100]] == together[::100].tolist()


def test_log_ratios_by_hand_and_refused() -> None:
    assert log_ratios([2.0, 3.0], [1.0, 6.0]) == pytest.approx([np.log(2), -np.log(2)])
    with pytest.raises(ValueError, match="candidate 2, baseline 1"):
        log_ratios([1, 2], [1])
    for wrong in (0.0, -2.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"baseline {wrong} must be a positive"):
            log_ratios([1.0], [wrong])


@given(st.lists(st.floats(-5, 5, width=16), min_size=2, max_size=30), st.floats(0.001, 0.5))
def test_mean_interval_is_students(values: list[float], level: float) -> None:
    found = mean_interval(values, level)
    assert found is not None
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    if error < 1e-9:
        assert found == pytest.approx((np.mean(values), np.mean(values)), abs=1e-7)
        return
    expected = scipy_stats.t.interval(1 - level, len(values) - 1, np.mean(values), error)
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
