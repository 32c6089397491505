"""From an interval and a published figure to a verdict; pure arithmetic.

at_least (a speed): lo >= v reproduced; lo >= v (1 - tol) within tolerance; hi < v (1 - tol) not
reproduced. equal (a count, a ratio): the interval inside v (1 +- tol / 2) reproduced, inside
v (1 +- tol) within tolerance, wholly outside not reproduced. between is equal with a range: inside
it, inside it widened by the tolerance at both ends, wholly outside of that. All else is
insufficient.
"""

import math
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from bench.claims.claim import Claim
from bench.stats import Interval

_ROUNDING = 1e-9
"""A limit counts as met where only floating point tells the two apart."""


class Outcome(StrEnum):
    """What a run says of a claim."""

    REPRODUCED = "REPRODUCED"
    WITHIN_TOLERANCE = "WITHIN TOLERANCE"
    NOT_REPRODUCED = "NOT REPRODUCED"
    INSUFFICIENT = "INSUFFICIENT"
    NOT_COMPARABLE = "NOT COMPARABLE"


def outcome(claim: Claim, interval: Interval) -> Outcome:
    """The verdict on a claim whose conditions are met; None is no interval at all."""
    if interval is None:
        return Outcome.INSUFFICIENT
    value, tolerance = claim.value, claim.tolerance
    if claim.relation == "at_least":
        inner, outer = (value, math.inf), (value * (1 - tolerance), math.inf)
    elif claim.upper is None:
        inner = value * (1 - tolerance / 2), value * (1 + tolerance / 2)
        outer = value * (1 - tolerance), value * (1 + tolerance)
    else:
        inner = value, claim.upper
        outer = value * (1 - tolerance), claim.upper * (1 + tolerance)
    if _inside(interval, inner):
        return Outcome.REPRODUCED
    if _inside(interval, outer):
        return Outcome.WITHIN_TOLERANCE
    low, high = interval
    outside = high < outer[0] * (1 - _ROUNDING) or low > outer[1] * (1 + _ROUNDING)
    return Outcome.NOT_REPRODUCED if outside else Outcome.INSUFFICIENT


def _inside(interval: tuple[float, float], limits: tuple[float, float]) -> bool:
    low, high = interval
    return limits[0] * (1 - _ROUNDING) <= low and high <= limits[1] * (1 + _ROUNDING)


def comparable_first(verdicts: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Plain verdicts in their order, but those that say nothing of their claim at the end."""
    return sorted(verdicts, key=lambda own: not is_comparable(own))


def is_comparable(own: Mapping[str, Any]) -> bool:
    """Whether a plain verdict weighed the run against its claim."""
    return bool(own["verdict"] != Outcome.NOT_COMPARABLE)


def exit_code(outcomes: list[Outcome]) -> int:
    """0 where all claims came out, 1 where one was not reproduced, else 3."""
    if Outcome.NOT_REPRODUCED in outcomes:
        return 1
    positive = {Outcome.REPRODUCED, Outcome.WITHIN_TOLERANCE}
    return 0 if outcomes and set(outcomes) <= positive else 3


def why(claim: Claim, found: Outcome) -> str:
    """What of the interval made the verdict, in words."""
    percent = f"{100 * claim.tolerance:g} %"
    if claim.relation == "at_least":
        least = f"{claim.published} less {percent}"
        return {
            Outcome.REPRODUCED: f"all of the interval is at or above {claim.published}",
            Outcome.WITHIN_TOLERANCE: f"all of the interval is at or above {least}",
            Outcome.NOT_REPRODUCED: f"all of the interval is below {least}",
        }.get(found, f"the interval holds {least}, so it decides nothing")
    inner = "" if claim.upper is not None else f" within {50 * claim.tolerance:g} %"
    outer = f"{claim.published} within {percent}"
    return {
        Outcome.REPRODUCED: f"all of the interval is inside {claim.published}{inner}",
        Outcome.WITHIN_TOLERANCE: f"all of the interval is inside {outer}",
        Outcome.NOT_REPRODUCED: f"all of the interval is outside {outer}",
    }.get(found, f"the interval reaches across an end of {outer}, so it decides nothing")
