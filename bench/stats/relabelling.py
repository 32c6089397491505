"""How often a rule cries wolf and how often it sleeps, from recorded blocks of A and A.

Both halves of an A/A block are the same code, so which half is called the candidate is free. Every
run of contiguous blocks of a batch, with labels swapped at random inside its blocks, is a
comparison without a difference; whatever a rule finds there is a false alarm. The same comparisons
with the candidate's times multiplied have a known difference: what a rule finds there is its power.
Comparisons share blocks and blocks share their batch, so neither is a sample of independent cases;
how many batches there were stands beside every rate.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from bench.stats.checks import in_range
from bench.stats.sequential import Plan, sequential_outcomes
from bench.stats.verdict import Status

_SEED = 20_000
_LABELLINGS = 8
Rule = Callable[["Comparisons"], np.ndarray]
"""From comparisons to (comparisons,) statuses as strings."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """A/A blocks in the order they were measured.

    Attributes:
        logs: (blocks, 4) logs of a time, each block's in the order it was measured; the pairs are
            its first two and its last two.
        batch: (blocks,) which of the recordings, made at different times, each belongs to.

    Raises:
        ValueError: other shapes, or a value that is not finite.
    """

    logs: np.ndarray
    batch: np.ndarray

    def __post_init__(self) -> None:
        if self.logs.ndim != 2 or self.logs.shape[1] != 4 or len(self.batch) != len(self.logs):
            raise ValueError(
                f"blocks have the shapes {self.logs.shape} and {self.batch.shape}; "
                "they must be (blocks, 4) and (blocks,)"
            )
        if not np.isfinite(self.logs).all():
            raise ValueError("a block holds a value that is not finite")

    @classmethod
    def of(cls, seconds: ArrayLike, batch: ArrayLike) -> "Blocks":
        """From times, positive."""
        times = np.asarray(seconds, dtype=float)
        if not (times > 0).all():
            raise ValueError("a block holds a time that is not positive")
        return cls(np.log(times), np.asarray(batch))

    @property
    def num_batches(self) -> int:
        return len(np.unique(self.batch))

    def halves(self) -> tuple["Blocks", "Blocks"]:
        """The first and the second half of every batch: one to choose bounds on, one to report."""
        first = np.zeros(len(self.batch), dtype=bool)
        for name in np.unique(self.batch):
            own = np.flatnonzero(self.batch == name)
            first[own[: len(own) // 2]] = True
        return tuple(  # type: ignore[return-value]
            Blocks(self.logs[kept], self.batch[kept]) for kept in (first, ~first)
        )


@dataclass(frozen=True, slots=True)
class Comparisons:
    """Logs of a time in both arms, (comparisons, pairs) each."""

    candidate: np.ndarray
    baseline: np.ndarray
    num_batches: int

    @property
    def log_ratios(self) -> np.ndarray:
        return np.asarray(self.candidate - self.baseline)

    def slowed(self, factor: float) -> "Comparisons":
        """The same, with the candidate's times multiplied.

        Raises:
            ValueError: a factor of 0 or less.
        """
        in_range("factor", factor, 0, np.inf)
        return Comparisons(self.candidate + np.log(factor), self.baseline, self.num_batches)


def relabelled(
    blocks: Blocks, num_pairs: int, labellings: int = _LABELLINGS, seed: int = _SEED
) -> Comparisons:
    """Comparisons of every run of contiguous blocks of a batch, under random labels each.

    Args:
        num_pairs: of a comparison, even: two a block.
        labellings: of each run of blocks.

    Raises:
        ValueError: an odd number of pairs, or no batch with blocks enough.
    """
    if num_pairs < 2 or num_pairs % 2:
        raise ValueError(f"{num_pairs} pairs; an ABBA block makes two, so they must be even")
    width = num_pairs // 2
    windows = [
        blocks.logs[own[begin : begin + width]]
        for own in (np.flatnonzero(blocks.batch == name) for name in np.unique(blocks.batch))
        for begin in range(len(own) - width + 1)
    ]
    if not windows:
        raise ValueError(f"no batch has the {width} blocks that {num_pairs} pairs need")
    stacked = np.repeat(np.stack(windows), labellings, axis=0)  # (comparisons, width, 4)
    rng = np.random.default_rng(seed)
    swapped = rng.integers(0, 2, size=(*stacked.shape[:2], 1)).astype(bool)
    # In the order ABBA the candidate's are the inner two of a block, in BAAB the outer two.
    inner, outer = stacked[:, :, [1, 2]], stacked[:, :, [0, 3]]
    candidate, baseline = np.where(swapped, outer, inner), np.where(swapped, inner, outer)
    shape = len(stacked), num_pairs
    return Comparisons(candidate.reshape(shape), baseline.reshape(shape), blocks.num_batches)


def sequential_rule(plan: Plan) -> Rule:
    """This project's: pairs in tens, a verdict against a bound."""

    def found(given: Comparisons) -> np.ndarray:
        return sequential_outcomes(given.log_ratios, plan)[0]

    return found


def fixed_ratio_rule(threshold: float) -> Rule:
    """The usual one: the ratio of the arms' means against a fixed threshold, and no test."""
    in_range("threshold", threshold, 0, np.inf)

    def found(given: Comparisons) -> np.ndarray:
        ratio = np.exp(given.candidate).mean(axis=1) / np.exp(given.baseline).mean(axis=1)
        return _statuses(ratio > 1 + threshold, ratio < 1 / (1 + threshold))

    return found


def mann_whitney_rule(alpha: float = 0.05) -> Rule:
    """A plain test of ranks, pairs ignored, and no bound."""
    in_range("alpha", alpha, 0, 1)

    def found(given: Comparisons) -> np.ndarray:
        tested = scipy.stats.mannwhitneyu(given.candidate, given.baseline, axis=1)
        above = np.median(given.candidate, axis=1) > np.median(given.baseline, axis=1)
        rejected = np.asarray(tested.pvalue) <= alpha
        return _statuses(rejected & above, rejected & ~above)

    return found


def _statuses(worse: np.ndarray, better: np.ndarray) -> np.ndarray:
    return np.select(
        [worse, better],
        [Status.REGRESSION.value, Status.IMPROVEMENT.value],
        Status.EQUIVALENT.value,
    )


@dataclass(frozen=True, slots=True)
class RuleRates:
    """Shares of comparisons.

    Attributes:
        false_alarms: REGRESSION or IMPROVEMENT where there is no difference.
        equivalent: EQUIVALENT there.
        power: REGRESSION of the slowed candidate.
        silent: EQUIVALENT or IMPROVEMENT of it: a slowdown let through.
        comparisons, num_batches: what the shares are of.
    """

    false_alarms: float
    equivalent: float
    power: float
    silent: float
    comparisons: int
    num_batches: int


def rule_rates(rule: Rule, same: Comparisons, slowdown: float = 1.05) -> RuleRates:
    """What a rule does with comparisons without a difference, and with them slowed."""
    none, slowed = rule(same), rule(same.slowed(slowdown))
    return RuleRates(
        false_alarms=_share(none, (Status.REGRESSION, Status.IMPROVEMENT)),
        equivalent=_share(none, (Status.EQUIVALENT,)),
        power=_share(slowed, (Status.REGRESSION,)),
        silent=_share(slowed, (Status.EQUIVALENT, Status.IMPROVEMENT)),
        comparisons=len(none),
        num_batches=same.num_batches,
    )


def pooled_rates(parts: Sequence[RuleRates], weights: Sequence[float]) -> RuleRates:
    """Rates over comparisons of several batches: averages with these weights.

    Raises:
        ValueError: no part.
    """
    if not parts:
        raise ValueError("no rates to pool")

    def share(name: str) -> float:
        return float(np.average([getattr(part, name) for part in parts], weights=weights))

    return RuleRates(
        **{name: share(name) for name in ("false_alarms", "equivalent", "power", "silent")},
        comparisons=sum(part.comparisons for part in parts),
        num_batches=sum(part.num_batches for part in parts),
    )


def _share(statuses: np.ndarray, wanted: Sequence[Status]) -> float:
    return float(np.isin(statuses, [status.value for status in wanted]).mean())
