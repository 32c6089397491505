"""Which points of two runs are the same: by the hash of their configuration, else by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from bench.comparison.environment import Difference, config_differences
from bench.comparison.metrics import PEAKS
from bench.store import Run

_ROW = ("process_id", "repeat", "request_id")
_COLUMNS = {
    "requests": (
        *_ROW,
        "batch_size",
        "wall_s",
        "prefill_s",
        "first_canvas_s",
        "last_delivery_s",
        "delivered_tokens",
        "first_delivery_tokens",
        "slots_committed",
        "correct",
    ),
    "canvases": (
        *_ROW,
        "steps",
        "content_tokens",
        "revised_after_accept",
        "flips",
        "flip_opportunities",
        "revocations",
    ),
    "steps": (*_ROW, "phase", "canvas_index", "step", "device_ms"),
    "windows": ("process_id", *PEAKS),
}
"""All that a comparison reads; texts, of which tables have many, take long to filter."""
_NO_MEASUREMENT = ("run_dir", "sweep", "launcher", "time_budget_s", "stage", "stages", "experiment")
"""Keys of a configuration that say how a run was started, not what was measured."""


@dataclass(frozen=True, slots=True)
class MeasuredPoint:
    """A point with its row of `points` and its own rows of the other tables."""

    point_id: str
    row: Mapping[str, Any]
    tables: dict[str, pd.DataFrame]

    @property
    def valid(self) -> bool:
        """Not invalidated by a measurement fault."""
        return self.row.get("validity") != "invalid"

    @property
    def dummy(self) -> bool:
        """Random weights: their contents are nobody's answer."""
        return self.row.get("weights") == "dummy"

    def known(self, name: str) -> Any:
        value = self.row.get(name)
        return None if value is None or pd.isna(value) else value


@dataclass(frozen=True, slots=True)
class Match:
    """A point of both runs, and the keys in which its configurations differ."""

    baseline: MeasuredPoint
    candidate: MeasuredPoint
    config: tuple[Difference, ...] = field(default=())


def matches(baseline: Run, candidate: Run) -> tuple[list[Match], list[str], list[str]]:
    """Points of both runs, and the names of those that only one has (baseline's, candidate's).

    Raises:
        ValueError: a run has no finished point, or a damaged table.
    """
    ours, theirs = _points(candidate), _points(baseline)
    by_hash = {point.row["config_hash"]: point for point in theirs}
    found: list[tuple[MeasuredPoint, MeasuredPoint]] = []
    for point in ours:
        if (same := by_hash.pop(point.row["config_hash"], None)) is not None:
            found.append((same, point))
    taken = {id(point) for pair in found for point in pair}
    by_name = {point.point_id: point for point in theirs if id(point) not in taken}
    for point in ours:
        if id(point) not in taken and (same := by_name.pop(point.point_id, None)) is not None:
            found.append((same, point))
    taken = {id(point) for pair in found for point in pair}
    order = {id(point): place for place, point in enumerate(ours)}
    found.sort(key=lambda pair: order[id(pair[1])])
    made = [Match(b, c, _config_differences(baseline, candidate, b, c)) for b, c in found]
    alone = [
        [point.point_id for point in points if id(point) not in taken] for points in (theirs, ours)
    ]
    return made, alone[0], alone[1]


def _points(run: Run) -> list[MeasuredPoint]:
    tables = {name: _by_point(run.table(name), names) for name, names in _COLUMNS.items()}
    empty = {name: pd.DataFrame(columns=list(names)) for name, names in _COLUMNS.items()}
    rows = [{str(k): v for k, v in row.items()} for row in run.points.to_dict("records")]
    return [
        MeasuredPoint(
            str(row["point_id"]),
            row,
            {name: own.get(row["config_hash"], empty[name]) for name, own in tables.items()},
        )
        for row in rows
    ]


def _by_point(table: pd.DataFrame | None, columns: Sequence[str]) -> dict[str, pd.DataFrame]:
    """A table's rows by the hash of their configuration."""
    if table is None:
        return {}
    kept = table[list(columns)]
    if "phase" in kept:
        kept = kept.assign(phase=kept["phase"].astype(object))
    return {str(key): own for key, own in kept.groupby(table["config_hash"].to_numpy())}


def _config_differences(
    baseline: Run, candidate: Run, theirs: MeasuredPoint, ours: MeasuredPoint
) -> tuple[Difference, ...]:
    """Named where the configurations are stored; else that they differ is all that is known."""
    hashes = str(theirs.row["config_hash"]), str(ours.row["config_hash"])
    if hashes[0] == hashes[1]:
        return ()
    configs = [_stored(run, point) for run, point in ((baseline, theirs), (candidate, ours))]
    if configs[0] is None or configs[1] is None:
        return (Difference("config hash", *hashes),)
    found = config_differences(configs[0], configs[1])
    kept = [each for each in found if each.name.split(".")[0] not in _NO_MEASUREMENT]
    return tuple(kept) or (Difference("config hash", *hashes),)


def _stored(run: Run, point: MeasuredPoint) -> Mapping[str, Any] | None:
    configs = run.info.get("config")
    own = configs.get(point.point_id) if isinstance(configs, Mapping) else None
    return own if isinstance(own, Mapping) else None
