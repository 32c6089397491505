"""How a load spreads over requests or over time: reply lengths, requests at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
import scipy

_MOST_NAMED = 8
_GRID = (np.arange(1000) + 0.5) / 1000
"""Shares at which a mean is taken."""


@dataclass(frozen=True, slots=True)
class Lognormal:
    """Given by its median and its 95th percentile."""

    median: float
    p95: float

    def quantile(self, share: np.ndarray) -> np.ndarray:
        """The values below which those shares lie."""
        sigma = np.log(self.p95 / self.median) / scipy.stats.norm.ppf(0.95)
        return np.asarray(self.median * np.exp(sigma * scipy.stats.norm.ppf(share)))


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Given by some quantiles, straight between them in the logarithm.

    Beyond the outermost ones nothing is known: values there are taken as those, so a mean misses
    the tails.

    Attributes:
        shares, values: ascending.
    """

    shares: tuple[float, ...]
    values: tuple[float, ...]

    def quantile(self, share: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(np.interp(share, self.shares, np.log(self.values))))


@dataclass(frozen=True, slots=True)
class Listed:
    """Every listed value is as likely as another."""

    values: tuple[float, ...]

    def quantile(self, share: np.ndarray) -> np.ndarray:
        return np.quantile(np.array(self.values), share, method="inverted_cdf")


Distribution = Lognormal | Quantiles | Listed


def mean(distribution: Distribution) -> float:
    return float(distribution.quantile(_GRID).mean())


def at(distribution: Distribution, share: float) -> float:
    """One quantile."""
    return float(distribution.quantile(np.array([share]))[0])


@cache
def evenly(distribution: Distribution, count: int) -> np.ndarray:
    """(count,) values that stand for the distribution, each for as large a share; read only."""
    found = distribution.quantile((np.arange(count) + 0.5) / count)
    found.flags.writeable = False
    return found


def words(distribution: Distribution) -> str:
    """How it was stated, in a phrase."""
    match distribution:
        case Lognormal(median, p95):
            return f"lognormal, median {median:,g}, 95 % up to {p95:,g}"
        case Quantiles(shares, values):
            pairs = zip(shares, values, strict=True)
            return ", ".join(f"{100 * share:g} % up to {value:,g}" for share, value in pairs)
        case Listed(values) if len(set(values)) == 1:
            return "all alike"
        case Listed(values) if len(values) <= _MOST_NAMED:
            return f"one of {', '.join(f'{value:,g}' for value in values)}"
        case Listed(values):
            return f"one of {len(values):,} values, {min(values):,g} to {max(values):,g}"


def positive_ascending(values: Sequence[float]) -> bool:
    return all(value > 0 for value in values) and all(
        later >= earlier for earlier, later in pairwise(values)
    )


def parse(given: object) -> Distribution:
    """A distribution as a file states it: a number, {median, p95}, {quantiles: ...} or a list.

    Raises:
        ValueError: it is none; the message says what is wrong and what is valid, without a place.
    """
    if isinstance(given, list):
        return _listed(given)
    if isinstance(given, Mapping):
        if set(given) == {"lognormal"}:
            return _lognormal(given["lognormal"])
        if set(given) == {"quantiles"}:
            return _quantiles(given["quantiles"])
        if set(given) == {"list"}:
            return _listed(given["list"])
    if _is_number(given):
        return _listed([given])
    raise ValueError(
        f"is {given!r}; valid: a number, a list of numbers, {{lognormal: {{median: X, p95: Y}}}} or"
        " {quantiles: {p50: X, p95: Y}}"
    )


def _listed(given: object) -> Distribution:
    if not isinstance(given, list) or not given or not all(_is_number(v) and v > 0 for v in given):
        raise ValueError(f"is {given!r}; a list must hold numbers above 0")
    return Listed(tuple(float(value) for value in given))


def _lognormal(given: object) -> Distribution:
    if (
        not isinstance(given, Mapping)
        or set(given) != {"median", "p95"}
        or not all(_is_number(value) for value in given.values())
    ):
        raise ValueError(f"has lognormal {given!r}; it must be {{median: X, p95: Y}}")
    median, p95 = float(given["median"]), float(given["p95"])
    if not 0 < median <= p95:
        raise ValueError(f"has median {median:g} and p95 {p95:g}; valid: 0 < median <= p95")
    return Lognormal(median, p95)


def _quantiles(given: object) -> Distribution:
    if not isinstance(given, Mapping) or not all(_is_number(value) for value in given.values()):
        raise ValueError(f"has quantiles {given!r}; they must be like {{p50: X, p95: Y}}")
    named = {_share(name): float(value) for name, value in given.items()}
    shares = tuple(sorted(named))
    values = tuple(named[share] for share in shares)
    if len(shares) < 2 or shares[0] > 0.5 or shares[-1] < 0.95:
        raise ValueError(
            f"has quantiles {', '.join(map(str, given))}; they must reach from p50 or lower to p95"
            " or higher"
        )
    if not positive_ascending(values):
        raise ValueError(f"has quantiles {values}; they must be above 0 and must not fall")
    return Quantiles(shares, values)


def _share(name: object) -> float:
    try:
        share = float(str(name).removeprefix("p")) / 100
    except ValueError:
        share = -1.0
    if not str(name).startswith("p") or not 0 <= share <= 1:
        raise ValueError(f"has quantile {name!r}; valid: p0 to p100, for one p95")
    return share


def _is_number(value: object) -> bool:
    return (
        not isinstance(value, bool)
        and isinstance(value, int | float)
        and float("-inf") < value < float("inf")
    )
