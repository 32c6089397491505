"""Shards into the run folder's tables: every finished part once, points summarised from them."""

import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from bench.metrics import other_servers
from bench.parquet import move_into_place, read_parts, write_tables
from bench.roofline import floor_columns
from bench.shards import SHARDS, Shard, check_folders, failure_folders, shards
from bench.summary import point_row
from bench.tables import COLUMNS, check, frame

_NEEDED = (
    *("requests", "canvases", "steps", "repairs", "experts", "windows"),
    *("failed_requests", "loads"),
)
"""What a point is summarised from."""
_MEASURED = tuple(
    name for name in COLUMNS if name not in ("points", "failures", "checks", "op_groups")
)
"""What processes write of a point."""


def merged(run_folder: Path) -> dict[str, pd.DataFrame]:
    """All tables of a run from its shards; tables nobody wrote are missing.

    Raises:
        ValueError: a shard's table is damaged.
    """
    parts: dict[str, list[pd.DataFrame]] = {}
    for name, rows in _parts(run_folder):
        parts.setdefault(name, []).append(rows)
    return {name: pd.concat(own, ignore_index=True) for name, own in parts.items()}


def publish_tables(run_folder: Path, *, keep_shards: bool) -> None:
    """Writes the merged tables, `points` last; then the shards have done their work.

    Of a long sweep no more than a point's rows are in memory at a time: a row group each.

    Args:
        keep_shards: for a run that can be resumed.

    Raises:
        ValueError: a shard's table is damaged; nothing is written.
    """
    with tempfile.TemporaryDirectory(prefix=".part-", dir=run_folder) as part:
        names = write_tables(Path(part), ({name: rows} for name, rows in _parts(run_folder)))
        for name in sorted(names, key="points".__eq__):
            move_into_place(Path(part) / f"{name}.parquet", run_folder / f"{name}.parquet")
    if not keep_shards:
        shutil.rmtree(run_folder / SHARDS, ignore_errors=True)


def _parts(run_folder: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every table's rows, point by point, each point's own row of `points` after them."""
    for own in _by_point(shards(run_folder)):
        folders = [shard.path for shard in own]
        tables = {name: _concatenated(name, folders) for name in _MEASURED}
        tables["points"] = _point(own, tables)
        yield from _known(tables)
    checked = check_folders(run_folder)
    yield from _known({name: _concatenated(name, checked) for name in ("checks", "op_groups")})
    yield from _known({"failures": _concatenated("failures", failure_folders(run_folder))})


def _known(tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, pd.DataFrame]]:
    return ((name, rows) for name, rows in tables.items() if len(rows))


def _concatenated(name: str, folders: Iterable[Path]) -> pd.DataFrame:
    paths = [folder / f"{name}.parquet" for folder in folders]
    present = [path for path in paths if path.exists()]
    return check(name, read_parts(name, present)) if present else _nothing(name)


@cache
def _nothing(name: str) -> pd.DataFrame:
    """One for all points, as it takes longer to make than a small table takes to read."""
    return empty(name)


def empty(name: str) -> pd.DataFrame:
    """A table of no rows in its schema."""
    return frame(name, [], {"config_hash": "", "point_id": "", "host": ""})


def _by_point(found: list[Shard]) -> list[list[Shard]]:
    points: dict[str, list[Shard]] = {}
    for shard in found:
        points.setdefault(shard.key.config_hash, []).append(shard)
    return list(points.values())


def _point(own: Sequence[Shard], tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A point's row from its own rows in the other tables and what its shards noted."""
    config_hash = own[0].key.config_hash
    notes = [shard.note() for shard in own]
    row = point_row({name: tables[name] for name in _NEEDED}, notes[0]["knobs"])
    row |= _circumstances(notes)
    row |= other_servers(row, [note["knobs"].get("server") for note in notes])
    distinct, weights = row["distinct_experts_per_layer"], notes[0]["weight_bytes"]
    # With min_belief, beliefs decide how much of the table is read.
    if distinct is not None and weights is not None and not row.get("min_belief"):
        row["weight_bytes_per_step"] = weights["fixed"] + distinct * weights["per_expert"]
    row |= floor_columns(row, notes[0].get("step_work"), notes[0].get("probe"))
    hosts = sorted({str(note["host"]) for note in notes})
    keys = {
        "config_hash": config_hash,
        "point_id": str(notes[0]["point_id"]),
        "host": ",".join(hosts),
    }
    return frame("points", [row], keys)


def _circumstances(notes: list[dict[str, Any]]) -> dict[str, Any]:
    """Where and how the point's processes ran; what differs between them is joined by commas."""
    stable = [note["warmup"]["stable"] for note in notes]
    row: dict[str, Any] = {
        "peak_rss_bytes": max(note["peak_rss_bytes"] for note in notes),
        "warmup_batches": max(note["warmup"]["num_batches"] for note in notes),
        "warmup_stable": None if None in stable else all(stable),
        "dirty": any(note["code"]["dirty"] for note in notes)
        if all(note["code"]["dirty"] is not None for note in notes)
        else None,
    }
    memory = [note["device_memory"] for note in notes if note.get("device_memory")]
    for name in ("allocated", "reserved"):
        peaks = [found[f"peak_{name}_bytes"] for found in memory]
        row[f"peak_device_{name}_bytes"] = max(peaks, default=None)
    if any(note["machine"]["device"] != "cpu" for note in notes):
        row["device"] = _joined(note["machine"]["device"] for note in notes)
    for name in ("commit",):
        row[name] = _joined(note["code"][name] for note in notes)
    for name in ("cpu", "torch", "cuda", "driver"):
        row[name] = _joined(note["machine"][name] for note in notes)
    return row


def _joined(values: Iterable[object]) -> str | None:
    known = sorted({str(value) for value in values if value is not None})
    return ",".join(known) or None
