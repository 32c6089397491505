"""How small a change of a point's speed could be seen, from the spread of its own processes.

`bench.stats.minimum_detectable_effect` answers for a gate, from at least 20 A/A pairs. A run has no
A/A pairs; this tells a reader of its numbers what a second run like it could and could not show.
"""

import numpy as np

from bench.metrics import RATES, request_times
from bench.report.style import Estimate
from bench.report.view import Point, View
from bench.stats import LEVEL, detectable_at_spread, process_means

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

    times, (top, bottom) = request_times(own), RATES[_METRIC]
    _, means = process_means(times[top], times[bottom], own["process_id"])
    if not (means > 0).all():
        return Estimate(None)
    spread, n = float(np.log(means).std(ddof=1)), len(means)
    tails = stats.chi2.ppf([1 - LEVEL / 2, LEVEL / 2], n - 1)
    low, high = spread * np.sqrt((n - 1) / tails)
    return Estimate(*(detectable_at_spread(float(s), n, n) for s in (spread, low, high)))
