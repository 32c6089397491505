"""When requests of an open load are sent: at random, or at the times in a file."""

import hashlib
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

COLUMN = "sent_s"
"""Of a .csv or .parquet file, as in a run's own table `requests`."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Seconds after the first moment of a load at which its requests are sent."""

    seconds: tuple[float, ...]
    sha256: str


def poisson(rate_per_s: float, seed: int | str) -> Iterator[float]:
    """Times of a Poisson process, without end; the first comes at once.

    Raises:
        ValueError: the rate is not above 0.
    """
    if rate_per_s <= 0:
        raise ValueError(f"rate_per_s is {rate_per_s}; it must be > 0")
    return _exponential(rate_per_s, random.Random(seed))


def _exponential(rate_per_s: float, rng: random.Random) -> Iterator[float]:
    at_s = 0.0
    while True:
        yield at_s
        at_s += rng.expovariate(rate_per_s)


def read_arrivals(path: str | Path) -> Arrivals:
    """A file's times: a number a line, or the column `sent_s` of a .csv or .parquet file.

    Raises:
        ValueError: no such file, or times that are none, below 0 or in no order.
    """
    file = Path(path).expanduser()
    try:
        content = file.read_bytes()
        seconds = _seconds(file)
    except OSError as error:
        raise ValueError(f"backend.arrivals={path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError) as error:
        said = f"no column {COLUMN}" if isinstance(error, KeyError) else str(error).splitlines()[0]
        raise ValueError(
            f"backend.arrivals={path}: {said}; valid: a number of seconds a line, or a .csv or "
            f".parquet file with a column {COLUMN}"
        ) from None
    for before, after in zip((0.0, *seconds), seconds, strict=False):
        if not math.isfinite(after) or after < before:
            raise ValueError(
                f"backend.arrivals={path} holds {after:g} after {before:g}; valid: seconds that "
                "begin at 0 or later and never go back"
            )
    return Arrivals(seconds, hashlib.sha256(content).hexdigest())


def _seconds(file: Path) -> tuple[float, ...]:
    if file.suffix == ".csv":
        return tuple(pd.read_csv(file)[COLUMN].astype(float))
    if file.suffix == ".parquet":
        return tuple(pd.read_parquet(file)[COLUMN].astype(float))
    return tuple(float(line) for line in file.read_text(encoding="utf-8").split())
