"""How a number that is not known exactly is drawn in a Monte Carlo.

Draws of one stream are the same wherever they are asked for, so options that share a power price
are compared under the same power price, draw by draw, and the numbers of one measured point share
the draws of its processes. Nothing is kept: the stream's name and the seed make the generator.
"""

import math
import zlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy

from bench.stats import CONFIDENCE

TAILS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
"""Quantiles that bound a 95 % interval."""
Z = float(scipy.stats.norm.ppf(TAILS[1]))
"""Standard deviations from the middle of a normal to either."""


@dataclass(frozen=True, slots=True)
class Draws:
    """How a Monte Carlo draws: `count` values of every number, from a seed."""

    count: int = 10_000
    seed: int = 0

    def generator(self, stream: str) -> np.random.Generator:
        """A generator that gives the same numbers for the same stream."""
        return np.random.default_rng([self.seed, zlib.crc32(stream.encode())])


class Law(Protocol):
    """The distribution of a number; `draw` gives (count,) values."""

    def draw(self, draws: Draws, stream: str) -> np.ndarray: ...


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every value between two is as likely as another."""

    low: float
    high: float

    def draw(self, draws: Draws, stream: str) -> np.ndarray:
        return draws.generator(stream).uniform(self.low, self.high, draws.count)


@dataclass(frozen=True, slots=True)
class Triangular:
    """Likeliest at the mode, impossible beyond the limits."""

    low: float
    mode: float
    high: float

    def draw(self, draws: Draws, stream: str) -> np.ndarray:
        return draws.generator(stream).triangular(self.low, self.mode, self.high, draws.count)


@dataclass(frozen=True, slots=True)
class Limits:
    """Normal either side of a value, its sides given by 95 % limits; in the logarithm where all of
    them are positive, as a rate's are.
    """

    value: float
    low: float
    high: float

    def draw(self, draws: Draws, stream: str) -> np.ndarray:
        z = draws.generator(stream).standard_normal(draws.count) / Z
        limits = np.array([self.low, self.value, self.high])
        is_log = bool(self.low > 0)
        low, value, high = np.log(limits) if is_log else limits
        found = value + np.where(z < 0, (value - low) * z, (high - value) * z)
        return np.asarray(np.exp(found) if is_log else found)


@dataclass(frozen=True, slots=True)
class Spread:
    """One source of the error of a measured logarithm, shared with others of its stream.

    Attributes:
        stream: names the source: the processes of a point, say.
        weights: of the source's independent normals; their squares sum to the squared standard
            error. Numbers that share a stream have equally many.
        df: degrees of freedom of the standard error.
    """

    stream: str
    weights: tuple[float, ...]
    df: float

    @property
    def variance(self) -> float:
        return sum(weight * weight for weight in self.weights)


@dataclass(frozen=True, slots=True)
class Measured:
    """A positive estimate whose logarithm has a Student t error: one or more spreads, independent.

    Attributes:
        spreads: at least one.
    """

    value: float
    spreads: tuple[Spread, ...]

    @property
    def standard_error(self) -> float:
        """Of the logarithm."""
        return math.sqrt(sum(spread.variance for spread in self.spreads))

    @property
    def df(self) -> float:
        """Of all spreads together (Satterthwaite 1946)."""
        total = sum(spread.variance for spread in self.spreads)
        if total == 0:
            return float(min(spread.df for spread in self.spreads))
        return total**2 / sum(spread.variance**2 / spread.df for spread in self.spreads)

    def limits(self) -> tuple[float, float]:
        """The 95 % interval."""
        half = float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, self.df)) * self.standard_error
        return self.value * math.exp(-half), self.value * math.exp(half)

    def draw(self, draws: Draws, stream: str) -> np.ndarray:
        """Quantiles as those of `limits`; numbers of the same streams vary together."""
        error = np.zeros(draws.count)
        for spread in self.spreads:
            weights = np.array(spread.weights)
            normals = draws.generator(spread.stream).standard_normal((draws.count, len(weights)))
            error += normals @ weights
        scale = draws.generator(f"{self.spreads[0].stream}/scale")
        error /= np.sqrt(scale.chisquare(self.df, draws.count) / self.df)
        return np.asarray(self.value * np.exp(error))
