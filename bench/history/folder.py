"""A history on disk: a folder, or a git branch's, with one file of one JSON line a run.

Files are only ever added. So two jobs that add a run at the same time make no conflict, a merge is
a union, and `cat DIR/*.json` is JSON lines. Annotations of known shifts are files of their own.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench.history.entry import SERIES, VERSION, Entry, entry_of, parse_entry

_ENTRY = re.compile(r"\d{8}T\d{6}-[0-9a-f]{8}")
_ANNOTATION = re.compile(r"annotation-\d{8}T\d{6}-[0-9a-f]{8}")
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Annotation:
    """A known shift.

    Attributes:
        entry: name of the first run of it.
        point, metric: None for all of them.
    """

    entry: str
    text: str
    point: str | None
    metric: str | None
    created: str

    def concerns(self, point_id: str, metric: str) -> bool:
        return self.point in (None, point_id) and self.metric in (None, metric)


@dataclass(frozen=True, slots=True)
class History:
    """All that a folder holds, in the order the runs were made."""

    path: Path
    entries: tuple[Entry, ...]
    annotations: tuple[Annotation, ...]


def add_run(source: str | Path, folder: Path) -> Path:
    """Adds a run to a history, which is made if it is not there.

    Raises:
        ValueError: no readable run, one that is in the history already, or no writable folder.
    """
    return add_entry(entry_of(source), folder, f"run {source}")


def add_entry(entry: Entry, folder: Path, source: str) -> Path:
    """Adds what was made of a source to a history, which is made if it is not there.

    Args:
        source: what it is called in an error.

    Raises:
        ValueError: it is in the history already, or no writable folder.
    """
    path = folder / f"{entry.name}.json"
    if path.exists():
        raise ValueError(f"{source} is in the history already: {path}")
    return _write(path, entry.as_json())


def annotate(
    folder: Path, entry: str, text: str, *, point: str | None = None, metric: str | None = None
) -> Path:
    """Marks a known shift that begins with a run.

    Args:
        entry: the run's name in the history, or the beginning of it.

    Raises:
        ValueError: no such run, or several; no text, no such point or metric.
    """
    history = read_history(folder)
    found = [each for each in history.entries if each.name.startswith(entry)]
    if len(found) != 1:
        known = ", ".join(each.name for each in found or history.entries[-5:])
        which = "several runs" if found else "no run"
        raise ValueError(f"{entry!r} is {which} of {folder}; valid: {known}")
    points = [each.point_id for each in found[0].points]
    if point is not None and point not in points:
        raise ValueError(f"point {point!r} is not in {found[0].name}; valid: {', '.join(points)}")
    if metric is not None and metric not in SERIES:
        raise ValueError(f"metric {metric!r} is unknown; valid: {', '.join(SERIES)}")
    if not text.strip():
        raise ValueError("an annotation needs a text that says what changed")
    now = datetime.now(UTC)
    made = Annotation(found[0].name, text, point, metric, now.isoformat(timespec="seconds"))
    plain = {"history_version": VERSION, **asdict(made)}
    short = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:8]
    return _write(folder / f"annotation-{now:%Y%m%dT%H%M%S}-{short}.json", plain)


def read_history(folder: Path) -> History:
    """Everything in a history.

    Raises:
        ValueError: no such folder, no run in it, or a file that is damaged or of a later version.
    """
    if not folder.is_dir():
        raise ValueError(f"history {folder} is not a folder; `canvasbench history add` makes one")
    entries, annotations = [], []
    for path in sorted(folder.glob("*.json")):
        if _ENTRY.fullmatch(path.stem):
            entries.append(_read(path, partial(parse_entry, path.stem)))
        elif _ANNOTATION.fullmatch(path.stem):
            annotations.append(_read(path, lambda found: Annotation(**found)))
    if not entries:
        raise ValueError(f"history {folder} holds no run; `canvasbench history add` adds one")
    entries.sort(key=lambda entry: (entry.time, entry.name))
    return History(folder, tuple(entries), tuple(annotations))


def _read(path: Path, parse: Callable[[dict[str, Any]], _T]) -> _T:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        version = found.pop("history_version")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path} is damaged or no file of a history: {error}") from error
    if not isinstance(version, int) or version > VERSION:
        raise ValueError(
            f"{path} has history version {version!r}; this canvasbench reads up to {VERSION}"
        )
    try:
        return parse(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def _write(path: Path, plain: Mapping[str, Any]) -> Path:
    """A new file, whole or not at all; never over another."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("x", encoding="utf-8") as file:
            file.write(json.dumps(plain, sort_keys=True, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # nor can it be removed where the folder is none
            part.unlink()
        raise ValueError(f"{path} cannot be written: {error.strerror}") from error
    return path
