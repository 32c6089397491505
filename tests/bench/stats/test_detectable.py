"""Minimum detectable effects: against simulated power, and gates that are refused."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.stats import (
    check_bound,
    detectable_between_processes,
    detectable_difference,
    minimum_detectable_effect,
)
from bench.stats.paired import mean_limits

AA = np.tile([0.02, -0.02], 10)  # root mean square 2 %


@pytest.mark.parametrize(("num_pairs", "power", "level"), [(10, 0.8, 0.05), (40, 0.9, 0.0188)])
def test_the_effect_is_found_with_the_power_stated(
    num_pairs: int, power: float, level: float
) -> None:
    effect = minimum_detectable_effect(AA, num_pairs, power, level)
    assert effect is not None
    rng = np.random.default_rng(0)
    pairs = rng.normal(np.log1p(effect), 0.02, size=(20_000, num_pairs))
    low, _ = mean_limits(pairs, level)
    assert (low > 0).mean() == pytest.approx(power, abs=0.01)


def test_more_pairs_and_less_spread_detect_less() -> None:
    effects = [minimum_detectable_effect(AA, n) for n in (10, 20, 30, 40)]
    assert effects == sorted(effects, reverse=True)
    # 2.8 standard errors for many pairs: z of 97.5 % and of 80 %.
    many = minimum_detectable_effect(AA, 10_000)
    assert many == pytest.approx(2.8016 * 0.02 / 100, rel=1e-3)
    assert minimum_detectable_effect(AA / 2, 10) == pytest.approx(
        np.sqrt(1 + effects[0]) - 1, rel=1e-9
    )


def test_a_bias_of_the_bench_is_part_of_the_spread() -> None:
    even, biased = (minimum_detectable_effect(AA + shift, 10) for shift in (0.0, 0.02))
    assert even is not None
    assert biased is not None
    assert np.log1p(biased) == pytest.approx(np.sqrt(2) * np.log1p(even))


def test_gates_tighter_than_that_are_refused() -> None:
    smallest = minimum_detectable_effect(AA, 10)
    assert smallest is not None
    assert 0.0195 < smallest < 0.0205
    assert check_bound(0.0205, AA, 10) == smallest
    with pytest.raises(ValueError, match=r"bound 1.95 % is tighter .* at least 2.01 %"):
        check_bound(0.0195, AA, 10)
    assert check_bound(0.0195, AA, 20) < 0.0195


def test_without_aa_runs_there_is_no_gate() -> None:
    assert minimum_detectable_effect(AA[:19], 10) is None
    with pytest.raises(ValueError, match="19 A/A pairs; a gate needs at least 20"):
        check_bound(0.5, AA[:19], 10)


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="1 pairs; at least 2 are needed"):
        minimum_detectable_effect(AA, 1)
    with pytest.raises(ValueError, match=r"power 0.01 must lie between 0.05 and 1"):
        minimum_detectable_effect(AA, 10, power=0.01)
    with pytest.raises(ValueError, match="A/A log-ratio nan must be finite"):
        minimum_detectable_effect([np.nan] * 20, 10)
    with pytest.raises(ValueError, match="bound 0 must lie between"):
        check_bound(0.0, AA, 10)


def test_between_processes_the_power_is_as_said() -> None:
    """A shift of the printed size is found by a two-sample t test in 80 % of comparisons."""
    rng = np.random.default_rng(9)
    arms = rng.normal(0, 0.02, (2, 8))
    smallest = detectable_between_processes(*arms)
    assert smallest is not None
    spread = np.sqrt(sum(arm.var(ddof=1) for arm in arms) / 2)
    drawn = rng.normal(0, spread, (4000, 2, 8))
    drawn[:, 0] += np.log1p(smallest)
    p = scipy_stats.ttest_ind(drawn[:, 0], drawn[:, 1], axis=1).pvalue
    assert (p < 0.05).mean() == pytest.approx(0.8, abs=0.02)
    assert detectable_between_processes(arms[0], arms[1][:1]) is None


def test_a_difference_in_its_own_unit() -> None:
    values = np.random.default_rng(10).normal(0, 3.0, 20)
    smallest = detectable_difference(values)
    assert smallest is not None
    assert detectable_difference(10 * values) == pytest.approx(10 * smallest)
    assert detectable_difference(values[:1]) is None
