"""The sequential rule: its levels against tables, what it rejects and misses by simulation.

Of 10,000 normal comparisons (`test_figures_of_the_docstring`, slow): without a difference a bound
of almost 0 gives 5.0 % false verdicts, the bound of 2 % at most 0.05 %; a slowdown of 5 % is found
by 40 pairs in 100 %, 100 % and 91 % at a pair sd of 2, 3 and 5 %.
"""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from bench.stats import (
    Better,
    GoOn,
    Plan,
    Status,
    Verdict,
    nominal_levels,
    overall_p_value,
    paired_verdict,
    sequential_outcomes,
    sequential_verdict,
    sign_flip_p_value,
)
from bench.stats.paired import mean_limits

LOOKS = (10, 20, 30, 40)
PLAN = Plan()
DECIDED = [Status.REGRESSION.value, Status.IMPROVEMENT.value]


def _pairs(comparisons: int, effect: float, pair_sd: float, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(np.log1p(effect), pair_sd, size=(comparisons, 40))


def _with_error(share: float, comparisons: int) -> float:
    return share + 3.5 * np.sqrt(max(share, 1 / comparisons) / comparisons)


def test_levels_are_those_of_lan_and_demets() -> None:
    # Critical values of the Pocock-like spending function, four equal looks, from tables.
    critical = scipy_stats.norm.isf(np.array(nominal_levels(LOOKS)) / 2)
    assert critical == pytest.approx([2.368, 2.368, 2.358, 2.350], abs=6e-4)
    assert nominal_levels((17,)) == pytest.approx((0.05,))


def test_levels_spend_what_they_should() -> None:
    """Against scipy's multivariate normal: P(no crossing by look k) = 1 - alpha spent by then."""
    looks = (8, 24, 32)
    information = np.array(looks) / 32
    bounds = scipy_stats.norm.isf(np.array(nominal_levels(looks)) / 2)
    correlation = np.sqrt(
        np.minimum.outer(information, information) / np.maximum.outer(information, information)
    )
    for k in (1, 2, 3):
        inside = scipy_stats.multivariate_normal(cov=correlation[:k, :k]).cdf(
            bounds[:k], lower_limit=-bounds[:k]
        )
        spent = 0.05 * np.log1p((np.e - 1) * information[k - 1])
        assert 1 - inside == pytest.approx(spent, abs=2e-5)


@pytest.mark.parametrize("spread", ["normal", "t3"])
def test_no_difference_is_rejected_in_five_percent_with_a_bound_of_nothing(spread: str) -> None:
    rng = np.random.default_rng(1)
    shape = (3000, 40)
    pairs = 0.03 * (rng.normal(size=shape) if spread == "normal" else rng.standard_t(3, shape))
    statuses, _ = sequential_outcomes(pairs, Plan(bound=1e-9))
    rejected = np.isin(statuses, DECIDED).mean()
    assert rejected <= _with_error(0.05, 3000)
    assert rejected >= 0.02  # it does spend what it is given


def test_looking_at_five_percent_each_time_would_reject_too_often() -> None:
    pairs = _pairs(2000, effect=0.0, pair_sd=0.03, seed=2)
    outside = np.zeros(2000, dtype=bool)
    for look in LOOKS:
        low, high = mean_limits(pairs[:, :look], 0.05)
        outside |= (low > 0) | (high < 0)
    assert outside.mean() > 0.1


def test_intervals_of_all_looks_together_hold_the_truth() -> None:
    pairs = _pairs(3000, effect=0.0, pair_sd=0.03, seed=3)
    held = np.ones(3000, dtype=bool)
    for look, level in zip(LOOKS, nominal_levels(LOOKS), strict=True):
        low, high = mean_limits(pairs[:, :look], level)
        held &= (low <= 0) & (high >= 0)
    assert 1 - held.mean() <= _with_error(0.05, 3000)


@pytest.mark.parametrize(("pair_sd", "most"), [(0.02, 0.001), (0.03, 0.001), (0.05, 0.002)])
def test_same_code_is_neither_regression_nor_improvement(pair_sd: float, most: float) -> None:
    statuses, _ = sequential_outcomes(_pairs(3000, 0.0, pair_sd, seed=4), PLAN)
    assert np.isin(statuses, DECIDED).mean() <= most


@pytest.mark.parametrize("pair_sd", [0.02, 0.05])
def test_a_slowdown_of_just_the_bound_is_seldom_called_either_way(pair_sd: float) -> None:
    statuses, _ = sequential_outcomes(_pairs(2000, PLAN.bound, pair_sd, seed=5), PLAN)
    assert (statuses == Status.REGRESSION).mean() <= _with_error(0.025, 2000)
    assert (statuses == Status.EQUIVALENT).mean() <= _with_error(0.025, 2000)


@pytest.mark.parametrize(
    ("pair_sd", "pairs", "power"), [(0.02, 10, 0.90), (0.03, 20, 0.92), (0.05, 40, 0.87)]
)
def test_a_slowdown_of_five_percent_is_found(pair_sd: float, pairs: int, power: float) -> None:
    statuses, used = sequential_outcomes(_pairs(1500, 0.05, pair_sd, seed=6), PLAN)
    assert ((statuses == Status.REGRESSION) & (used <= pairs)).mean() >= power
    assert not (statuses == Status.IMPROVEMENT).any()
    faster, _ = sequential_outcomes(-_pairs(1500, 0.05, pair_sd, seed=6), Plan(better=Better.MORE))
    assert (faster == statuses).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("pair_sd", "equivalent", "found_by_look"),
    [
        (0.02, 1.00, (0.93, 1.00, 1.00, 1.00)),
        (0.03, 0.92, (0.59, 0.95, 1.00, 1.00)),
        (0.05, 0.12, (0.21, 0.54, 0.78, 0.91)),
    ],
)
def test_figures_of_the_docstring(
    pair_sd: float, equivalent: float, found_by_look: tuple[float, ...]
) -> None:
    same, _ = sequential_outcomes(_pairs(10_000, 0.0, pair_sd, seed=0), PLAN)
    assert (same == Status.EQUIVALENT).mean() == pytest.approx(equivalent, abs=0.015)
    assert np.isin(same, DECIDED).mean() <= 0.001
    slower, used = sequential_outcomes(_pairs(10_000, 0.05, pair_sd, seed=1), PLAN)
    found = [((slower == Status.REGRESSION) & (used <= look)).mean() for look in LOOKS]
    assert found == pytest.approx(found_by_look, abs=0.015)
    sharp, _ = sequential_outcomes(_pairs(10_000, 0.0, pair_sd, seed=2), Plan(bound=1e-9))
    assert np.isin(sharp, DECIDED).mean() == pytest.approx(0.05, abs=0.008)


def test_one_comparison_is_as_many_at_once() -> None:
    pairs = np.concatenate([_pairs(8, effect, 0.04, seed=7) for effect in (0.0, 0.05)])
    statuses, used = sequential_outcomes(pairs, PLAN)
    assert len(set(used)) > 2
    assert len(set(statuses)) > 1
    for row, status, last in zip(pairs, statuses, used, strict=True):
        found = sequential_verdict(row, PLAN)
        assert isinstance(found, Verdict)
        assert (found.status, found.n) == (status, last)
        early = sequential_verdict(row[: last - 1], PLAN)
        assert isinstance(early, GoOn)


def test_below_the_first_look_it_goes_on() -> None:
    found = sequential_verdict(np.full(9, 0.5), PLAN)
    assert isinstance(found, GoOn)
    assert found.more_pairs == 1
    assert found.so_far.status is Status.INSUFFICIENT_DATA
    assert found.so_far.reason == "9 pairs; the first look is at 10"
    none = sequential_verdict([], PLAN)
    assert isinstance(none, GoOn)
    assert (none.more_pairs, none.so_far.effect) == (10, None)


def test_pairs_since_the_last_look_wait() -> None:
    unclear = np.tile([0.15, -0.1], 20)
    found = sequential_verdict(unclear[:23], PLAN)
    assert isinstance(found, GoOn)
    assert found.more_pairs == 7
    assert found.so_far.n == 20
    assert found.so_far.status is Status.AMBIGUOUS
    last = sequential_verdict(unclear, PLAN)
    assert isinstance(last, Verdict)
    assert (last.status, last.n) == (Status.AMBIGUOUS, 40)


def test_what_a_look_decided_stands() -> None:
    slow = np.log(1.05) + np.tile([0.005, -0.005], 5)
    alone = sequential_verdict(slow, PLAN)
    followed = sequential_verdict(np.concatenate([slow, -5 * slow]), PLAN)
    assert isinstance(alone, Verdict)
    assert alone.status is Status.REGRESSION
    assert followed == alone
    level = nominal_levels(LOOKS)[0]
    once = paired_verdict(slow, level=level)
    assert alone.interval == once.interval
    assert alone.level == level
    assert once.p_value == sign_flip_p_value(slow) == 2 / 2**10
    assert alone.p_value == pytest.approx(overall_p_value(2 / 2**10, 0, LOOKS))


@pytest.mark.parametrize("look", [0, 1, 2, 3])
def test_the_overall_p_is_five_percent_where_the_look_rejects(look: int) -> None:
    level = nominal_levels(LOOKS)[look]
    assert overall_p_value(level, look, LOOKS) == pytest.approx(0.05, abs=1e-6)
    below, above = (overall_p_value(factor * level, look, LOOKS) for factor in (0.99, 1.01))
    assert below < 0.05 < above
    assert overall_p_value(1.0, look, LOOKS) == 1.0
    assert overall_p_value(0.0, look, LOOKS) == 0.0


def test_overall_p_values_are_valid_ps() -> None:
    """Whenever one chooses to stop, P(p <= x) <= x without a difference."""
    z = np.random.default_rng(8).normal(size=(4000, 40)).cumsum(axis=1)[:, [9, 19, 29, 39]]
    p = 2 * scipy_stats.norm.sf(np.abs(z) / np.sqrt(LOOKS))
    for x in (0.01, 0.2):
        levels = np.array(nominal_levels(LOOKS, x))
        assert (p <= levels).any(axis=1).mean() == pytest.approx(
            x, abs=3.5 * np.sqrt(x * (1 - x) / 4000)
        )


def test_plans_and_pairs_that_cannot_be() -> None:
    for looks in ((), (7, 20), (20, 10), (10, 10)):
        with pytest.raises(ValueError, match="must rise from at least 8 pairs"):
            Plan(looks=looks)
    with pytest.raises(ValueError, match="bound 0 must lie between 0 and inf"):
        Plan(bound=0.0)
    with pytest.raises(ValueError, match="41 pairs; the plan ends at 40"):
        sequential_verdict(np.zeros(41), PLAN)
    with pytest.raises(ValueError, match="30 pairs a comparison; the plan's 40 are needed"):
        sequential_outcomes(np.zeros((2, 30)), PLAN)
    with pytest.raises(ValueError, match="alpha 0 must lie between 0 and 1"):
        nominal_levels(LOOKS, 0.0)
    with pytest.raises(ValueError, match=r"p 1\.2 must lie between 0 and 1"):
        overall_p_value(1.2, 0, LOOKS)
    with pytest.raises(ValueError, match="look 4 must lie between 0 and 3"):
        overall_p_value(0.5, 4, LOOKS)


def test_a_difference_of_exactly_nothing_is_equivalent_at_once() -> None:
    found = sequential_verdict(np.zeros(10), PLAN)
    assert isinstance(found, Verdict)
    assert (found.status, found.effect, found.interval) == (Status.EQUIVALENT, 0.0, (0.0, 0.0))
