"""The run folder: `run.json` and one file a table; opened and read without torch.

A run that is still going, or was killed, has shards instead of finished tables (`bench.shards`);
reading it merges them, so that a folder can be read at any time.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pandas as pd

from bench.parquet import check_version, move_into_place, read_table
from bench.shards import SHARDS
from bench.tables import SCHEMA_VERSION


class TakenError(ValueError):
    """There is a folder of this name already."""


class RunFolder:
    """A run folder while one process, and only one, fills it; as a context it ends released.

    Raises:
        ValueError: another run is writing to it, or nothing can be written there.
    """

    def __init__(self, path: Path, info: Mapping[str, Any]) -> None:
        self.path = path
        self.info = dict(info)
        try:
            lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ValueError(f"run folder {path} cannot be written to: {error.strerror}") from error
        self._lock: int | None = lock
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise ValueError(f"run folder {path} is being written by another run") from None

    @classmethod
    def create(cls, path: Path, info: Mapping[str, Any]) -> "RunFolder":
        """A new folder with its run.json.

        Raises:
            TakenError: the folder exists already.
            ValueError: it cannot be made.
        """
        try:
            path.mkdir(parents=True)
        except FileExistsError:
            raise TakenError(f"run folder {path} exists already; choose another run_dir") from None
        except OSError as error:
            raise ValueError(f"run folder {path} cannot be created: {error.strerror}") from error
        created = cls(path, {"schema_version": SCHEMA_VERSION, **info, "finished": False})
        created.note()
        return created

    @staticmethod
    def check_creatable(path: Path) -> None:
        """Refuses what `create` would, as far as can be told without creating anything.

        Raises:
            TakenError: the folder exists already.
            ValueError: the nearest folder above that exists is none, or cannot be written to.
        """
        if path.exists():
            raise TakenError(f"run folder {path} exists already; choose another run_dir")
        above = next(each for each in path.absolute().parents if each.exists())
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise ValueError(f"run folder {path} cannot be created: {above} is not writable")

    @classmethod
    def reopen(cls, path: Path) -> "RunFolder":
        """An existing run, to be resumed.

        Raises:
            ValueError: no run folder, or it cannot be written to (now).
        """
        return cls(path, open_run(path).info)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def note(self, **fields: Any) -> None:
        """Adds to run.json."""
        self.info |= fields
        part = self.path / "run.json.part"
        part.write_text(json.dumps(self.info, indent=2) + "\n")
        move_into_place(part, self.path / "run.json")

    def discard(self) -> None:
        """Removes a folder in which nothing was measured."""
        shutil.rmtree(self.path)
        self.release()

    def release(self) -> None:
        """Lets others write to the folder; once is enough."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


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

    @property
    def experts(self) -> pd.DataFrame | None:
        return self.table("experts")

    @property
    def failures(self) -> pd.DataFrame | None:
        return self.table("failures")

    @property
    def checks(self) -> pd.DataFrame | None:
        return self.table("checks")

    @property
    def op_groups(self) -> pd.DataFrame | None:
        return self.table("op_groups")

    def table(self, name: str) -> pd.DataFrame | None:
        """The table called `name`, None when the run has none.

        Raises:
            ValueError: a truncated or foreign file, or one of a future schema version.
        """
        if name not in self._tables:
            if (self.path / SHARDS).is_dir():
                from bench.merge import merged  # summarising needs scipy, reading does not

                self._tables = {**dict.fromkeys(self._tables), **merged(self.path)}
                self._tables.setdefault(name, None)
            else:
                path = self.path / f"{name}.parquet"
                self._tables[name] = read_table(name, path) if path.exists() else None
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
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise ValueError(f"{info_path} is damaged: {error}") from error
    except OSError as error:
        raise ValueError(f"{info_path} cannot be read: {error.strerror}") from error
    check_version(info_path, info.get("schema_version") if isinstance(info, dict) else None)
    return Run(folder, info)
