"""The run folder: written point by point, each file whole or not at all; read back with checks.

After every point each table is written beside its place and moved there, so that a folder is
readable at any time. `points` comes last: a point that stands there has all its data.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from bench.tables import COLUMNS, SCHEMA_VERSION, check


class RunWriter:
    """Creates a run folder and fills it.

    Raises:
        ValueError: the folder exists already, or its parent cannot be written to.
    """

    def __init__(self, folder: Path, info: Mapping[str, Any]) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise ValueError(
                f"run folder {folder} exists already; choose another run_dir"
            ) from None
        except OSError as error:
            raise ValueError(f"run folder {folder} cannot be created: {error.strerror}") from error
        self._info = {"schema_version": SCHEMA_VERSION, **info, "finished": False}
        self._points: dict[str, dict[str, pd.DataFrame]] = {}
        self._write_info()

    def write_point(self, point_id: str, tables: Mapping[str, pd.DataFrame]) -> None:
        """Adds or replaces a point's rows in every table."""
        self._points[point_id] = dict(tables)
        for table in sorted(COLUMNS, key="points".__eq__):
            parts = [t[table] for t in self._points.values() if table in t and len(t[table])]
            if parts:
                _replace(
                    self.folder / f"{table}.parquet",
                    check(table, pd.concat(parts, ignore_index=True)),
                )

    def close(self, *, finished: bool, wall_s: float) -> None:
        """Notes how the run ended."""
        self._info |= {"finished": finished, "interrupted": not finished, "wall_s": wall_s}
        self._write_info()

    def _write_info(self) -> None:
        path = self.folder / "run.json"
        part = path.with_suffix(".json.part")
        part.write_text(json.dumps(self._info, indent=2) + "\n")
        _move(part, path)


def _replace(path: Path, table: pd.DataFrame) -> None:
    """Writes a parquet file beside its place, then moves it there."""
    part = path.with_suffix(".parquet.part")
    table.to_parquet(part, index=False, write_page_checksum=True)
    _move(part, path)


def _move(part: Path, path: Path) -> None:
    """Puts a file in its place once its content is on the disk."""
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)


@dataclass(slots=True)
class Run:
    """An opened run: `info` is run.json, every table a dataframe read and checked on first use."""

    path: Path
    info: dict[str, Any]
    _tables: dict[str, pd.DataFrame | None] = field(default_factory=dict)

    @property
    def points(self) -> pd.DataFrame:
        """One row a point.

        Raises:
            ValueError: no point was finished.
        """
        points = self.table("points")
        if points is None:
            raise ValueError(f"run {self.path} has no finished point")
        return points

    @property
    def requests(self) -> pd.DataFrame | None:
        return self.table("requests")

    @property
    def canvases(self) -> pd.DataFrame | None:
        return self.table("canvases")

    @property
    def steps(self) -> pd.DataFrame | None:
        return self.table("steps")

    @property
    def positions(self) -> pd.DataFrame | None:
        return self.table("positions")

    @property
    def repairs(self) -> pd.DataFrame | None:
        return self.table("repairs")

    def table(self, name: str) -> pd.DataFrame | None:
        """The table called `name`, None when the run has none.

        Raises:
            ValueError: a truncated or foreign file, or one of another schema version.
        """
        if name not in self._tables:
            path = self.path / f"{name}.parquet"
            self._tables[name] = _read(name, path) if path.exists() else None
        return self._tables[name]


def open_run(path: str | Path) -> Run:
    """Opens a run folder.

    Raises:
        ValueError: the folder or its run.json is missing or unreadable, or of a future version.
    """
    folder = Path(path)
    info_path = folder / "run.json"
    if not folder.is_dir():
        raise ValueError(f"run {folder} is not a folder")
    try:
        info = json.loads(info_path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{folder} is no run folder: it has no run.json") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{info_path} is damaged: {error}") from error
    except OSError as error:
        raise ValueError(f"{info_path} cannot be read: {error.strerror}") from error
    _check_version(info_path, info.get("schema_version") if isinstance(info, dict) else None)
    return Run(folder, info)


_NULLABLE = {
    pa.int64(): pd.Int64Dtype(),
    pa.bool_(): pd.BooleanDtype(),
    pa.string(): pd.StringDtype(),
    pa.large_string(): pd.StringDtype(),
}


def _read(table: str, path: Path) -> pd.DataFrame:
    try:
        # The schema says what the columns are; what the file says of pandas is not needed.
        stored = pq.read_table(path, page_checksum_verification=True).replace_schema_metadata()
        found = stored.to_pandas(types_mapper=_NULLABLE.get)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is truncated or no parquet file: {first}") from error
    versions = found["schema_version"].unique() if "schema_version" in found else [None]
    for version in versions:
        _check_version(path, version)
    try:
        return check(table, found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _check_version(path: Path, version: Any) -> None:
    if version is None:
        raise ValueError(f"{path} has no schema_version; it was not written by canvasbench")
    if isinstance(version, bool) or not isinstance(version, int | np.integer):
        raise ValueError(f"{path} has schema version {version!r}; it must be an integer")
    if version > SCHEMA_VERSION:
        raise ValueError(
            f"{path} has schema version {version}; this canvasbench reads up to {SCHEMA_VERSION}"
        )
