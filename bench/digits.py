"""Numbers as text: significant digits, and as many beside an interval as keep it from vanishing."""

import math

NOT_AVAILABLE = "n/a"
NO_SPREAD = "no spread"
"""Stands for an interval both ends of which read as the value does."""
LEAST = 3
_MOST = 6


def digits(value: float | None, *, signed: bool = False, count: int = LEAST) -> str:
    """Three significant digits with thousands separators: 1,240, 93.0, 0.0123; n/a when unknown.

    Args:
        count: of significant digits, where a kind of figure or an interval (`told_apart`) has more.
    """
    if value is None or not math.isfinite(value):
        return NOT_AVAILABLE
    sign = "+" if signed and value > 0 else ""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{count}g}")
    decimals = max(0, count - 1 - math.floor(math.log10(abs(rounded))))
    return f"{sign}{rounded:,.{decimals}f}"


def tidy(value: float | None) -> str:
    """Like digits, but a whole number stays whole: of counts, 46 launches and not 46.0."""
    whole = value is not None and math.isfinite(value) and value == round(value)
    return f"{value:,.0f}" if whole else digits(value)


def told_apart(
    value: float | None, lo: float, hi: float, *, least: int = LEAST, signed: bool = False
) -> tuple[str, str]:
    """A value and its interval, "1,482" and "1,478 to 1,487", in digits that tell them apart.

    Ends that read alike are written once, and not at all where they read as the value does.
    """
    count = least if value is None else digits_apart(value, lo, hi, least=least)
    plain = digits(value, count=count)
    ends = list(dict.fromkeys(digits(end, count=count) for end in (lo, hi)))
    interval = NO_SPREAD if ends == [plain] else " to ".join(ends)
    return digits(value, signed=signed, count=count), interval


def digits_apart(value: float, lo: float, hi: float, *, least: int = LEAST) -> int:
    """Significant digits that tell a value from both ends of its interval.

    As few as `least` where rounding moves the value by at most a quarter of the interval's width
    and the three read differently; never more than six: 1,480 (1,480 to 1,490) becomes
    1,482 (1,478 to 1,487). What reads alike in six digits is not told apart by any.
    """
    if value == 0 or not all(map(math.isfinite, (value, lo, hi))):
        return least

    def texts(*numbers: float, count: int) -> set[str]:
        return {f"{each:.{count}g}" for each in numbers}

    apart = len(texts(value, lo, hi, count=_MOST))
    has_width = len(texts(lo, hi, count=_MOST)) > 1
    magnitude = math.floor(math.log10(abs(value)))
    for count in range(least, _MOST):
        fine = 10.0 ** (magnitude - count + 1) <= (hi - lo) / 2 or not has_width
        if fine and len(texts(value, lo, hi, count=count)) == apart:
            return count
    return _MOST
