"""Numbers of claims in words: four digits, as published speeds have."""

import math
from collections.abc import Mapping
from typing import Any

from bench.claims.claim import Claim
from bench.stats import Interval

NOT_AVAILABLE = "n/a"
TIMES = "\N{MULTIPLICATION SIGN}"


def figure(value: float | None) -> str:
    """Four significant digits with thousands separators: 1,135, 14.94; n/a when unknown."""
    if value is None or not math.isfinite(value):
        return NOT_AVAILABLE
    if value == 0:
        return "0"
    decimals = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def with_unit(claim: Claim, value: float | None) -> str:
    """A figure of the claim's kind: 1,135 tok/s, 5.103 times."""
    if value is None:
        return NOT_AVAILABLE
    return figure(value) + (TIMES if claim.over is not None else f" {claim.unit}")


def between(interval: Interval) -> str:
    """An interval as "lo to hi"."""
    return NOT_AVAILABLE if interval is None else " to ".join(figure(end) for end in interval)


def percent(share: float | None) -> str:
    """A share with its sign: 12.6 %."""
    return NOT_AVAILABLE if share is None else f"{100 * share:.1f} %"


def difference(found: Mapping[str, Any]) -> str:
    """Where a measured rate differs from the published one (a plain `Decomposition`)."""
    if found["log_ratio"] is None:
        return "Nothing was measured that could be taken apart."
    rate = f"The measured rate differs by {_change(found['log_ratio'])}"
    if found["by_steps"] is None:
        return f"{rate}; how many forwards a block takes is not known, so none of it is placed."
    return (
        f"{rate}: {_change(found['by_steps'])} by the number of forwards, "
        f"{_change(found['by_forward'])} by the time of one. The host takes "
        f"{percent(found['host_share'])} of the measured time, between forwards; of the published "
        "time that is not known."
    )


def _change(log_ratio: float) -> str:
    """A logarithm of a ratio as a signed percentage."""
    return f"{100 * math.expm1(log_ratio):+.1f} %"
