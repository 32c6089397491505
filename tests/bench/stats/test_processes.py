"""Intervals over processes: closed forms, and coverage on heavy-tailed clustered rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import (
    process_interval,
    process_means,
    ratio_interval,
)

TRUE_TOK_PER_S = 100.0


def _students(means: np.ndarray, t: float) -> tuple[float, float]:
    logs = np.log(means)
    half = t * logs.std(ddof=1) / np.sqrt(len(logs))
    return float(np.exp(logs.mean() - half)), float(np.exp(logs.mean() + half))


# t with n - 1 degrees of freedom, 97.5 %
@pytest.mark.parametrize(("n", "t"), [(2, 12.706205), (3, 4.302653), (19, 2.100922)])
def test_below_twenty_processes_it_is_students_on_logs(n: int, t: float) -> None:
    means = np.random.default_rng(n).lognormal(3, 0.1, size=n)
    assert process_interval(means) == pytest.approx(_students(means, t), rel=1e-6)
    assert process_interval(means[:1]) is None


@pytest.mark.parametrize("wrong", [0.0, -1.0, np.nan])
def test_process_means_must_be_positive(wrong: float) -> None:
    with pytest.raises(ValueError, match="must be a positive"):
        process_interval(np.array([1.0, wrong]))


def _simulated_means(processes: int, trials: int, seed: int) -> np.ndarray:
    """(trials, processes) tok/s: lognormal processes (8 %) of 150 rows of Pareto(2.5) seconds."""
    rng, rows = np.random.default_rng(seed), 150
    speed = TRUE_TOK_PER_S * rng.lognormal(0, 0.08, size=(trials * processes, 1))
    seconds = (1 + rng.pareto(2.5, size=(trials * processes, rows))) * 0.6 / speed
    ids = np.repeat(np.arange(trials * processes), rows)
    _, means = process_means(np.ones(len(ids)), seconds.ravel(), ids)
    return means.reshape(trials, processes)


def _coverage(processes: int, trials: int, seed: int) -> float:
    covered = 0
    for means in _simulated_means(processes, trials, seed):
        interval = process_interval(means)
        assert interval is not None
        covered += interval[0] <= TRUE_TOK_PER_S <= interval[1]
    return covered / trials


@pytest.mark.parametrize(("processes", "trials"), [(8, 1500), (20, 300), (40, 300)])
def test_process_intervals_hold_the_truth(processes: int, trials: int) -> None:
    assert 0.92 <= _coverage(processes, trials, seed=processes) <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize("processes", [8, 20, 40])
def test_process_intervals_hold_the_truth_to_a_point(processes: int) -> None:
    assert 0.94 <= _coverage(processes, 4000, seed=1) <= 0.96  # 95.4, 94.5 and 94.6 %


def test_intervals_that_ignore_processes_do_not_hold() -> None:
    rng, covered = np.random.default_rng(3), 0
    for trial in range(60):
        seconds = rng.pareto(2.5, size=(8, 150)) + 1
        seconds *= 0.6 / (TRUE_TOK_PER_S * rng.lognormal(0, 0.08, size=(8, 1)))
        rows = np.arange(seconds.size)
        interval = ratio_interval(np.ones(seconds.size), seconds.ravel(), rows, seed=trial)
        assert interval is not None
        covered += interval[0] <= TRUE_TOK_PER_S <= interval[1]
    assert covered < 50


def test_the_bootstrap_is_seeded_skew_aware_and_as_wide_as_students() -> None:
    even = np.exp(np.random.default_rng(0).normal(0, 0.1, size=40))
    found, student = process_interval(even), _students(even, t=2.022691)
    assert found is not None
    assert found == process_interval(even)
    assert found != process_interval(even, seed=1)
    assert np.diff(np.log(found)) == pytest.approx(np.diff(np.log(student)), rel=0.05)
    logs = np.random.default_rng(0).exponential(size=40)
    interval = process_interval(np.exp(logs))
    assert interval is not None
    below, above = np.diff([np.log(interval[0]), logs.mean(), np.log(interval[1])])
    assert above > 1.4 * below  # a percentile interval: 1.15
    assert process_interval(np.full(25, 3.0)) == pytest.approx((3.0, 3.0), rel=1e-12)


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.floats(0, 1e6), st.floats(1e-3, 1e6)),
        min_size=1,
        max_size=40,
    )
)
def test_process_means_are_ratios_of_sums(rows: list[tuple[int, float, float]]) -> None:
    process, top, bottom = (np.array(column) for column in zip(*rows, strict=True))
    ids, means = process_means(top, bottom, process)
    assert ids.tolist() == sorted({row[0] for row in rows})
    for i, mean in zip(ids, means, strict=True):
        own = [row for row in rows if row[0] == i]
        expected = sum(row[1] for row in own) / sum(row[2] for row in own)
        assert mean == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_process_means_refuse_what_has_none() -> None:
    with pytest.raises(ValueError, match="numerator 2, denominator 1, process 2"):
        process_means([1, 2], [1], [0, 0])
    with pytest.raises(ValueError, match="denominator holds -1"):
        process_means([1, 2], [1, -1], [0, 0])
    with pytest.raises(ValueError, match="process b has a denominator of 0"):
        process_means([1, 2], [1, 0], ["a", "b"])
    with pytest.raises(ValueError, match="numerator nan must be finite"):
        process_means([np.nan], [1], [0])
