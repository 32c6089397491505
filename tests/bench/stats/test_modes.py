"""Two speeds between processes are told from a spread, and never pass for an answer."""

from collections import Counter

import numpy as np
import pytest

from bench.stats import Better, Status, two_speeds, unpaired_verdict

MARGIN = float(np.log1p(0.02))


def machine(rng: np.random.Generator, apart: float, n: int = 8) -> np.ndarray:
    """Times of processes on a machine with two speeds, tight within."""
    return 10 * np.exp(apart * rng.integers(0, 2, n) + rng.normal(0, 0.002, n))


def test_groups_are_found_and_said() -> None:
    logs = np.log([10.0, 10.01, 12.0, 9.99, 12.02, 10.02, 11.98, 12.01])
    found = two_speeds(logs, MARGIN)
    assert found is not None
    assert (found.n_low, found.n_high) == (4, 4)
    assert np.exp(found.high - found.low) == pytest.approx(1.2, rel=1e-3)
    assert "two speeds, 20.0 % apart (4 and 4 of 8)" in str(found)


@pytest.mark.parametrize(
    "times",
    [
        [10.0, 10.01, 10.02, 12.0],  # a single process is an outlier
        [10.0, 10.0, 10.1, 10.1],  # within the margin
        [10.0, 10.5, 11.0, 11.5, 12.0, 12.5],  # a spread
        [10.0, 12.0],
    ],
)
def test_no_groups(times: list[float]) -> None:
    assert two_speeds(np.log(times), MARGIN) is None


def test_a_normal_spread_seldom_looks_like_two_speeds() -> None:
    rng = np.random.default_rng(0)
    found = [two_speeds(rng.normal(0, 0.1, 8), 1e-6) is not None for _ in range(3000)]
    assert np.mean(found) < 0.015


@pytest.mark.parametrize("apart", [0.06, 0.12, 0.3])
def test_a_bimodal_machine_is_ambiguous(apart: float) -> None:
    """But for the draws in which no process of an arm, or all but one, got the second speed."""
    rng = np.random.default_rng(1)
    statuses = Counter(
        unpaired_verdict(machine(rng, apart), machine(rng, apart)).status for _ in range(400)
    )
    assert statuses[Status.AMBIGUOUS] >= 397


def test_ambiguity_names_the_speeds() -> None:
    rng = np.random.default_rng(3)
    found = unpaired_verdict(machine(rng, 0.12), machine(rng, 0.12))
    assert found.status is Status.AMBIGUOUS
    assert "two speeds" in found.reason


def test_a_slowdown_beyond_every_speed_is_found_all_the_same() -> None:
    base = 10 * np.exp(np.random.default_rng(4).normal(0, 0.002, 8))
    candidate = base * np.array([1.05, 1.2] * 4)
    assert unpaired_verdict(candidate, base).status is Status.REGRESSION
    assert unpaired_verdict(1 / candidate, 1 / base, better=Better.MORE).status is Status.REGRESSION


def test_single_slow_processes_are_not_equivalent() -> None:
    """Ranks do not see how far off they are."""
    rng = np.random.default_rng(5)
    arms = [10 * np.exp(rng.normal(0, 0.002, 8)) for _ in range(2)]
    assert unpaired_verdict(*arms).status is Status.EQUIVALENT
    for arm in arms:
        arm[3] *= 1.3
    found = unpaired_verdict(*arms)
    assert found.status is Status.AMBIGUOUS
    assert "single processes are far from the others" in found.reason
