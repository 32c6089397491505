"""Means over a few processes as they might as well have come out: what limits are read from."""

from collections.abc import Sequence

import numpy as np

from bench.procurement.cell import Cell
from bench.procurement.laws import Z

RESAMPLES = 2_000


def redrawn_means(groups: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    """(resamples, columns) of each group: the mean of its rows, drawn anew.

    Every resample weights the processes' deviations with independent normals, which gives the means
    their covariance over columns, and divides by the root of a chi-squared, which gives them the
    tails of Student's t. The chi-squared is common to the groups, its degrees of freedom Welch's
    (Satterthwaite 1946) for their difference: one for each would make the limits too wide for three
    processes. Drawing whole processes with replacement instead makes them far too narrow.

    Args:
        groups: (processes, columns) each, logarithms; at least two processes.
    """
    variances = [float(logs.var(axis=0, ddof=1).mean()) / len(logs) for logs in groups]
    total = sum(variances)
    df = float(max(len(logs) - 1 for logs in groups))
    if total > 0:
        parts = zip(variances, groups, strict=True)
        df = total**2 / sum(v**2 / (len(logs) - 1) for v, logs in parts)
    scale = np.sqrt(rng.chisquare(df, (RESAMPLES, 1)) / df)
    found = []
    for logs in groups:
        mean, n = logs.mean(axis=0), len(logs)
        weights = rng.standard_normal((RESAMPLES, n)) / np.sqrt(n * (n - 1))
        found.append(np.asarray(mean + weights @ (logs - mean) / scale))
    return found


def redrawn_projection(
    logs: np.ndarray, log_sds: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(resamples, columns): a projection with an error of its own size in each column, one sign.

    Args:
        logs: (columns,); log_sds: (columns,).
    """
    return np.asarray(logs + rng.standard_normal((RESAMPLES, 1)) * log_sds)


def log_sd(cell: Cell) -> float:
    """Of the log-normal whose 95 % limits lie as far apart as the cell's; 0 without limits."""
    if not cell.low or not cell.high:
        return 0.0
    return float(np.log(cell.high / cell.low) / (2 * Z))
