"""How often a comparison on this machine cries wolf, and how often it sleeps: from A/A blocks.

The first half of every batch chooses the bound, the second half is reported. Each run of contiguous
blocks of a batch, labels swapped at random inside its blocks, is a comparison without a difference;
with the candidate's times x 1.05 it is one with a slowdown (`bench.stats.relabelling`). A
comparison is as long as half of its batch allows, and a batch counts by its blocks, however many
comparisons they make. Beside the sequential rule stand the usual ones, and each of those once more,
made exactly as powerful.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from bench.ab.aa_blocks import Recorded, pair_log_ratios
from bench.ab.measuring import LOOKS
from bench.stats import (
    DEFAULT_BOUND,
    Blocks,
    Comparisons,
    Plan,
    Rule,
    RuleRates,
    fixed_ratio_rule,
    mann_whitney_rule,
    minimum_detectable_effect,
    nominal_levels,
    pooled_rates,
    relabelled,
    rule_rates,
    sequential_rule,
)

SLOWDOWN = 1.05
MAX_FALSE_ALARMS = 0.01
MIN_EQUIVALENT = 0.70
MIN_POWER = 0.95
DETECTABLE = 0.03
"""Where no more than this is detectable, the power is asked for; elsewhere only that none slips."""
BOUNDS = (0.005, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03)
FIXED = (0.03, 0.05, 0.10)
_LABELLINGS = 64
_SMALLEST = 1e-6


@dataclass(frozen=True, slots=True)
class RuleFound:
    """A rule with its rates on the reported half.

    Attributes:
        equal_power: its threshold was chosen on these comparisons for the sequential rule's power.
    """

    name: str
    rates: RuleRates
    equal_power: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """The sequential rule on one batch, or on all.

    Attributes:
        batch: None is all of them, each counted by its blocks.
        bound: of the rule.
        num_pairs: most a comparison.
        detectable: smallest change that as many pairs tell from none with power 0.8 (a share).
    """

    batch: str | None
    rates: RuleRates
    num_pairs: int
    bound: float
    detectable: float | None

    @property
    def called_regression(self) -> float | None:
        """Smallest slowdown that lies beyond the bound with power 0.8."""
        return None if self.detectable is None else (1 + self.bound) * (1 + self.detectable) - 1

    @property
    def sleeps(self) -> bool:
        """A slowdown got through where it could not be seen, or was not caught where it could."""
        if self.detectable is not None and self.detectable <= DETECTABLE:
            return self.rates.power < MIN_POWER
        return self.rates.silent > 0


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A metric of a point.

    Attributes:
        tuned: the middle one of `BOUNDS` that the first halves allow; None where none does.
        bound: it, or the default where there is none; what the rates are of.
        parts: the whole first, then the batches as they were recorded.
        rules: the sequential first.
    """

    point: str
    metric: str
    tuned: float | None
    bound: float
    parts: tuple[Part, ...]
    rules: tuple[RuleFound, ...]

    @property
    def holds(self) -> bool:
        """Whether the rule kept what a gate is to keep, on the reported half."""
        rates = self.parts[0].rates
        return (
            self.tuned is not None
            and rates.false_alarms <= MAX_FALSE_ALARMS
            and rates.equivalent >= MIN_EQUIVALENT
            and not any(part.sleeps for part in self.parts[1:])
            and self.beats_equals
        )

    @property
    def beats_equals(self) -> bool:
        """No rule of equal power has fewer false alarms."""
        own = self.rules[0].rates.false_alarms
        return all(own <= r.rates.false_alarms for r in self.rules if r.equal_power)


def calibrate(recorded: Recorded) -> list[Calibrated]:
    """Every metric of every point.

    Raises:
        ValueError: half of a batch has fewer blocks than the first look needs.
    """
    batches = list(recorded.batches["batch"])
    return [
        _calibrated(point, metric, recorded.blocks(point, metric), batches)
        for point, metric in recorded.series
    ]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Half of a batch, and the looks that a comparison of its blocks can have."""

    name: str
    blocks: Blocks
    looks: tuple[int, ...]

    @property
    def same(self) -> Comparisons:
        return relabelled(self.blocks, self.looks[-1], _LABELLINGS)

    def rule(self, bound: float) -> Rule:
        return sequential_rule(Plan(looks=self.looks, bound=bound))


def looks_for(batch: str, num_blocks: int) -> tuple[int, ...]:
    """The rule's looks that half of a batch has pairs for.

    Raises:
        ValueError: not even the first.
    """
    pairs = 2 * (num_blocks // 2)
    found = tuple(look for look in LOOKS if look <= pairs)
    if not found:
        raise ValueError(
            f"batch {batch} has {num_blocks} blocks, half of which make {pairs} pairs;"
            f" {LOOKS[0]} are needed"
        )
    return found


def _calibrated(point: str, metric: str, blocks: Blocks, names: Sequence[str]) -> Calibrated:
    looks = {name: looks_for(name, int((blocks.batch == name).sum())) for name in names}
    tuning, reported = (
        [_batch(half, name, looks[name]) for name in names] for half in blocks.halves()
    )
    tuned = _tuned(tuning)
    bound = DEFAULT_BOUND if tuned is None else tuned
    same = [batch.same for batch in reported]
    parts = [
        _part(batch.name, rule_rates(batch.rule(bound), own, SLOWDOWN), bound, batch)
        for batch, own in zip(reported, same, strict=True)
    ]
    weights = [len(batch.blocks.logs) for batch in reported]
    ours = pooled_rates([part.rates for part in parts], weights)
    longest = max(reported, key=lambda batch: batch.looks[-1]).looks
    whole = _part(None, ours, bound, _Batch("", blocks.halves()[1], longest))
    name = f"sequential, bound {100 * bound:g} %"
    rules = (RuleFound(name, ours), *_others(same, weights, ours.power))
    return Calibrated(point, metric, tuned, bound, (whole, *parts), rules)


def _batch(half: Blocks, name: str, looks: tuple[int, ...]) -> _Batch:
    own = half.batch == name
    return _Batch(name, Blocks(half.logs[own], half.batch[own]), looks)


def _part(name: str | None, rates: RuleRates, bound: float, batch: _Batch) -> Part:
    pairs, level = batch.looks[-1], nominal_levels(batch.looks)[-1]
    detectable = minimum_detectable_effect(pair_log_ratios(batch.blocks), pairs, level=level)
    return Part(name, rates, pairs, bound, detectable)


def _tuned(batches: Sequence[_Batch]) -> float | None:
    """The middle of the bounds at which false alarms are few and most comparisons get an answer.

    At the tightest of them just enough get one, which other blocks are as likely to miss as to
    keep; the widest forgives the most.
    """
    same = [batch.same for batch in batches]
    weights = [len(batch.blocks.logs) for batch in batches]
    enough = []
    for bound in BOUNDS:
        found = pooled_rates(
            [
                rule_rates(batch.rule(bound), own, SLOWDOWN)
                for batch, own in zip(batches, same, strict=True)
            ],
            weights,
        )
        if found.false_alarms <= MAX_FALSE_ALARMS and found.equivalent >= MIN_EQUIVALENT:
            enough.append(bound)
    return enough[(len(enough) - 1) // 2] if enough else None


def _others(same: Sequence[Comparisons], weights: Sequence[float], power: float) -> list[RuleFound]:
    """The usual rules, and the two kinds of them with the power given."""
    threshold, alpha = equal_threshold(same, weights, power), equal_alpha(same, weights, power)

    def found(name: str, rule: Rule, *, equal_power: bool = False) -> RuleFound:
        rates = pooled_rates([rule_rates(rule, own, SLOWDOWN) for own in same], weights)
        return RuleFound(name, rates, equal_power)

    return [
        *(found(f"fixed {100 * t:g} %", fixed_ratio_rule(t)) for t in FIXED),
        found("Mann-Whitney, 5 %", mann_whitney_rule()),
        found(
            f"fixed {100 * threshold:.3g} %, as powerful",
            fixed_ratio_rule(threshold),
            equal_power=True,
        ),
        found(
            f"Mann-Whitney, {100 * alpha:.3g} %, as powerful",
            mann_whitney_rule(alpha),
            equal_power=True,
        ),
    ]


def equal_threshold(same: Sequence[Comparisons], weights: Sequence[float], power: float) -> float:
    """The largest fixed threshold that catches at least this share of the slowed comparisons.

    Args:
        weights: of each batch's comparisons together.
    """
    ratios = [
        np.exp(slowed.candidate).mean(axis=1) / np.exp(slowed.baseline).mean(axis=1) - 1
        for slowed in (own.slowed(SLOWDOWN) for own in same)
    ]
    return max(_SMALLEST, _reached(ratios, weights, power) - _SMALLEST)


def equal_alpha(same: Sequence[Comparisons], weights: Sequence[float], power: float) -> float:
    """The smallest level at which Mann-Whitney catches at least this share of them."""
    levels = []
    for slowed in (own.slowed(SLOWDOWN) for own in same):
        p = np.asarray(scipy.stats.mannwhitneyu(slowed.candidate, slowed.baseline, axis=1).pvalue)
        above = np.median(slowed.candidate, axis=1) > np.median(slowed.baseline, axis=1)
        levels.append(-np.where(above, p, 1.0))
    return float(np.clip(-_reached(levels, weights, power), _SMALLEST, 1 - _SMALLEST))


def _reached(values: Sequence[np.ndarray], weights: Sequence[float], share: float) -> float:
    """The largest value that at least this share of them reaches."""
    each = np.concatenate(
        [np.full(len(v), w / len(v)) for v, w in zip(values, weights, strict=True)]
    )
    all_values = np.concatenate(values)
    downwards = np.argsort(-all_values, kind="stable")
    reached = np.cumsum(each[downwards]) / each.sum()
    first = int(np.searchsorted(reached, share - 1e-9))
    return float(all_values[downwards][min(first, len(all_values) - 1)])
