"""A run while it is measured: shards of finished work, each whole or not there at all.

A shard is what one process measured of one point in one repeat: a folder of parquet tables and a
`shard.json`, written under another name and renamed into place. Its name says what it holds, so
nothing can be counted twice, and whatever kills a run leaves every shard that was finished. When a
run ends its shards are merged into the run folder's tables (`bench.merge`).

A process is measured whole or again, so that its repeats share one process's luck. What it measured
before an interruption stays, under another name, until the new attempt holds as many repeats.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from bench.parquet import write_tables

SHARDS = "shards"
Tables = Mapping[str, pd.DataFrame]
_NAME = re.compile(
    r"(?P<hash>[0-9a-f]+)-p(?P<process>\d+)-(?P<kind>r|earlier|failure|check)(?P<number>\d+)"
)


@dataclass(frozen=True, slots=True, order=True)
class ShardKey:
    """Which part of a sweep: a point by its hash, a process, a repeat of it."""

    config_hash: str
    process_id: int
    repeat: int


@dataclass(frozen=True, slots=True)
class Shard:
    """A finished part and where it lies."""

    key: ShardKey
    path: Path

    def note(self) -> dict[str, Any]:
        """What was said about the part when it was written: knobs, machine, warm-up."""
        found = json.loads((self.path / "shard.json").read_text())
        assert isinstance(found, dict)
        return found


def write_shard(
    run_folder: Path, key: ShardKey, note: Mapping[str, Any], tables: Iterable[Tables]
) -> None:
    """Writes a part whole; one that is there already stays, as both are the same work.

    Args:
        tables: a table's rows in as many pieces as they come in, one after the other.

    Raises:
        OSError: the disk is full or gone; nothing half-written stays.
    """
    name = f"{key.config_hash}-p{key.process_id:03}-r{key.repeat:03}"
    _write_folder(run_folder / SHARDS, name, asdict(key) | dict(note), tables)
    _drop_replaced(run_folder, key.config_hash, key.process_id)


def write_failure(run_folder: Path, config_hash: str, process_id: int, table: pd.DataFrame) -> None:
    """Adds a failure of a process; failures of earlier attempts stay beside it."""
    folder = run_folder / SHARDS
    taken = len(list(folder.glob(f"{config_hash}-p{process_id:03}-failure*")))
    name = f"{config_hash}-p{process_id:03}-failure{taken:03}"
    _write_folder(folder, name, {}, [{"failures": table}])


def write_check(run_folder: Path, config_hash: str, number: int, tables: Tables) -> None:
    """Adds what a check (`bench.checks`) found at a point."""
    _write_folder(run_folder / SHARDS, f"{config_hash}-p000-check{number:03}", {}, [tables])


def _write_folder(
    folder: Path, name: str, note: Mapping[str, Any], tables: Iterable[Tables]
) -> None:
    folder.mkdir(exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    try:
        write_tables(part, tables)
        (part / "shard.json").write_text(json.dumps(note, indent=1) + "\n")
        _into_place(part, folder / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _into_place(part: Path, whole: Path) -> None:
    """Renames a folder once its content, and then the rename itself, is on the disk."""
    for file in (*part.iterdir(), part):
        _sync(file)
    if not whole.exists():
        part.rename(whole)
        _sync(whole.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def shards(run_folder: Path) -> list[Shard]:
    """Every finished part of a run that counts, in a fixed order.

    Of a process that is measured again the parts of one attempt, the one with more of them.
    """
    return sorted(
        (shard for attempts in _attempts(run_folder).values() for shard in attempts.counting()),
        key=lambda shard: shard.key,
    )


@dataclass(slots=True)
class _Attempts:
    """A process's parts of a point, by repeat: those of this attempt, and those set aside."""

    now: dict[int, Shard] = field(default_factory=dict)
    earlier: dict[int, Shard] = field(default_factory=dict)

    @property
    def begun(self) -> bool:
        """Whether there is a new attempt; without its first repeat, parts are yet to be renamed."""
        return 0 in self.now or not self.earlier

    @property
    def replaced(self) -> bool:
        return self.begun and len(self.now) >= len(self.earlier)

    def counting(self) -> Iterable[Shard]:
        if not self.begun:
            return (self.earlier | self.now).values()
        return (self.now if self.replaced else self.earlier).values()


def _attempts(run_folder: Path) -> dict[tuple[str, int], _Attempts]:
    """By (config hash, process)."""
    found: dict[tuple[str, int], _Attempts] = {}
    for path, match in _matching(run_folder):
        if match["kind"] in ("r", "earlier"):
            key = ShardKey(match["hash"], int(match["process"]), int(match["number"]))
            attempts = found.setdefault((key.config_hash, key.process_id), _Attempts())
            parts = attempts.now if match["kind"] == "r" else attempts.earlier
            parts[key.repeat] = Shard(key, path)
    return found


def _drop_replaced(run_folder: Path, config_hash: str, process_id: int) -> None:
    """Removes the parts of a process's earlier attempt once the later one makes up for them."""
    first = run_folder / SHARDS / f"{config_hash}-p{process_id:03}-earlier000"
    if not first.exists():  # it is set aside first and removed last
        return
    attempts = _attempts(run_folder).get((config_hash, process_id), _Attempts())
    if attempts.replaced:
        _remove(attempts.earlier)


def _remove(parts: Mapping[int, Shard]) -> None:
    """Removes parts, each at once and the first repeat last."""
    for repeat in sorted(parts, reverse=True):
        path = parts[repeat].path
        leftover = path.with_name(f".part-{path.name}")
        path.rename(leftover)
        shutil.rmtree(leftover, ignore_errors=True)


def failure_folders(run_folder: Path) -> list[Path]:
    """Folders of recorded failures, in a fixed order."""
    return sorted(path for path, match in _matching(run_folder) if match["kind"] == "failure")


def check_folders(run_folder: Path) -> list[Path]:
    """Folders of what checks found, in a fixed order."""
    return sorted(path for path, match in _matching(run_folder) if match["kind"] == "check")


def checks_done(run_folder: Path) -> set[tuple[str, int]]:
    """(config hash, number) of every check that was done."""
    return {
        (match["hash"], int(match["number"]))
        for _, match in _matching(run_folder)
        if match["kind"] == "check"
    }


def _matching(run_folder: Path) -> Iterator[tuple[Path, re.Match[str]]]:
    folder = run_folder / SHARDS
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match is not None:
            yield path, match


def finished_processes(found: list[Shard], num_repeats: Mapping[str, int]) -> set[tuple[str, int]]:
    """(config hash, process) pairs whose every repeat is there."""
    counts: dict[tuple[str, int], int] = {}
    for shard in found:
        pair = shard.key.config_hash, shard.key.process_id
        counts[pair] = counts.get(pair, 0) + 1
    return {pair for pair, n in counts.items() if n >= num_repeats.get(pair[0], 0)}


def set_unfinished_aside(run_folder: Path, num_repeats: Mapping[str, int]) -> None:
    """Readies a run to be resumed: what processes measured that did not finish is set aside."""
    for leftover in (run_folder / SHARDS).glob(".part-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for pair in set(_attempts(run_folder)) - finished_processes(shards(run_folder), num_repeats):
        set_aside(run_folder, *pair)


def set_aside(run_folder: Path, config_hash: str, process_id: int) -> None:
    """Makes room for a new attempt at a process's share of a point.

    Its parts count until the new ones are as many; where two attempts are there, the better one's.
    """
    attempts = _attempts(run_folder).get((config_hash, process_id), _Attempts())
    if attempts.replaced:
        _remove(attempts.earlier)
    elif attempts.begun:
        _remove(attempts.now)
        return
    for repeat in sorted(attempts.now):
        path = attempts.now[repeat].path
        path.rename(path.with_name(path.name.replace("-r", "-earlier")))


def discard_process(run_folder: Path, config_hash: str, process_id: int) -> None:
    """Removes what a process that failed measured of a point; an earlier attempt's parts stay."""
    attempts = _attempts(run_folder).get((config_hash, process_id), _Attempts())
    _remove(attempts.now)


def adopt_shard(run_folder: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Puts a part that was measured elsewhere in its place, whole and once."""
    match = _NAME.fullmatch(name)
    if match is None or any("/" in file for file in files):
        raise ValueError(f"{name!r} is no shard")
    folder = run_folder / SHARDS
    folder.mkdir(exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder))
    try:
        for file, content in files.items():
            (part / file).write_bytes(content)
        _into_place(part, folder / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    _drop_replaced(run_folder, match["hash"], int(match["process"]))
