"""The statistics of a benchmark's rounds, named and defined as pytest-benchmark's JSON has them.

Written here because an export must not need pytest-benchmark; the tests hold them against its own.
"""

import statistics
from collections.abc import Sequence
from typing import Any


def round_stats(rounds_s: Sequence[float]) -> dict[str, Any]:
    """Every field of `stats` for rounds of one iteration each, in seconds.

    Quartiles are the medians of both halves; of an odd number of five rounds or more they are
    weighted between two rounds, a quarter and three quarters. Outliers lie beyond one standard
    deviation of the mean, and beyond 1.5 interquartile ranges of the quartiles.
    """
    data = sorted(rounds_s)
    mean, q1, q3 = statistics.mean(data), _lower_quartile(data), -_lower_quartile(_mirrored(data))
    stddev = statistics.stdev(data) if len(data) > 1 else 0.0
    iqr, total = q3 - q1, sum(data)
    near = [s for s in data if q1 - 1.5 * iqr <= s <= q3 + 1.5 * iqr]
    from_mean = sum(not mean - stddev <= s <= mean + stddev for s in data)
    return {
        "min": data[0],
        "max": data[-1],
        "mean": mean,
        "stddev": stddev,
        "rounds": len(data),
        "median": statistics.median(data),
        "iqr": iqr,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": len(data) - len(near),
        "stddev_outliers": from_mean,
        "outliers": f"{from_mean};{len(data) - len(near)}",
        "ld15iqr": near[0],
        "hd15iqr": near[-1],
        "ops": len(data) / total if total else 0,
        "total": total,
        "data": list(rounds_s),
        "iterations": 1,
    }


def _mirrored(data: Sequence[float]) -> list[float]:
    return [-value for value in reversed(data)]


def _lower_quartile(data: Sequence[float]) -> float:
    """Of sorted values."""
    if len(data) == 1:
        return data[0]
    if len(data) % 2 == 0:
        return statistics.median(data[: len(data) // 2])
    n, rest = divmod(len(data), 4)
    if rest == 1:
        return 0.25 * data[n - 1] + 0.75 * data[n]
    return 0.75 * data[n] + 0.25 * data[n + 1]
