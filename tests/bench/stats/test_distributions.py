"""Step counts: effect sizes against brute force, the tests against enumeration and simulation."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stats import compare_distributions, compare_paired_distributions, sign_flip_p_value

COUNTS = st.lists(st.integers(1, 8), min_size=1, max_size=15)


@settings(max_examples=60)
@given(COUNTS, COUNTS)
def test_effects_are_their_definitions(ours: list[int], theirs: list[int]) -> None:
    found = compare_distributions(ours, theirs, np.zeros(len(ours)), np.zeros(len(theirs)))
    pairs = list(itertools.product(ours, theirs))
    more = np.mean([(a > b) + (a == b) / 2 for a, b in pairs])
    gaps = [np.mean([a <= x for a in ours]) - np.mean([b <= x for b in theirs]) for x in range(9)]
    assert found.superiority == pytest.approx(more, abs=1e-12)
    assert found.cliffs_delta == pytest.approx(
        np.mean([np.sign(a - b) for a, b in pairs]), abs=1e-12
    )
    assert found.distance == pytest.approx(np.mean([gaps[x] ** 2 for x in ours + theirs]))
    assert found.median_shift == np.median(ours) - np.median(theirs)
    assert found.mean_shift == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert (found.n_candidate, found.n_baseline) == (len(ours), len(theirs))
    assert found.p_value is None  # one cluster an arm


def test_the_permutation_p_is_near_that_of_all_groupings() -> None:
    values = np.array([3, 4, 4, 5, 7, 8, 4, 6, 7, 8, 8, 9])
    found = compare_distributions(values[:6], values[6:])

    def distance(ours: tuple[int, ...]) -> float:
        theirs = np.delete(values, ours)
        gaps = [(values[list(ours)] <= x).mean() - (theirs <= x).mean() for x in values]
        return float(np.square(gaps).mean())

    every = [distance(ours) for ours in itertools.combinations(range(12), 6)]
    exact = np.mean([d >= every[0] - 1e-12 for d in every])
    assert found.distance == pytest.approx(every[0])
    assert found.p_value is not None
    assert 0.05 < exact < 0.5
    assert found.p_value == pytest.approx(exact, abs=4 * np.sqrt(exact / 9_999))


def test_equal_arms_are_rejected_as_often_as_they_should_be() -> None:
    rng = np.random.default_rng(0)
    p = [
        compare_distributions(rng.poisson(10, 30), rng.poisson(10, 20), seed=trial).p_value
        for trial in range(60)
    ]
    assert sum(value <= 0.2 for value in p if value is not None) <= 21  # 12 +- 3 sd of 3.1
    assert sum(value <= 0.5 for value in p if value is not None) >= 19  # 30 - 3 sd of 3.9


def test_clusters_not_canvases_are_independent() -> None:
    rng = np.random.default_rng(1)
    prompts = np.repeat(np.arange(12), 5)
    rejected = {"clustered": 0, "independent": 0}
    for trial in range(30):
        ours, theirs = (
            np.clip(np.repeat(rng.normal(20, 6, 12), 5) + rng.normal(0, 1, 60), 1, 48).round()
            for _ in range(2)
        )
        clustered = compare_distributions(ours, theirs, prompts, prompts, seed=trial)
        independent = compare_distributions(ours, theirs, seed=trial)
        assert clustered.p_value is not None
        assert independent.p_value is not None
        assert (clustered.units_candidate, independent.units_candidate) == (12, 60)
        rejected["clustered"] += clustered.p_value <= 0.05
        rejected["independent"] += independent.p_value <= 0.05
    assert rejected["clustered"] <= 5  # 1.5 +- 3 sd of 1.2
    assert rejected["independent"] >= 10


def test_a_second_mode_is_seen_where_mean_and_median_are_not() -> None:
    rng = np.random.default_rng(2)
    one = rng.binomial(48, 0.5, size=150)
    two = np.concatenate([rng.binomial(48, 0.3, 75), rng.binomial(48, 0.7, 75)])
    found = compare_distributions(two, one)
    assert found.p_value is not None
    assert found.p_value <= 0.001
    assert abs(found.cliffs_delta) < 0.15


def test_more_steps_are_seen_and_signed() -> None:
    rng = np.random.default_rng(3)
    found = compare_distributions(rng.poisson(14, 80), rng.poisson(11, 80))
    assert found.p_value is not None
    assert found.p_value <= 0.001
    assert found.superiority > 0.6
    assert found.median_shift > 0
    assert found.mean_shift_interval is None


def test_pairing_by_prompt_sees_what_prompts_hide() -> None:
    rng = np.random.default_rng(4)
    prompts = np.repeat(np.arange(30), 3)
    level = np.repeat(rng.normal(24, 8, 30), 3)
    ours, theirs = (np.round(level + shift + rng.normal(0, 1, 90)) for shift in (1.5, 0.0))
    paired = compare_paired_distributions(ours, theirs, prompts, prompts)
    unpaired = compare_distributions(ours, theirs, prompts, prompts)
    assert paired.p_value is not None
    assert unpaired.p_value is not None
    assert paired.p_value <= 0.001
    assert unpaired.p_value > 0.1
    assert paired.mean_shift_interval is not None
    assert paired.mean_shift_interval[0] <= 1.5 <= paired.mean_shift_interval[1]
    assert paired.superiority > 0.8
    assert paired.units_candidate == 30


def test_pairs_are_means_of_a_prompt_in_any_order() -> None:
    found = compare_paired_distributions(
        [4, 8, 5, *range(10, 17)],
        [5, 3, *range(9, 16)],
        ["a", "a", "b", *"cdefghi"],
        ["b", "a", *"cdefghi"],
    )
    differences = np.array([3.0, 0.0] + [1.0] * 7)
    assert found.mean_shift == pytest.approx(differences.mean())
    assert found.median_shift == 1.0
    assert found.superiority == pytest.approx((8 + 0.5) / 9)
    assert found.p_value == sign_flip_p_value(differences)
    assert (found.n_candidate, found.n_baseline, found.units_baseline) == (10, 9, 9)


def test_too_few_units_give_no_p() -> None:
    assert compare_distributions([1, 2, 3], [4, 5, 6, 7]).p_value is None
    assert compare_distributions([1, 2, 3, 4], [4, 5, 6, 7]).p_value is not None
    seven = np.arange(7)
    assert compare_paired_distributions(seven, seven + 1, seven, seven).p_value is None


def test_nonsense_is_refused() -> None:
    with pytest.raises(ValueError, match="baseline has 0 values"):
        compare_distributions([1], [])
    with pytest.raises(ValueError, match="candidate nan must be finite"):
        compare_distributions([np.nan], [1])
    with pytest.raises(ValueError, match="candidate 2, candidate's cluster 1"):
        compare_distributions([1, 2], [1], [0], [0])
    with pytest.raises(ValueError, match="prompt b is in one arm only"):
        compare_paired_distributions([1, 2], [1, 2], ["a", "b"], ["a", "c"])
