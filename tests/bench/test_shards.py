"""Shards: whole or not there, each once; merged tables hold every finished part exactly once."""

import tracemalloc
from itertools import product
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from bench.merge import empty, merged, publish_tables
from bench.parquet import read_table, write_table
from bench.shards import (
    SHARDS,
    ShardKey,
    adopt_shard,
    discard_process,
    finished_processes,
    set_aside,
    set_unfinished_aside,
    shards,
    write_failure,
    write_shard,
)
from bench.tables import frame

NO_POINT = empty("points")
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


def test_an_unfinished_process_counts_until_it_is_replaced(tmp_path: Path) -> None:
    for repeat in range(3):
        write(tmp_path, repeat)
    write(tmp_path, 0, process=1)
    write(tmp_path, 1, process=1)
    (tmp_path / SHARDS / ".part-x").mkdir()
    finished = finished_processes(shards(tmp_path), {HASH: 3})
    assert finished == {(HASH, 0)}
    before = {s.key for s in shards(tmp_path)}
    set_unfinished_aside(tmp_path, {HASH: 3})
    assert {s.key for s in shards(tmp_path)} == before
    assert not (tmp_path / SHARDS / ".part-x").exists()
    assert of_process(tmp_path, 1) == ["p001-earlier000", "p001-earlier001"]
    write(tmp_path, 0, process=1)  # one of two: the earlier attempt is still the better one
    assert of_process(tmp_path, 1) == ["p001-earlier000", "p001-earlier001"]
    write(tmp_path, 1, process=1)
    assert of_process(tmp_path, 1) == ["p001-r000", "p001-r001"]
    assert not list((tmp_path / SHARDS).glob("*earlier*"))
    assert of_process(tmp_path, 0) == ["p000-r000", "p000-r001", "p000-r002"]


def of_process(folder: Path, process: int) -> list[str]:
    """Names of the parts that count."""
    own = [s.path.name for s in shards(folder) if s.key.process_id == process]
    return [name.removeprefix(f"{HASH}-") for name in own]


def test_of_two_attempts_the_better_one_stays(tmp_path: Path) -> None:
    for repeat in range(2):
        write(tmp_path, repeat)
    set_aside(tmp_path, HASH, 0)
    write(tmp_path, 0)
    set_aside(tmp_path, HASH, 0)  # interrupted again, with less than before
    assert of_process(tmp_path, 0) == ["p000-earlier000", "p000-earlier001"]
    write(tmp_path, 0)
    discard_process(tmp_path, HASH, 0)  # the new attempt failed
    assert of_process(tmp_path, 0) == ["p000-earlier000", "p000-earlier001"]
    assert len(list((tmp_path / SHARDS).iterdir())) == 2


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_setting_aside_may_be_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    for repeat in range(3):
        write(tmp_path, repeat)
    before = {s.key for s in shards(tmp_path)}
    real, done = Path.rename, []

    def killed(path: Path, target: Path) -> Path:
        if len(done) == renamed:
            raise KeyboardInterrupt
        done.append(path)
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            set_aside(tmp_path, HASH, 0)
    assert {s.key for s in shards(tmp_path)} == before
    set_aside(tmp_path, HASH, 0)
    assert {s.key for s in shards(tmp_path)} == before
    assert len(list((tmp_path / SHARDS).glob("*-earlier*"))) == 3


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
    found = _without_points(tmp_path)
    assert found["repairs"]["steps"].tolist() == [0, 1]
    assert len(found["failures"]) == 2


def _without_points(folder: Path) -> dict[str, pd.DataFrame]:
    """No point can be summarised from repairs alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.merge._point", lambda own, tables: NO_POINT)
        found = merged(folder)
        publish_tables(folder, keep_shards=True)
    assert (folder / "repairs.parquet").exists()
    assert shards(folder)
    return found


def write_many(folder: Path, num_points: int) -> None:
    """Points of two processes, each with a thousand rows of repairs."""
    folder.mkdir()
    for point, process in product(range(num_points), range(2)):
        rows = [REPAIR | {"request_id": i, "steps": 2 * point + process} for i in range(1000)]
        config_hash = f"{point:012x}"
        table = frame("repairs", rows, KEYS | {"config_hash": config_hash})
        write_shard(folder, ShardKey(config_hash, process, 0), {}, [{"repairs": table}])


def test_tables_are_published_as_they_are_merged(tmp_path: Path) -> None:
    write_many(tmp_path / "run", 3)
    found = _without_points(tmp_path / "run")["repairs"]
    assert found["steps"].tolist() == [i for i in range(6) for _ in range(1000)]
    path = tmp_path / "run" / "repairs.parquet"
    pd.testing.assert_frame_equal(read_table("repairs", path), found)
    assert pq.read_metadata(path).num_row_groups == 3  # one a point
    assert not list((tmp_path / "run").glob(".part-*"))


def test_a_damaged_shard_leaves_published_tables_as_they_were(tmp_path: Path) -> None:
    write_many(tmp_path / "run", 2)
    _without_points(tmp_path / "run")
    before = (tmp_path / "run" / "repairs.parquet").read_bytes()
    write(tmp_path / "run", 5)
    last = shards(tmp_path / "run")[-1].path / "repairs.parquet"
    last.write_bytes(last.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"repairs\.parquet is truncated or no parquet file"):
        _without_points(tmp_path / "run")
    assert (tmp_path / "run" / "repairs.parquet").read_bytes() == before
    assert {each.name for each in (tmp_path / "run").iterdir()} == {"repairs.parquet", SHARDS}


def test_a_long_sweep_is_published_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times the points take no more of it at a time."""
    monkeypatch.setattr("bench.merge._point", lambda own, tables: NO_POINT)
    peaks: list[int] = []
    for num_points in (1, 2, 6):  # the first imports what it needs
        folder = tmp_path / str(num_points)
        write_many(folder, num_points)
        tracemalloc.start()
        publish_tables(folder, keep_shards=True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.3 * peaks[1]
