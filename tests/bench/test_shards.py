"""Shards: whole or not there, each once; merged tables hold every finished part exactly once."""

import json
from pathlib import Path

import pytest

from bench.merge import merged, publish_tables
from bench.parquet import write_table
from bench.shards import (
    SHARDS,
    ShardKey,
    adopt_shard,
    discard_process,
    discard_unfinished,
    finished_processes,
    shards,
    write_failure,
    write_shard,
)
from bench.tables import frame

HASH, OTHER = "0123456789ab", "ba9876543210"
KEYS = {"config_hash": HASH, "point_id": "a", "host": "0a1b2c3d"}
REPAIR = {
    "request_id": 3,
    "task": "sort",
    "corrupted": 2,
    "repaired": 1,
    "untouched": 5,
    "preserved": 5,
    "steps": 4,
    "correct": False,
}


def write(folder: Path, repeat: int, *, process: int = 0, config_hash: str = HASH) -> None:
    table = frame("repairs", [REPAIR | {"steps": repeat}], KEYS | {"config_hash": config_hash})
    write_shard(folder, ShardKey(config_hash, process, repeat), {}, [{"repairs": table}])


def test_a_part_is_written_once_and_whole(tmp_path: Path) -> None:
    write(tmp_path, 1)
    write(tmp_path, 0)
    first = (tmp_path / SHARDS / f"{HASH}-p000-r001" / "repairs.parquet").read_bytes()
    write(tmp_path, 1)  # the same work again changes nothing
    assert [s.key.repeat for s in shards(tmp_path)] == [0, 1]
    assert (shards(tmp_path)[1].path / "repairs.parquet").read_bytes() == first
    assert not list((tmp_path / SHARDS).glob(".part-*"))


@pytest.mark.parametrize("fails_at", ["rename", "fsync"])
def test_a_failed_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    write(tmp_path, 0)

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if fails_at == "rename":
        monkeypatch.setattr(Path, "rename", no_space)
    else:
        monkeypatch.setattr("bench.shards.os.fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path, 1)
    assert [s.key.repeat for s in shards(tmp_path)] == [0]
    assert len(list((tmp_path / SHARDS).iterdir())) == 1


def test_unfinished_processes_are_measured_again(tmp_path: Path) -> None:
    for repeat in range(3):
        write(tmp_path, repeat)
    write(tmp_path, 0, process=1)
    write(tmp_path, 0, config_hash=OTHER)
    (tmp_path / SHARDS / ".part-x").mkdir()
    repeats = {HASH: 3, OTHER: 1}
    assert finished_processes(shards(tmp_path), repeats) == {(HASH, 0), (OTHER, 0)}
    discard_unfinished(tmp_path, repeats)
    assert {(s.key.config_hash, s.key.process_id) for s in shards(tmp_path)} == {
        (HASH, 0),
        (OTHER, 0),
    }
    assert not (tmp_path / SHARDS / ".part-x").exists()
    discard_process(tmp_path, HASH, 0)
    assert [s.key.config_hash for s in shards(tmp_path)] == [OTHER]


def test_what_was_measured_elsewhere_comes_in_once(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    write(there, 0)
    (part,) = (there / SHARDS).iterdir()
    files = {file.name: file.read_bytes() for file in part.iterdir()}
    here = tmp_path / "here"
    here.mkdir()
    for _ in range(2):
        adopt_shard(here, part.name, files)
    assert [s.key.repeat for s in shards(here)] == [0]
    with pytest.raises(ValueError, match="is no shard"):
        adopt_shard(here, "../escape", files)
    with pytest.raises(ValueError, match="is no shard"):
        adopt_shard(here, part.name, {"../../x": b""})


def test_merging_reads_finished_parts_and_failures_only(tmp_path: Path) -> None:
    for repeat in range(2):
        write(tmp_path, repeat)
    row = {"process_id": 1, "attempt": 1, "reason": "killed", "detail": "d", "log_tail": ""}
    failure = frame("failures", [row | {"created": "now"}], KEYS)
    for _ in range(2):
        write_failure(tmp_path, HASH, 1, failure)
    leftover = tmp_path / SHARDS / ".part-y"
    leftover.mkdir()
    write_table(leftover / "repairs.parquet", frame("repairs", [REPAIR], KEYS))
    for shard in shards(tmp_path):  # no point can be summarised from repairs alone
        (shard.path / "shard.json").write_text(json.dumps({}))
    found = _without_points(tmp_path)
    assert found["repairs"]["steps"].tolist() == [0, 1]
    assert len(found["failures"]) == 2


def _without_points(folder: Path) -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.merge._by_point", lambda _: [])
        found = merged(folder)
        publish_tables(folder, keep_shards=True)
    assert (folder / "repairs.parquet").exists()
    assert shards(folder)
    return found
