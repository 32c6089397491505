"""Recorded A/A blocks of a folder, by point and metric, as values that a rule can be tried on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from bench.ab.blocks import PLACES
from bench.ab.record import COLUMNS
from bench.comparison.metrics import METRICS
from bench.stats import Better, Blocks


@dataclass(frozen=True, slots=True)
class Recorded:
    """All batches of a folder.

    Attributes:
        rows: of all files, a place, point and metric each.
    """

    rows: pd.DataFrame

    @property
    def batches(self) -> pd.DataFrame:
        """A row a batch, in the order they were recorded: when, under what condition, of what."""
        found = self.rows.groupby("batch", sort=False).agg(
            condition=("condition", "first"),
            started=("started", "min"),
            ended=("started", "max"),
            blocks=("block", "nunique"),
            commit=("commit", "first"),
            dirty=("dirty", "any"),
        )
        return found.sort_values("started").reset_index()

    @property
    def series(self) -> list[tuple[str, str]]:
        """Every (point, metric) recorded, in the order of `METRICS`."""
        known = set(zip(self.rows["point"], self.rows["metric"], strict=True))
        order = list(METRICS)
        return sorted(known, key=lambda own: (own[0], order.index(own[1])))

    def blocks(self, point: str, metric: str) -> Blocks:
        """A metric's blocks, of a rate its inverse, so that more is always worse."""
        own = self.rows[(self.rows["point"] == point) & (self.rows["metric"] == metric)]
        table = own.pivot_table(
            index=["batch", "block"], columns="place", values="value", aggfunc="first"
        ).dropna()
        values = table.to_numpy(dtype=float)
        if METRICS[metric].better is Better.MORE:
            values = 1 / values
        return Blocks.of(values, table.index.get_level_values("batch").to_numpy(dtype=str))

    def by_metric(self) -> dict[str, list[float]]:
        """Log-ratios of all pairs by metric.

        Raises:
            ValueError: there are several points, which a metric's name does not tell apart.
        """
        points = sorted({point for point, _ in self.series})
        if len(points) > 1:
            raise ValueError(f"pairs of one point are wanted, not of {', '.join(points)}")
        return {
            metric: pair_log_ratios(self.blocks(point, metric)).tolist()
            for point, metric in self.series
        }


def pair_log_ratios(blocks: Blocks) -> np.ndarray:
    """(2 x blocks,) log-ratios of each block's two pairs of neighbours."""
    pairs = blocks.logs.reshape(-1, 2)
    return np.asarray(pairs[:, 1] - pairs[:, 0])


def read_recorded(folder: Path) -> Recorded:
    """Every batch of a folder.

    Raises:
        ValueError: none is there, a file is none, or batches are of several machines or of other
            configurations of a point.
    """
    paths = sorted(folder.glob("*.parquet"))
    if not paths:
        raise ValueError(f"{folder} holds no batch; `canvasbench aa record` makes one")
    rows = pd.concat([_read(path) for path in paths], ignore_index=True)
    unknown = sorted(set(rows["metric"]) - set(METRICS))
    if unknown:
        raise ValueError(f"{folder} has metric {unknown[0]!r}; valid: {', '.join(METRICS)}")
    if rows["host"].nunique() > 1:
        raise ValueError(f"{folder} holds batches of {rows['host'].nunique()} machines; keep one")
    for point, own in rows.groupby("point"):
        if own["config_hash"].nunique() > 1:
            raise ValueError(f"{folder} holds other configurations of {point}; keep one")
    return Recorded(rows)


def _read(path: Path) -> pd.DataFrame:
    try:
        rows = pd.read_parquet(path)
    except (pa.ArrowException, OSError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is truncated or no parquet file: {first}") from error
    missing = [name for name in COLUMNS if name not in rows]
    if missing:
        raise ValueError(f"{path} is no batch of A/A blocks: it has no column {missing[0]}")
    places = rows.groupby(["block", "point", "metric"])["place"].nunique()
    if (places != PLACES).any():
        raise ValueError(f"{path} has a block of fewer than {PLACES} places")
    if not (rows["value"] > 0).all():
        raise ValueError(f"{path} has a value that is not positive")
    return rows
