"""Do two sets of counts (denoise steps a canvas, above all) come from one distribution?

A mean hides what step counts do: a second mode at the cap, a longer tail. So whole distributions
are compared, by the squared distance of their ECDFs, which has no trouble with ties and needs no
bins. What is permuted to test it are the independent units: prompts, with all their canvases.
"""

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from bench.stats.checks import finite, same_length
from bench.stats.intervals import Interval
from bench.stats.paired import mean_interval, sign_flip_p_value

_MIN_UNITS = 4
_PERMUTATIONS = 9_999
_SEED = 20_000
_CHUNK_CELLS = 4_000_000


@dataclass(frozen=True, slots=True)
class DistributionComparison:
    """Candidate against baseline; shifts in the unit of the values.

    Attributes:
        distance: mean over the pooled values of (candidate's ECDF - baseline's)^2, 0 to 1.
        p_value: None with too few independent units.
        superiority: P(a candidate's value is larger) + P(equal) / 2; 0.5 is no difference.
        cliffs_delta: 2 superiority - 1 (Cliff 1993).
        median_shift, mean_shift: candidate - baseline.
        mean_shift_interval: 95 %; None where the arms are not paired.
        n_candidate, n_baseline: values.
        units_candidate, units_baseline: independent units (prompts) among them.
    """

    distance: float
    p_value: float | None
    superiority: float
    cliffs_delta: float
    median_shift: float
    mean_shift: float
    mean_shift_interval: Interval
    n_candidate: int
    n_baseline: int
    units_candidate: int
    units_baseline: int


def compare_distributions(
    candidate: ArrayLike,
    baseline: ArrayLike,
    candidate_cluster: ArrayLike | None = None,
    baseline_cluster: ArrayLike | None = None,
    seed: int = _SEED,
) -> DistributionComparison:
    """Two independent samples: Cramer-von Mises distance (Anderson 1962), permuted by cluster.

    The test is n m / N^2 times the distance over 9,999 regroupings of all clusters into arms of the
    sizes observed; the observed grouping counts as one (Phipson and Smyth 2010).

    Args:
        candidate, baseline: (n,) and (m,), counts or other values with ties.
        candidate_cluster, baseline_cluster: which values of an arm belong together; each value by
            itself if None. An id in both arms is two clusters: with the same prompts in both,
            `compare_paired_distributions` is the test to use.
        seed: of the regroupings.

    Returns:
        p_value None below four clusters in an arm (no grouping would be rare enough).

    Raises:
        ValueError: an arm is empty, lengths differ, or a value is not finite.
    """
    ours, theirs = _arm("candidate", candidate), _arm("baseline", baseline)
    our_unit = _units("candidate", ours, candidate_cluster)
    their_unit = _units("baseline", theirs, baseline_cluster)
    num_ours, num_theirs = int(our_unit.max()) + 1, int(their_unit.max()) + 1
    p_value = None
    if min(num_ours, num_theirs) >= _MIN_UNITS:
        support, value = np.unique(np.concatenate([ours, theirs]), return_inverse=True)
        histograms = np.zeros((num_ours + num_theirs, len(support)))
        np.add.at(histograms, (np.concatenate([our_unit, their_unit + num_ours]), value), 1)
        p_value = _regrouping_p_value(histograms, num_ours, seed)
    superiority = _superiority(ours, theirs)
    return DistributionComparison(
        distance=_distance(ours, theirs),
        p_value=p_value,
        superiority=superiority,
        cliffs_delta=2 * superiority - 1,
        median_shift=float(np.median(ours) - np.median(theirs)),
        mean_shift=float(ours.mean() - theirs.mean()),
        mean_shift_interval=None,
        n_candidate=len(ours),
        n_baseline=len(theirs),
        units_candidate=num_ours,
        units_baseline=num_theirs,
    )


def compare_paired_distributions(
    candidate: ArrayLike,
    baseline: ArrayLike,
    candidate_prompt: ArrayLike,
    baseline_prompt: ArrayLike,
) -> DistributionComparison:
    """The same prompts in both arms: sign-flip test of the differences of each prompt's mean.

    Far more sensitive than the unpaired test where prompts differ more than the arms do; blind to a
    change of spread that leaves the means. Superiority and shifts are over prompts: the share of
    prompts whose mean is larger in the candidate (ties half), the median and the mean of the
    prompts' differences. The distance is that of all values.

    Args:
        candidate, baseline: (n,) and (m,), counts; several a prompt where it has several canvases.
        candidate_prompt, baseline_prompt: (n,) and (m,), the prompt of each.

    Returns:
        p_value None below 8 prompts.

    Raises:
        ValueError: an arm is empty, a prompt is in one arm only, lengths differ, or a value is not
            finite.
    """
    ours, theirs = _arm("candidate", candidate), _arm("baseline", baseline)
    our_ids, their_ids = np.asarray(candidate_prompt), np.asarray(baseline_prompt)
    alone = np.setxor1d(our_ids, their_ids)
    if len(alone):
        raise ValueError(f"prompt {alone[0]} is in one arm only; both need the same prompts")
    our_unit = _units("candidate", ours, our_ids)
    their_unit = _units("baseline", theirs, their_ids)
    ours_by_prompt = np.bincount(our_unit, weights=ours) / np.bincount(our_unit)
    theirs_by_prompt = np.bincount(their_unit, weights=theirs) / np.bincount(their_unit)
    differences = ours_by_prompt - theirs_by_prompt
    superiority = float((differences > 0).mean() + (differences == 0).mean() / 2)
    return DistributionComparison(
        distance=_distance(ours, theirs),
        p_value=sign_flip_p_value(differences),
        superiority=superiority,
        cliffs_delta=2 * superiority - 1,
        median_shift=float(np.median(differences)),
        mean_shift=float(differences.mean()),
        mean_shift_interval=mean_interval(differences),
        n_candidate=len(ours),
        n_baseline=len(theirs),
        units_candidate=len(differences),
        units_baseline=len(differences),
    )


def _arm(name: str, values: ArrayLike) -> np.ndarray:
    array = finite(name, values)
    if not len(array):
        raise ValueError(f"{name} has 0 values; at least 1 is needed")
    return array


def _units(name: str, values: np.ndarray, cluster: ArrayLike | None) -> np.ndarray:
    """Cluster of each value as 0, 1, ... in the order of the sorted ids."""
    if cluster is None:
        return np.arange(len(values))
    ids = np.asarray(cluster)
    same_length(**{name: values, f"{name}'s cluster": ids})
    return np.unique(ids, return_inverse=True)[1]


def _distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    pooled = np.concatenate([ours, theirs])
    gap = _ecdf(ours, pooled) - _ecdf(theirs, pooled)
    return float((gap**2).mean())


def _ecdf(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(values), at, side="right") / len(values)


def _superiority(ours: np.ndarray, theirs: np.ndarray) -> float:
    """From ranks, ties at their mean: U / (n m)."""
    ranks = scipy.stats.rankdata(np.concatenate([ours, theirs]))[: len(ours)]
    return float((ranks.sum() / len(ours) - (len(ours) + 1) / 2) / len(theirs))


def _regrouping_p_value(histograms: np.ndarray, num_ours: int, seed: int) -> float:
    """Args: histograms (units, support), the candidate's `num_ours` units first."""
    num_units, total = len(histograms), histograms.sum(axis=0)
    found = _statistic(histograms[:num_ours].sum(axis=0)[None], total)[0]
    rng, hits = np.random.default_rng(seed), 0
    label = np.arange(num_units) < num_ours
    chunk = max(1, _CHUNK_CELLS // max(num_units, len(total)))
    for start in range(0, _PERMUTATIONS, chunk):
        size = (min(chunk, _PERMUTATIONS - start), num_units)
        groups = rng.permuted(np.broadcast_to(label, size), axis=1)
        regrouped = _statistic(groups.astype(float) @ histograms, total)
        hits += int((regrouped >= found * (1 - 1e-9)).sum())
    return (hits + 1) / (_PERMUTATIONS + 1)


def _statistic(ours: np.ndarray, total: np.ndarray) -> np.ndarray:
    """n m / N^2 times the mean squared ECDF gap, of (groupings, support) counts of one arm."""
    theirs = total - ours
    n, m = ours.sum(axis=1, keepdims=True), theirs.sum(axis=1, keepdims=True)
    gap = ours.cumsum(axis=1) / n - theirs.cumsum(axis=1) / m
    return (n * m)[:, 0] * (gap**2 @ total) / total.sum() ** 3
