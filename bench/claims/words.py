"""Numbers of claims in words: four digits, as published speeds have, or what an interval needs."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.digits import NOT_AVAILABLE, digits, told_apart

_DIGITS = 4
TIMES = "\N{MULTIPLICATION SIGN}"


def figure(value: float | None) -> str:
    """Four significant digits with thousands separators: 1,135, 14.94; n/a when unknown."""
    return digits(value, count=_DIGITS)


def told(value: float | None, interval: Sequence[float] | None) -> tuple[str, str]:
    """A figure and its interval, "1,135" and "1,120 to 1,148", in digits that tell them apart."""
    if interval is None:
        return figure(value), NOT_AVAILABLE
    lo, hi = interval
    return told_apart(value, lo, hi, least=_DIGITS)


def unit_of(unit: str, *, is_ratio: bool) -> str:
    """What follows a figure: " tok/s", and the sign of a multiple without a space."""
    return TIMES if is_ratio else f" {unit}"


def promised_too(unshown: Mapping[str, str | None]) -> str:
    """A sentence about preregistered claims that are left out; empty where there are none.

    Args:
        unshown: their verdicts by name (`bench.claims.kept.unshown`).
    """
    if not unshown:
        return ""
    said = (f"{name} ({verdict or 'not judged'})" for name, verdict in unshown.items())
    return f"Preregistered with this run and not shown here: {', '.join(said)}."


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
