"""Rules on recorded A/A blocks: labels swapped inside blocks, drift cancelled, rates told."""

import numpy as np
import pytest

from bench.stats import (
    Blocks,
    Plan,
    fixed_ratio_rule,
    mann_whitney_rule,
    relabelled,
    rule_rates,
    sequential_rule,
)

PLAN = Plan(looks=(10, 20), bound=0.02)


def recorded(spread: float, drift: float = 0.0, blocks: int = 90, seed: int = 0) -> Blocks:
    """Three batches of blocks, each at its own level, drifting within."""
    rng = np.random.default_rng(seed)
    batch = np.repeat(np.arange(3), blocks // 3)
    trend = drift * np.tile(np.arange(blocks // 3 * 4), 3).reshape(-1, 4)
    logs = rng.normal(0, spread, (blocks, 4)) + 0.1 * batch[:, None] + trend
    return Blocks.of(np.exp(logs), batch)


def test_pairs_are_those_of_abba() -> None:
    blocks = recorded(0.02, blocks=30)
    same = relabelled(blocks, 20)
    assert same.candidate.shape == (3 * 1 * 8, 20)
    for row, begin in ((0, 0), (8, 10), (16, 20)):
        times = np.exp(blocks.logs[begin : begin + 10])
        found = same.log_ratios[row].reshape(10, 2)
        for ratios, block in zip(found, times, strict=True):
            abba = np.log([block[1] / block[0], block[2] / block[3]])
            assert any(ratios == pytest.approx(each) for each in (abba, -abba))


def test_labels_are_swapped_for_whole_blocks_and_both_ways() -> None:
    same = relabelled(recorded(0.02, blocks=30), 20, labellings=40)
    first = same.log_ratios[:40].reshape(40, 10, 2)
    signs = np.sign(first / first[0])
    assert (signs[:, :, 0] == signs[:, :, 1]).all()
    assert 0.3 < (signs[1:, :, 0] > 0).mean() < 0.7


def test_no_comparison_spans_two_batches() -> None:
    """Their levels are 10 % apart, and no pair is."""
    assert np.abs(relabelled(recorded(0.001), 20).log_ratios).max() < 0.02


def test_a_steady_drift_is_no_false_alarm() -> None:
    """10 % over a batch: each pair moves by it, and an ABBA block's two pairs in turn."""
    rates = rule_rates(sequential_rule(PLAN), relabelled(recorded(0.004, drift=0.0008), 20))
    assert rates.false_alarms == 0
    assert rates.equivalent > 0.95


def test_rates_of_a_quiet_machine() -> None:
    rates = rule_rates(sequential_rule(PLAN), relabelled(recorded(0.01), 20))
    assert rates.false_alarms <= 0.01
    assert rates.equivalent >= 0.9
    assert rates.power >= 0.95
    assert rates.silent == 0
    assert (rates.comparisons, rates.num_batches) == (3 * 21 * 8, 3)


def test_a_noisy_machine_is_never_a_silent_pass() -> None:
    rates = rule_rates(sequential_rule(PLAN), relabelled(recorded(0.06), 20))
    assert rates.power < 0.95
    assert rates.silent <= 0.01
    assert rates.false_alarms <= 0.01


def test_no_rule_of_equal_power_has_fewer_false_alarms() -> None:
    rules = {
        "sequential": sequential_rule(PLAN),
        "3 %": fixed_ratio_rule(0.03),
        "5 %": fixed_ratio_rule(0.05),
        "10 %": fixed_ratio_rule(0.10),
        "Mann-Whitney": mann_whitney_rule(),
    }
    same = relabelled(recorded(0.015), 20)
    found = {name: rule_rates(rule, same) for name, rule in rules.items()}
    ours = found.pop("sequential")
    assert ours.power > 0.9
    for rates in found.values():
        if rates.power >= ours.power:
            assert ours.false_alarms <= rates.false_alarms
    assert found["10 %"].power == 0
    assert found["Mann-Whitney"].false_alarms > ours.false_alarms


def test_halves_share_no_block_and_keep_every_batch() -> None:
    blocks = recorded(0.01)
    first, second = blocks.halves()
    assert len(first.logs) == len(second.logs) == 45
    assert (first.num_batches, second.num_batches) == (3, 3)
    assert not {*first.logs[:, 0]} & {*second.logs[:, 0]}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Blocks.of(np.ones((3, 3)), [0, 0, 0]), r"must be \(blocks, 4\)"),
        (lambda: Blocks.of(np.zeros((1, 4)), [0]), "not positive"),
        (lambda: Blocks(np.full((1, 4), np.nan), np.zeros(1)), "not finite"),
        (lambda: relabelled(recorded(0.01), 9), "must be even"),
        (lambda: relabelled(recorded(0.01, blocks=30), 40), "no batch has the 20 blocks"),
        (lambda: relabelled(recorded(0.01), 20).slowed(0), "factor 0 must lie between"),
    ],
)
def test_what_is_wrong_is_named(make: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()  # type: ignore[operator]
