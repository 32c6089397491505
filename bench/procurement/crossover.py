"""At which batch the autoregressive sibling overtakes: with an interval, or "none in range".

Between measured batches the ratio of the two curves is interpolated on log axes, monotonically (a
PCHIP), so that it crosses one only where two measured batches lie on either side. Uncertainty is
that of the processes (`process_draws`) and, far less, of the interpolation. A process keeps its
whole curve, so what its batches have in common stays in common. Coverage of the 95 % limits in
simulated campaigns: `tests/bench/procurement/test_crossover.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from bench.procurement.cell import Cell, NumberClass
from bench.procurement.curves import HIGHER_IS_BETTER, Curve, Metric
from bench.procurement.process_draws import redrawn_means, redrawn_projection
from bench.stats import CONFIDENCE

Outcome = Literal["crosses", "diffusion leads throughout", "autoregressive leads throughout"]
_HALVINGS = 24
_TAIL = (1 - CONFIDENCE) / 2
_DEFINITION = {
    "delivered_tok_per_s": "requests at once from which the autoregressive sibling delivers more",
    "joules_per_token": "requests at once from which the autoregressive sibling takes less energy",
}


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where the autoregressive curve passes the diffusion curve.

    Attributes:
        batch_size: of the crossing; unknown, with the reason, where the point estimate has none.
            Its limits are those within the range; a limit is None where it lies outside of it.
        is_open_below, is_open_above: whether the 95 % limits reach beyond the range. Where both
            limits are None and one side is open, the crossing surely lies beyond that side.
        below_share, above_share: of resamples, those in which autoregressive leads from the
            smallest batch on, and those in which it never does; None from one process.
        crossings: times that the lead changes in the point estimate.
        range: smallest and largest batch that both curves have.
    """

    metric: Metric
    kind: NumberClass
    device: str
    precision: str
    prompt_tokens: int | None
    reply_tokens: int
    steps: float | None
    outcome: Outcome
    batch_size: Cell
    is_open_below: bool
    is_open_above: bool
    below_share: float | None
    above_share: float | None
    crossings: int
    range: tuple[int, int]

    @property
    def no_crossing_share(self) -> float | None:
        """Of resamples, those without a crossing in the range."""
        if self.below_share is None or self.above_share is None:
            return None
        return self.below_share + self.above_share


def crossover(diffusion: Curve, autoregressive: Curve, *, seed: int = 0) -> Crossover:
    """The batch at which the autoregressive curve overtakes.

    Raises:
        ValueError: the curves are not of the two decodings, differ in what must be the same, or
            share fewer than two batch sizes.
    """
    _refuse_unlike(diffusion, autoregressive)
    sizes = [size for size in diffusion.batch_sizes if size in autoregressive.batch_sizes]
    if len(sizes) < 2:
        raise ValueError(f"the curves share {len(sizes)} batch sizes; a crossover needs 2")
    sign = 1.0 if HIGHER_IS_BETTER[diffusion.metric] else -1.0
    curves = (diffusion, autoregressive)
    means = [curve.logs(sizes).mean(axis=0) for curve in curves]
    lead = sign * (means[1] - means[0])
    (found,) = _crossings(sizes, lead[None])
    outcome: Outcome = "crosses"
    if np.isinf(found):
        outcome = "diffusion leads throughout" if found > 0 else "autoregressive leads throughout"
    low = high = below = above = None
    is_open_below = is_open_above = False
    if diffusion.log_sds or min(len(curve.values) for curve in curves) > 1:
        rng = np.random.default_rng(seed)
        drawn = _resampled(curves, sizes, rng)
        resampled = _crossings(sizes, sign * (drawn[1] - drawn[0]))
        resampled = _blurred(resampled, sizes, _interpolation_log_sd(sizes, lead), rng)
        below, above = (float((resampled == end).mean()) for end in (-np.inf, np.inf))
        # Order statistics, as a limit may be infinite and must not be interpolated.
        limits = np.quantile(resampled, [_TAIL, 1 - _TAIL], method="inverted_cdf")
        is_open_below, is_open_above = bool(limits[0] == -np.inf), bool(limits[1] == np.inf)
        low, high = (float(limit) if np.isfinite(limit) else None for limit in limits)
    is_known = outcome == "crosses"
    cell = Cell(
        value=float(found) if is_known else None,
        low=low,
        high=high,
        kind=diffusion.kind,
        unit="requests",
        definition=_DEFINITION[diffusion.metric],
        source=diffusion.source,
        why_unknown="" if is_known else f"none in {sizes[0]} to {sizes[-1]}: {outcome}",
        why_no_interval="" if below is not None else "one process: no interval",
    )
    return Crossover(
        metric=diffusion.metric,
        kind=diffusion.kind,
        device=diffusion.device,
        precision=diffusion.precision,
        prompt_tokens=diffusion.prompt_tokens,
        reply_tokens=diffusion.reply_tokens,
        steps=diffusion.steps,
        outcome=outcome,
        batch_size=cell,
        is_open_below=is_open_below,
        is_open_above=is_open_above,
        below_share=below,
        above_share=above,
        crossings=int((np.diff(np.sign(lead)) != 0).sum()),
        range=(sizes[0], sizes[-1]),
    )


def crossovers(curves: Sequence[Curve], *, seed: int = 0) -> list[Crossover]:
    """One of every diffusion curve with the autoregressive curve of the same setting, if any."""
    found = []
    for one in curves:
        if one.decoding != "diffusion":
            continue
        for other in curves:
            if other.decoding == "autoregressive" and not _unlike(one, other):
                if len(set(one.batch_sizes) & set(other.batch_sizes)) > 1:
                    found.append(crossover(one, other, seed=seed))
                break
    return found


_ALIKE = ("metric", "kind", "device", "precision", "prompt_tokens", "reply_tokens")


def _unlike(diffusion: Curve, autoregressive: Curve) -> list[str]:
    return [n for n in _ALIKE if getattr(diffusion, n) != getattr(autoregressive, n)]


def _refuse_unlike(diffusion: Curve, autoregressive: Curve) -> None:
    given = (diffusion.decoding, autoregressive.decoding)
    if given != ("diffusion", "autoregressive"):
        raise ValueError(f"curves are of {given}; valid: diffusion, autoregressive")
    for name in _unlike(diffusion, autoregressive):
        one, other = (getattr(curve, name) for curve in (diffusion, autoregressive))
        raise ValueError(f"the curves differ in {name}: {one} and {other}")


def _crossings(sizes: Sequence[int], lead: np.ndarray) -> np.ndarray:
    """(n,) batch sizes at which the lead first turns from negative to positive.

    Args:
        lead: (n, batch sizes), log ratio of autoregressive over diffusion, higher being better.

    Returns:
        -inf where it is positive at the smallest batch, inf where it never becomes so.
    """
    octaves = np.log2(np.asarray(sizes, dtype=float))
    rises = (lead[:, :-1] <= 0) & (lead[:, 1:] > 0)
    rows, at = np.arange(len(lead)), rises.argmax(axis=1)
    cubics = scipy.interpolate.PchipInterpolator(octaves, lead, axis=1).c[:, at, rows]
    low, high = np.zeros(len(lead)), np.diff(octaves)[at]
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        value = ((cubics[0] * middle + cubics[1]) * middle + cubics[2]) * middle + cubics[3]
        low, high = np.where(value > 0, low, middle), np.where(value > 0, middle, high)
    found = np.where(rises.any(axis=1), 2 ** (octaves[at] + low), np.inf)
    return np.where(lead[:, 0] > 0, -np.inf, found)


def _interpolation_log_sd(sizes: Sequence[int], lead: np.ndarray) -> float:
    """How far the true curve may cross from the interpolated one, as a log of the batch.

    A third of what the PCHIP and straight lines between the measured batches differ by: on curves
    of devices in closed form the PCHIP was off by 0.2 to 0.9 of that.
    """
    (found,) = _crossings(sizes, lead[None])
    if not np.isfinite(found):
        return 0.0
    octaves = np.log2(np.asarray(sizes, dtype=float))
    at = int(np.searchsorted(octaves, np.log2(found), side="left"))
    at = min(max(at, 1), len(octaves) - 1)
    rise = lead[at] - lead[at - 1]
    if rise <= 0:  # it touches zero at a measured batch
        return 0.0
    straight = octaves[at - 1] - lead[at - 1] / rise * (octaves[at] - octaves[at - 1])
    return float(abs(np.log2(found) - straight) * np.log(2) / 3)


def _blurred(
    crossings: np.ndarray, sizes: Sequence[int], log_sd: float, rng: np.random.Generator
) -> np.ndarray:
    """The crossings with an interpolation's error; those it moves out of the range are none."""
    moved = crossings * np.exp(log_sd * rng.standard_normal(len(crossings)))
    moved = np.where(moved > sizes[-1], np.inf, moved)
    return np.where(moved < sizes[0], -np.inf, moved)


def _resampled(
    curves: Sequence[Curve], sizes: Sequence[int], rng: np.random.Generator
) -> list[np.ndarray]:
    """(resamples, batch sizes) of each curve, logarithms."""
    logs = [curve.logs(sizes) for curve in curves]
    if not curves[0].log_sds:
        return redrawn_means(logs, rng)
    spreads = [[c.log_sds[c.batch_sizes.index(size)] for size in sizes] for c in curves]
    both = zip(logs, spreads, strict=True)
    return [redrawn_projection(own[0], np.array(spread), rng) for own, spread in both]
