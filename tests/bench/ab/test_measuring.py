"""Pairs of processes, their log-ratios, and when they have told enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bench.ab.arm import Arm
from bench.ab.blocks import Place, block_orders
from bench.ab.measuring import Measuring, Pairs, verdict_so_far
from bench.ab.prepared import AskedPoint, Prepared
from bench.ab.source import Source
from bench.budget import Budget
from bench.comparison.metrics import METRICS
from bench.stats import GoOn, Status, Verdict

STEP = METRICS["step_ms"]
RATE = METRICS["delivered_tok_per_s"]


def pairs_of(baseline: np.ndarray, candidate: np.ndarray, metric: str = "step_ms") -> Pairs:
    pairs = Pairs()
    for arm, values in (("baseline", baseline), ("candidate", candidate)):
        for pair, value in enumerate(values):
            pairs.add(arm, "p", pair, {metric: float(value)})
    return pairs


def test_a_pair_of_which_one_half_failed_is_left_out() -> None:
    pairs = pairs_of(np.array([1.0, 2.0, 4.0]), np.array([2.0]))
    pairs.add("candidate", "p", 2, {"step_ms": 2.0})
    assert pairs.log_ratios("p", "step_ms") == pytest.approx(np.log([2.0, 0.5]))


def test_a_rate_is_worse_where_it_is_less() -> None:
    drawn = np.exp(np.random.default_rng(0).normal(0, 0.003, (2, 10)))
    slower = verdict_so_far(pairs_of(drawn[0], drawn[1] * 0.9, RATE.name), "p", RATE, 0.02)
    assert isinstance(slower, Verdict)
    assert slower.status is Status.REGRESSION
    longer = verdict_so_far(pairs_of(drawn[0], drawn[1] * 0.9), "p", STEP, 0.02)
    assert isinstance(longer, Verdict)
    assert longer.status is Status.IMPROVEMENT


def test_before_the_first_look_there_is_no_verdict() -> None:
    ones = np.ones(8)
    found = verdict_so_far(pairs_of(ones, 2 * ones), "p", STEP, 0.02)
    assert isinstance(found, GoOn)
    assert found.so_far.status is Status.INSUFFICIENT_DATA


@pytest.mark.parametrize("apart", [0.1, 0.4])
def test_a_machine_of_two_speeds_stays_without_a_verdict(apart: float) -> None:
    """Each process is fast or slow by chance, in both arms alike, and tight within."""
    rng = np.random.default_rng(0)
    statuses = set()
    for _ in range(20):
        logs = apart * rng.integers(0, 2, (2, 40)) + rng.normal(0, 0.001, (2, 40))
        found = verdict_so_far(pairs_of(*np.exp(logs)), "p", STEP, 0.02)
        assert isinstance(found, Verdict)
        statuses.add(found.status)
    assert statuses == {Status.AMBIGUOUS}


def test_blocks_are_abba_or_baab_and_pairs_are_neighbours() -> None:
    orders = block_orders(seed=0)
    blocks = [next(orders) for _ in range(50)]
    for number, block in enumerate(blocks):
        first, second, third, last = (place.is_candidate for place in block)
        assert (first, second) == (last, third)
        assert first != second
        assert [place.pair for place in block] == [2 * number, 2 * number, *[2 * number + 1] * 2]
    starts = [block[0].is_candidate for block in blocks]
    assert 15 < sum(starts) < 35


@dataclass
class Blocks:
    """Blocks of which each takes 20 s by its own clock, and no metric ever has a verdict."""

    patch: pytest.MonkeyPatch
    seconds: float = 0.0

    def measured(self, budget_s: float) -> Measuring:
        self.patch.setattr("time.monotonic", lambda: self.seconds)
        point = AskedPoint("p", "hash", {})
        arm = Arm("candidate", Source("here", Path(), "0" * 40, dirty=False), Path("python"))
        made = Measuring(
            arms={"candidate": Prepared(arm, (point,), {})},
            folders={},
            by_process=[STEP],
            bound=0.02,
            budget=Budget(budget_s, _begin=0.0),
            seed=0,
            log=Path("log"),
            say=lambda line: None,
        )

        def measure(self_: Measuring, pair: Sequence[Place]) -> None:
            self.seconds += 10
            for arm, value in (
                ("baseline", 1.0),
                ("candidate", 1.2 if pair[0].pair % 2 else 1 / 1.2),
            ):
                made.pairs.add(arm, "p", pair[0].pair, {"step_ms": value})

        self.patch.setattr(Measuring, "_measure", measure)
        return made


@pytest.mark.parametrize(
    ("budget_s", "pairs", "stopped"),
    [
        (99, 2, "the next look is out of reach: 10 pairs need --budget 2m"),
        (101, 10, "the next look is out of reach: 20 pairs need --budget 4m"),
        (1000, 40, "every metric has its verdict"),
    ],
)
def test_no_time_goes_into_pairs_that_no_look_will_see(
    monkeypatch: pytest.MonkeyPatch, budget_s: float, pairs: int, stopped: str
) -> None:
    """A block is two pairs and 20 s; looks are at 10, 20, 30 and 40 pairs."""
    measuring = Blocks(monkeypatch).measured(budget_s)
    assert measuring.run() == stopped
    assert 2 * measuring.pairs.blocks == pairs
