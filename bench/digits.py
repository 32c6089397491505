"""How many digits a number is written with, so that its interval does not vanish in rounding."""

import math

LEAST = 3
_MOST = 6


def digits_apart(value: float, lo: float, hi: float, *, least: int = LEAST) -> int:
    """Significant digits that tell a value from both ends of its interval.

    As few as `least` where rounding moves the value by at most a quarter of the interval's width
    and the three read differently; never more than six: 1,480 (1,480 to 1,490) becomes
    1,482 (1,478 to 1,487).
    """
    if value == 0 or not all(map(math.isfinite, (value, lo, hi))):
        return least
    magnitude = math.floor(math.log10(abs(value)))
    for digits in range(least, _MOST):
        unit = 10.0 ** (magnitude - digits + 1)
        texts = {f"{each:.{digits}g}" for each in (value, lo, hi)}
        if unit <= (hi - lo) / 2 and len(texts) == len({value, lo, hi}):
            return digits
    return least if lo == hi == value else _MOST
