"""How often a comparison on this machine cries wolf, and how often it sleeps: from A/A blocks.

The first half of every batch chooses the bound, the second half is reported. Each run of contiguous
blocks of a batch, labels swapped at random inside its blocks, is a comparison without a difference;
with the candidate's times x 1.05 it is one with a slowdown (`bench.stats.relabelling`). Beside the
sequential rule stand the usual ones, and each of those once more, made exactly as powerful.
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
    RuleRates,
    fixed_ratio_rule,
    mann_whitney_rule,
    minimum_detectable_effect,
    nominal_levels,
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
        batch: None is all of them.
        bound: of the rule.
        detectable: smallest change that as many pairs tell from none with power 0.8 (a share).
    """

    batch: str | None
    rates: RuleRates
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
        tuned: smallest bound of `BOUNDS` that the first halves allow; None where none does.
        bound: it, or the default where there is none; what the rates are of.
        num_pairs: most a comparison.
        parts: the whole first, then the batches as they were recorded.
        rules: the sequential first.
    """

    point: str
    metric: str
    tuned: float | None
    bound: float
    num_pairs: int
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


def looks_for(blocks: Blocks) -> tuple[int, ...]:
    """The rule's looks that half of every batch has pairs for.

    Raises:
        ValueError: not even the first.
    """
    names, counts = np.unique(blocks.batch, return_counts=True)
    smallest = int(counts.argmin())
    pairs = 2 * (int(counts[smallest]) // 2)
    found = tuple(look for look in LOOKS if look <= pairs)
    if not found:
        raise ValueError(
            f"batch {names[smallest]} has {counts[smallest]} blocks, half of which make {pairs}"
            f" pairs; {LOOKS[0]} are needed"
        )
    return found


def _calibrated(point: str, metric: str, blocks: Blocks, batches: Sequence[str]) -> Calibrated:
    looks = looks_for(blocks)
    tuning, reported = blocks.halves()
    tuned = _tuned(tuning, looks)
    plan = Plan(looks=looks, bound=DEFAULT_BOUND if tuned is None else tuned)
    same = relabelled(reported, plan.max_pairs, _LABELLINGS)
    ours = rule_rates(sequential_rule(plan), same, SLOWDOWN)
    parts = [Part(None, ours, plan.bound, _detectable(reported, plan))]
    for batch in batches:
        own = reported.batch == batch
        part = Blocks(reported.logs[own], reported.batch[own])
        rates = rule_rates(
            sequential_rule(plan), relabelled(part, plan.max_pairs, _LABELLINGS), SLOWDOWN
        )
        parts.append(Part(batch, rates, plan.bound, _detectable(part, plan)))
    return Calibrated(
        point,
        metric,
        tuned,
        plan.bound,
        plan.max_pairs,
        tuple(parts),
        (RuleFound(f"sequential, bound {100 * plan.bound:g} %", ours), *_others(same, ours.power)),
    )


def _tuned(blocks: Blocks, looks: tuple[int, ...]) -> float | None:
    """The smallest bound at which false alarms are few and most comparisons get an answer."""
    same = relabelled(blocks, looks[-1], _LABELLINGS)
    for bound in BOUNDS:
        found = rule_rates(sequential_rule(Plan(looks=looks, bound=bound)), same, SLOWDOWN)
        if found.false_alarms <= MAX_FALSE_ALARMS and found.equivalent >= MIN_EQUIVALENT:
            return bound
    return None


def _detectable(blocks: Blocks, plan: Plan) -> float | None:
    level = nominal_levels(plan.looks)[-1]
    return minimum_detectable_effect(pair_log_ratios(blocks), plan.max_pairs, level=level)


def _others(same: Comparisons, power: float) -> list[RuleFound]:
    """The usual rules, and the two kinds of them with the power given."""
    threshold, alpha = equal_threshold(same, power), equal_alpha(same, power)
    return [
        *(
            RuleFound(f"fixed {100 * t:g} %", rule_rates(fixed_ratio_rule(t), same, SLOWDOWN))
            for t in FIXED
        ),
        RuleFound("Mann-Whitney, 5 %", rule_rates(mann_whitney_rule(), same, SLOWDOWN)),
        RuleFound(
            f"fixed {100 * threshold:.3g} %, as powerful",
            rule_rates(fixed_ratio_rule(threshold), same, SLOWDOWN),
            equal_power=True,
        ),
        RuleFound(
            f"Mann-Whitney, {100 * alpha:.3g} %, as powerful",
            rule_rates(mann_whitney_rule(alpha), same, SLOWDOWN),
            equal_power=True,
        ),
    ]


def equal_threshold(same: Comparisons, power: float) -> float:
    """The largest fixed threshold that catches at least this share of the slowed comparisons."""
    slowed = same.slowed(SLOWDOWN)
    ratios = np.exp(slowed.candidate).mean(axis=1) / np.exp(slowed.baseline).mean(axis=1)
    return max(_SMALLEST, _reached(ratios - 1, power) - _SMALLEST)


def equal_alpha(same: Comparisons, power: float) -> float:
    """The smallest level at which Mann-Whitney catches at least this share of them."""
    slowed = same.slowed(SLOWDOWN)
    p = np.asarray(scipy.stats.mannwhitneyu(slowed.candidate, slowed.baseline, axis=1).pvalue)
    above = np.median(slowed.candidate, axis=1) > np.median(slowed.baseline, axis=1)
    reached = -_reached(-np.where(above, p, 1.0), power)
    return float(np.clip(reached, _SMALLEST, 1 - _SMALLEST))


def _reached(values: np.ndarray, share: float) -> float:
    """The largest value that at least this share of them reaches."""
    needed = max(1, int(np.ceil(share * len(values) - 1e-9)))
    return float(np.sort(values)[len(values) - needed])
