"""Change points: found where they are, seldom where there are none, never across known shifts."""

import numpy as np
import pytest

from bench.history.changes import MIN_SEGMENT, find_changes, levels
from tests.bench.history.made import noisy


def test_a_shift_is_found_with_its_levels() -> None:
    values = noisy([100.0] * 15 + [95.0] * 10, seed=3)
    (change,) = find_changes(values)
    assert change.index == 15
    assert change.effect == pytest.approx(-0.05, abs=0.01)
    assert (change.n_before, change.n_after) == (15, 10)
    assert change.before == pytest.approx(100, rel=0.01)
    assert change.after == pytest.approx(95, rel=0.01)
    assert change.p_value < 0.01


def test_two_shifts_and_back() -> None:
    found = find_changes(noisy([100.0] * 12 + [93.0] * 8 + [100.0] * 12, seed=4))
    assert [change.index for change in found] == [12, 20]
    assert found[0].effect < 0 < found[1].effect


def test_noise_alone_seldom_changes() -> None:
    """1 % are allowed; more than 5 of 100 would be far beyond chance."""
    found = [len(find_changes(noisy([100.0] * 24, seed=seed))) for seed in range(100)]
    assert sum(n > 0 for n in found) <= 5


def test_single_outliers_are_no_change() -> None:
    values = noisy([100.0] * 24, seed=5)
    values[7], values[16] = 60.0, 150.0
    assert find_changes(values) == []


def test_two_speeds_from_run_to_run_are_no_change() -> None:
    rng = np.random.default_rng(6)
    assert find_changes(noisy(list(np.where(rng.random(40) < 0.5, 100.0, 112.0)), seed=6)) == []


def test_a_known_shift_is_no_change_and_hides_none() -> None:
    values = noisy([100.0] * 10 + [90.0] * 20, seed=7)
    assert [change.index for change in find_changes(values)] == [10]
    assert find_changes(values, (10,)) == []
    later = noisy([100.0] * 10 + [90.0] * 10 + [85.0] * 10, seed=9)
    (change,) = find_changes(later, (10,))
    assert change.index == 20


@pytest.mark.parametrize("n", [0, 1, 2 * MIN_SEGMENT - 1])
def test_too_few_runs_have_no_change(n: int) -> None:
    values = [100.0] * (n // 2) + [50.0] * (n - n // 2)
    assert find_changes(values) == []


def test_exact_values_and_zeros() -> None:
    """A simulation repeats itself to the last digit; a share may be 0."""
    assert find_changes([5.0] * 20) == []
    (change,) = find_changes([0.0] * 10 + [0.1] * 10)
    assert (change.index, change.effect) == (10, pytest.approx(0.1))


def test_levels_are_those_between_cuts() -> None:
    assert levels([1.0, 1.0, 4.0, 9.0], [2]) == [(0, 2, 1.0), (2, 4, pytest.approx(6.0))]


def test_values_must_be_finite() -> None:
    with pytest.raises(ValueError, match="value nan must be finite"):
        find_changes([1.0, float("nan")])
