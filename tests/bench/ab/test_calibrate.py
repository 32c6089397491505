"""Rules tried on made-up batches of A/A blocks, whose spreads are known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.ab.aa_blocks import read_recorded
from bench.ab.calibrate import Calibrated, calibrate, equal_alpha, equal_threshold
from bench.ab.calibration import calibration_json, markdown
from bench.ab.record import COLUMNS
from bench.comparison.metrics import METRICS
from bench.stats import Better, fixed_ratio_rule, mann_whitney_rule, relabelled, rule_rates
from tests.bench.comparison.command import Command

QUIET, BUSY = 0.006, 0.05


def write_batch(
    folder: Path,
    batch: str,
    spread: float,
    *,
    blocks: int = 28,
    metrics: tuple[str, ...] = ("step_ms",),
    seed: int = 0,
    **column: str,
) -> pd.DataFrame:
    """A batch whose processes differ by chance alone."""
    rng = np.random.default_rng([seed, *batch.encode()])
    keys = {
        "batch": batch,
        "condition": "made up",
        "point": "diffusion-fp32",
        "started": "2026-11-26T08:00:00+00:00",
        "commit": "1" * 40,
        "dirty": False,
        "host": "host1",
        "config_hash": "abc",
        **column,
    }
    rows = pd.DataFrame(
        {**keys, "block": b, "place": p, "metric": m, "value": 5 * np.exp(rng.normal(0, spread))}
        for b in range(blocks)
        for p in range(4)
        for m in metrics
    )[list(COLUMNS)]
    folder.mkdir(exist_ok=True)
    rows.to_parquet(folder / f"{batch}.parquet", index=False)
    return rows


def calibrated(folder: Path) -> Calibrated:
    (found,) = calibrate(read_recorded(folder))
    return found


def test_a_quiet_machine_keeps_all_that_a_gate_is_to_keep(tmp_path: Path) -> None:
    for batch in ("a", "b", "c"):
        write_batch(tmp_path, batch, QUIET)
    found = calibrated(tmp_path)
    assert found.holds
    assert found.tuned is not None
    assert found.tuned < 0.02
    rates = found.parts[0].rates
    assert rates.false_alarms <= 0.01
    assert rates.equivalent >= 0.7
    assert rates.power == 1.0
    assert rates.silent == 0.0
    assert rates.num_batches == 3
    assert [part.batch for part in found.parts] == [None, "a", "b", "c"]
    assert [part.num_pairs for part in found.parts] == [20] * 4  # half of 28 blocks: two looks


def test_a_comparison_is_as_long_as_half_of_its_batch_allows(tmp_path: Path) -> None:
    """And a batch counts by its blocks: a short one does not shorten the others' comparisons."""
    write_batch(tmp_path, "a", QUIET, blocks=80)
    write_batch(tmp_path, "b", BUSY, blocks=12)
    whole, long, short = calibrated(tmp_path).parts
    assert [part.num_pairs for part in (whole, long, short)] == [40, 40, 10]
    # Half of 80 blocks holds 21 runs of 20; half of 12 holds 2 runs of 5; 64 labellings each.
    assert [part.rates.comparisons for part in (long, short)] == [21 * 64, 2 * 64]
    assert whole.rates.comparisons == 23 * 64
    expected = (40 * long.rates.equivalent + 6 * short.rates.equivalent) / 46
    assert whole.rates.equivalent == pytest.approx(expected)
    assert short.rates.equivalent < 0.5 < long.rates.equivalent


def test_what_is_detectable_is_the_smallest_effect_told_from_none(tmp_path: Path) -> None:
    """About 3 standard errors of a mean of 20 pairs, sd sqrt(2) of a process's."""
    write_batch(tmp_path, "a", QUIET, blocks=80)
    found = calibrated(tmp_path).parts[0]
    assert found.detectable == pytest.approx(3.1 * QUIET * 2**0.5 / 40**0.5, rel=0.2)
    assert found.called_regression is not None
    assert found.detectable is not None
    assert found.called_regression > found.detectable + found.bound


def test_where_a_slowdown_cannot_be_seen_nothing_passes_silently(tmp_path: Path) -> None:
    """A busy batch beside a quiet one: no EQUIVALENT of what is 5 % slower."""
    write_batch(tmp_path, "a", QUIET)
    write_batch(tmp_path, "b", BUSY)
    found = calibrated(tmp_path)
    busy = next(part for part in found.parts if part.batch == "b")
    assert busy.detectable is not None
    assert busy.detectable > 0.03
    assert busy.rates.silent == 0.0
    assert busy.rates.power < 0.95
    assert not busy.sleeps
    assert not found.holds  # too few answers where nothing changed


def test_without_any_bound_the_default_is_shown(tmp_path: Path) -> None:
    write_batch(tmp_path, "a", BUSY)
    found = calibrated(tmp_path)
    assert found.tuned is None
    assert found.bound == 0.02
    assert not found.holds


def test_a_tuned_bound_comes_from_the_first_half_alone(tmp_path: Path) -> None:
    """The second half is of another machine, and the bound does not know it."""
    quiet = write_batch(tmp_path, "a", QUIET)
    alone = calibrated(tmp_path).tuned
    busy = write_batch(tmp_path, "a", BUSY)
    mixed = pd.concat([quiet[quiet["block"] < 14], busy[busy["block"] >= 14]])
    mixed.to_parquet(tmp_path / "a.parquet", index=False)
    found = calibrated(tmp_path)
    assert found.tuned == alone
    assert not found.holds


def test_the_bound_is_the_middle_of_those_that_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tightest is too tight for any answer; of the other three it is neither end."""
    monkeypatch.setattr("bench.ab.calibrate.BOUNDS", (0.0001, 0.02, 0.025, 0.03))
    write_batch(tmp_path, "a", QUIET)
    assert calibrated(tmp_path).tuned == 0.025


def test_a_rate_is_turned_into_a_time(tmp_path: Path) -> None:
    """Slower is worse in both: the rule asks for less, whatever the metric."""
    write_batch(tmp_path, "a", QUIET, metrics=("step_ms", "delivered_tok_per_s"))
    recorded = read_recorded(tmp_path)
    assert recorded.series == [
        ("diffusion-fp32", "delivered_tok_per_s"),
        ("diffusion-fp32", "step_ms"),
    ]
    assert METRICS["delivered_tok_per_s"].better is Better.MORE
    rows = recorded.rows
    values = rows[rows["metric"] == "delivered_tok_per_s"]["value"].to_numpy().reshape(-1, 4)
    blocks = recorded.blocks("diffusion-fp32", "delivered_tok_per_s")
    assert blocks.logs == pytest.approx(-np.log(values))


@pytest.mark.parametrize("power", [0.5, 0.8])
def test_other_rules_are_made_as_powerful(tmp_path: Path, power: float) -> None:
    """At least so, and a little further off they are not."""
    write_batch(tmp_path, "a", BUSY)
    same = relabelled(read_recorded(tmp_path).blocks("diffusion-fp32", "step_ms"), 20, 64)
    threshold, alpha = equal_threshold([same], [1], power), equal_alpha([same], [1], power)
    assert rule_rates(fixed_ratio_rule(threshold), same).power >= power
    assert rule_rates(fixed_ratio_rule(threshold + 0.005), same).power < power
    assert rule_rates(mann_whitney_rule(alpha), same).power >= power
    assert rule_rates(mann_whitney_rule(alpha / 2), same).power < power


def test_no_rule_of_equal_power_may_have_fewer_false_alarms(tmp_path: Path) -> None:
    for batch in ("a", "b"):
        write_batch(tmp_path, batch, 0.02)
    found = calibrated(tmp_path)
    ours = found.rules[0]
    equals = [rule for rule in found.rules if rule.equal_power]
    assert len(equals) == 2
    assert all(rule.rates.power >= ours.rates.power - 1e-9 for rule in equals)
    worse = replace(ours, rates=replace(ours.rates, false_alarms=1.0))
    assert not replace(found, rules=(worse, *found.rules[1:])).beats_equals


def test_the_page_says_batches_rates_and_rules(tmp_path: Path) -> None:
    write_batch(tmp_path, "a", QUIET)
    write_batch(tmp_path, "b", QUIET, started="2026-11-26T10:00:00+00:00", condition="a load")
    recorded = read_recorded(tmp_path)
    found = calibrate(recorded)
    page = markdown(recorded, found)
    assert "2 independent batches" in page
    assert "| b | a load | 2026-11-26T10:00 to 10:00 | 28 | 111111111111 |" in page
    assert "## step_ms of diffusion-fp32: kept" in page
    for rule in ("fixed 3 %", "fixed 5 %", "fixed 10 %", "Mann-Whitney, 5 %", "as powerful"):
        assert rule in page
    plain = json.loads(json.dumps(calibration_json(recorded, found), allow_nan=False))
    assert plain["metrics"][0]["rules"][0]["rates"]["num_batches"] == 2
    assert plain["metrics"][0]["holds"] is True


def test_the_verb_prints_writes_and_exits(tmp_path: Path, canvasbench: Command) -> None:
    folder, page, pairs = tmp_path / "aa", tmp_path / "page.md", tmp_path / "aa.json"
    write_batch(folder, "a", QUIET)
    given = ("--markdown", page, "--pairs", pairs)
    done = canvasbench("aa", "calibrate", folder, *given, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert page.read_text().strip() == done.stdout.strip()
    assert len(json.loads(pairs.read_text())["log_ratios"]["step_ms"]) == 56
    write_batch(folder, "b", BUSY)
    assert canvasbench("aa", "calibrate", folder, "--json", cwd=tmp_path).returncode == 1


def test_what_cannot_be_judged_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no batch; `canvasbench aa record` makes one"):
        read_recorded(tmp_path)
    rows = write_batch(tmp_path, "a", QUIET, blocks=9)
    with pytest.raises(ValueError, match="batch a has 9 blocks, half of which make 8 pairs; 10"):
        calibrate(read_recorded(tmp_path))
    write_batch(tmp_path, "b", QUIET, host="host2")
    with pytest.raises(ValueError, match="batches of 2 machines"):
        read_recorded(tmp_path)
    write_batch(tmp_path, "b", QUIET, config_hash="other")
    with pytest.raises(ValueError, match="other configurations of diffusion-fp32"):
        read_recorded(tmp_path)
    rows.drop(columns="place").to_parquet(tmp_path / "b.parquet")
    with pytest.raises(
        ValueError, match=r"b\.parquet is no batch of A/A blocks: .* no column place"
    ):
        read_recorded(tmp_path)
    rows[rows["place"] < 3].to_parquet(tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="a block of fewer than 4 places"):
        read_recorded(tmp_path)
    (tmp_path / "b.parquet").write_text("x")
    with pytest.raises(ValueError, match="truncated or no parquet file"):
        read_recorded(tmp_path)
