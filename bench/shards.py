"""A run while it is measured: shards of finished work, each whole or not there at all.

A shard is what one process measured of one point in one repeat: a folder of parquet tables and a
`shard.json`, written under another name and renamed into place. Its name says what it holds, so
nothing can be counted twice, and whatever kills a run leaves every shard that was finished. When a
run ends its shards are merged into the run folder's tables (`bench.merge`).
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

SHARDS = "shards"
Tables = Mapping[str, pd.DataFrame]
_NAME = re.compile(
    r"(?P<hash>[0-9a-f]+)-p(?P<process>\d+)-(?P<kind>r|failure|check)(?P<number>\d+)"
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
        _write_tables(part, tables)
        (part / "shard.json").write_text(json.dumps(note, indent=1) + "\n")
        _into_place(part, folder / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _write_tables(folder: Path, tables: Iterable[Tables]) -> None:
    """A file a table, with all of its rows."""
    with ExitStack() as stack:
        files: dict[str, pq.ParquetWriter] = {}
        for piece in tables:
            for name, rows in piece.items():
                found = pa.Table.from_pandas(rows, preserve_index=False)
                if name not in files:
                    file = pq.ParquetWriter(
                        folder / f"{name}.parquet", found.schema, write_page_checksum=True
                    )
                    files[name] = stack.enter_context(file)
                files[name].write_table(found)


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
    """Every finished part of a run, in a fixed order."""
    found = [
        Shard(ShardKey(match["hash"], int(match["process"]), int(match["number"])), path)
        for path, match in _matching(run_folder)
        if match["kind"] == "r"
    ]
    return sorted(found, key=lambda shard: shard.key)


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


def discard_unfinished(run_folder: Path, num_repeats: Mapping[str, int]) -> None:
    """Removes parts of processes that did not finish: a process is measured whole or again."""
    found = shards(run_folder)
    whole = finished_processes(found, num_repeats)
    for shard in found:
        if (shard.key.config_hash, shard.key.process_id) not in whole:
            shutil.rmtree(shard.path)
    for leftover in (run_folder / SHARDS).glob(".part-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def discard_process(run_folder: Path, config_hash: str, process_id: int) -> None:
    """Removes what a process measured of a point, which is then measured from its start."""
    for shard in shards(run_folder):
        if (shard.key.config_hash, shard.key.process_id) == (config_hash, process_id):
            shutil.rmtree(shard.path)


def adopt_shard(run_folder: Path, name: str, files: Mapping[str, bytes]) -> None:
    """Puts a part that was measured elsewhere in its place, whole and once."""
    if _NAME.fullmatch(name) is None or any("/" in file for file in files):
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
