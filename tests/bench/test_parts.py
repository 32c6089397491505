"""A repeat's tables, made and written in parts: the same rows, and little memory at a time."""

import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench import collect
from bench.build import build_sessions, build_workload
from bench.collect import repeat_parts, repeat_tables
from bench.parquet import read_table
from bench.runner import PointRun, Repeat, measure_repeat
from bench.shards import ShardKey, shards, write_shard
from bench.step_work import step_work
from tests.bench.backends.openai.running import ANSWER, Scripts, composed
from tests.bench.backends.openai.scripted_server import Script, refuses
from tests.bench.backends.openai.test_session import running

HASH = "0123456789ab"


def served(num_prompts: int) -> tuple[PointRun, Repeat]:
    """A load of which every fifth request fails."""
    point = composed()

    def choose(i: int) -> Script:
        return refuses("503 Unavailable", b"later") if i % 5 == 0 else ANSWER

    with running(Scripts(choose, {})) as server:
        config = replace(
            point.config,
            backend=replace(point.config.backend, url=server.url, connections=4),
            workload=replace(point.config.workload, num_prompts=num_prompts),
        )
        (session,) = build_sessions([point.point_id], [config], 0)
        run = PointRun(
            replace(point, config=config, config_hash=HASH), session, build_workload(config)
        )
        return run, measure_repeat(run, 0, lambda: None)


def test_parts_are_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, found = served(25)
    whole = repeat_tables(run, found, "here")
    assert [len(whole[name]) for name in ("requests", "canvases", "failed_requests")] == [20, 40, 5]
    monkeypatch.setattr(collect, "_PART", 3)
    parts = list(repeat_parts(run, found, "here"))
    assert [len(part["requests"]) for part in parts if "requests" in part] == [3] * 6 + [2]
    assert [len(p["failed_requests"]) for p in parts if "failed_requests" in p] == [3, 2]
    write_shard(tmp_path, ShardKey(HASH, 0, 0), {}, parts)
    (shard,) = shards(tmp_path)
    assert sorted(file.stem for file in shard.path.glob("*.parquet")) == sorted(whole)
    for name, table in whole.items():
        pd.testing.assert_frame_equal(read_table(name, shard.path / f"{name}.parquet"), table)


class Counted:
    """Records that are made whenever they are gone through, and which ones were."""

    def __init__(self, records: Iterable[Any]) -> None:
        self._records, self.made = records, list[int]()

    def __iter__(self) -> Iterator[Any]:
        for record in self._records:
            self.made.append(record.request_id)
            yield record


def test_a_record_is_made_once(tmp_path: Path) -> None:
    run, found = served(25)
    requests, failed = Counted(found.requests), Counted(found.failed)
    told = replace(found, requests=requests, failed=failed)
    assert step_work(run.point.config, told.requests) is None
    write_shard(tmp_path, ShardKey(HASH, 0, 0), {}, repeat_parts(run, told, "here"))
    made = requests.made + failed.made
    assert sorted(made) == sorted(prompt.request_id for prompt in run.workload.prompts)


def test_a_long_load_is_written_in_little_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times the requests take no more of it at a time."""
    monkeypatch.setattr(collect, "_PART", 100)
    run, few = served(25)
    peaks: list[int] = []
    tracemalloc.start()
    try:
        for repeat, times in enumerate((1, 25, 75)):  # the first imports what it needs
            requests, failed = list(few.requests) * times, list(few.failed) * times
            found = replace(few, requests=requests, failed=failed)
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            write_shard(tmp_path, ShardKey(HASH, 0, repeat), {}, repeat_parts(run, found, "here"))
            peaks.append(tracemalloc.get_traced_memory()[1] - before)
    finally:
        tracemalloc.stop()
    assert peaks[2] < 1.3 * peaks[1]
