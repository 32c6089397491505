"""How small a change of a point's speed could be seen, from the spread of its own processes.

`bench.stats.minimum_detectable_effect` answers for a gate, from at least 20 A/A pairs. A run has no
A/A pairs; this tells a reader of its numbers what a second run like it could and could not show.
"""

import numpy as np

from bench.metrics import RATES, request_times
from bench.report.style import Estimate
from bench.report.view import Point, View

POWER = 0.8
ALPHA = 0.05
_METRIC = "delivered_tok_per_s"
_KEYS = ("process_id", "request_id")
_COLUMNS = (
    "delivered_tokens",
    "first_delivery_tokens",
    "first_canvas_s",
    "last_delivery_s",
    "wall_s",
    "prefill_s",
    "slots_committed",
    "batch_size",
)


def detectable_change(view: View, point: Point) -> Estimate:
    """Smallest relative change of delivered tok/s that two runs of as many processes tell apart.

    The interval is that of the processes' spread (chi-square), which few processes know badly.

    Returns:
        Without a value with one process, or where the requests are not there.
    """
    requests = view.table("requests", "point_id", *_KEYS, *_COLUMNS)
    own = requests[requests["point_id"] == point.point_id]
    if own["process_id"].nunique() < 2:
        return Estimate(None)
    from scipy import stats  # slow to import; most runs have one process a point

    from bench.stats import process_means

    times, (top, bottom) = request_times(own), RATES[_METRIC]
    _, means = process_means(times[top], times[bottom], own["process_id"])
    if not (means > 0).all():
        return Estimate(None)
    spread, n = float(np.log(means).std(ddof=1)), len(means)
    tails = stats.chi2.ppf([1 - ALPHA / 2, ALPHA / 2], n - 1)
    low, high = spread * np.sqrt((n - 1) / tails)
    return Estimate(*(relative_change(float(s), n) for s in (spread, low, high)))


def relative_change(spread: float, num_processes: int) -> float:
    """The change that a two-sample t test with `num_processes` an arm finds with power 0.8.

    By the noncentral t distribution (Cohen 1988, section 2.2), in the right direction.

    Args:
        spread: standard deviation of the log of a process mean.
    """
    from scipy import optimize, stats

    df = 2 * num_processes - 2
    critical = stats.t.ppf(1 - ALPHA / 2, df)
    shift = optimize.brentq(
        lambda noncentrality: float(stats.nct.sf(critical, df, noncentrality)) - POWER,
        0.0,
        4.0 * critical,
        xtol=1e-9,
    )
    return float(np.expm1(shift * spread * np.sqrt(2 / num_processes)))
