"""Warm-up by stability: untimed batches until a forward takes a steady time, at most so many.

Watched is the mean time of a batch's forwards of its main phase (a denoise step, an autoregressive
step), since whole requests differ by their prompts. Steady: over the last `WINDOW` batches the 95 %
interval of the slope contains zero and the coefficient of variation is below `MAX_CV`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.records import RequestRecord

WINDOW = 6
MAX_CV = 0.10


@dataclass(frozen=True, slots=True)
class WarmUp:
    """How a warm-up ended; `stable` is None where it was too short to judge."""

    num_batches: int
    stable: bool | None


def warm_up(
    run_batch: Callable[[int], Sequence[RequestRecord]], min_batches: int, max_batches: int
) -> WarmUp:
    """Runs batches 0, 1, ... until they are steady; at least `min_batches`, at most `max_batches`.

    A warm-up that does not become steady is recorded, not hidden.
    """
    times: list[float] = []
    while len(times) < max_batches:
        times.append(_forward_ms(run_batch(len(times))))
        if len(times) >= max(min_batches, WINDOW) and is_steady(times[-WINDOW:]):
            return WarmUp(len(times), True)
    return WarmUp(len(times), False if len(times) >= WINDOW else None)


def is_steady(times: Sequence[float]) -> bool:
    """Whether times show no trend and little spread; needs at least three."""
    values = np.asarray(times, dtype=float)
    if len(values) < 3 or not np.isfinite(values).all() or values.mean() <= 0:
        return False
    if values.std(ddof=1) / values.mean() > MAX_CV:
        return False
    if np.ptp(values) == 0:
        return True
    from scipy import stats  # a second to import, which every worker would pay

    fit = stats.linregress(np.arange(len(values)), values)
    half = stats.t.ppf(0.975, len(values) - 2) * fit.stderr
    return bool(abs(fit.slope) <= half)


def _forward_ms(requests: Sequence[RequestRecord]) -> float:
    steps = [s.device_ms for s in requests[0].steps if s.phase in ("denoise", "decode")]
    return float(np.mean(steps)) if steps else requests[0].wall_s * 1e3
