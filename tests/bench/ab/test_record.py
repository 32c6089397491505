"""Batches of A/A blocks: what a file holds, when it is written, what is refused."""

from pathlib import Path

import pandas as pd
import pytest

from bench.ab import record as recording
from bench.ab.aa_blocks import read_recorded
from bench.ab.process import Half, Measured, ProcessFailedError
from bench.ab.record import COLUMNS, Recording, record
from tests.bench.ab.fake import HASH, POINT, Repository


def wanted(folder: Path, *, blocks: int = 2, batch: str = "one", **given: str) -> Recording:
    return Recording(
        folder=folder,
        batch=batch,
        blocks=blocks,
        condition=given.get("condition", "quiet"),
        revision=given.get("revision"),
        overrides=(),
    )


def test_a_batch_holds_every_place_of_every_block(repository: Repository, tmp_path: Path) -> None:
    path = record(repository.path, wanted(tmp_path / "aa", revision="HEAD"), lambda line: None)
    rows = pd.read_parquet(path)
    assert path == tmp_path / "aa" / "one.parquet"
    assert tuple(rows) == COLUMNS
    steps = rows[rows["metric"] == "step_ms"]
    assert steps["block"].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert steps["place"].tolist() == [0, 1, 2, 3] * 2
    assert (steps["value"] > 0).all()
    assert set(rows["metric"]) == {
        "delivered_tok_per_s",
        "decode_tok_per_s",
        "step_ms",
        "commit_ms",
        "prefill_ms",
        "peak_rss_bytes",
    }
    for column, value in {
        "batch": "one",
        "condition": "quiet",
        "point": POINT,
        "commit": repository.git("rev-parse", "HEAD"),
        "dirty": False,
        "host": "host1",
        "config_hash": HASH,
    }.items():
        assert set(rows[column]) == {value}
    assert all(started.endswith("+00:00") for started in rows["started"])
    assert repository.path not in {tree for _, _, tree in repository.ran}
    assert [number for _, number, _ in repository.ran] == [-1, 0, 0, 1, 1, 2, 2, 3, 3]


def test_interrupted_a_batch_holds_its_finished_blocks(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = recording.measure_pair

    def until_the_second_block(first: Half, second: Half) -> tuple[Measured, Measured]:
        if first.process_id == 3:
            raise KeyboardInterrupt
        return measure(first, second)

    monkeypatch.setattr(recording, "measure_pair", until_the_second_block)
    with pytest.raises(KeyboardInterrupt):
        record(repository.path, wanted(tmp_path / "aa"), lambda line: None)
    assert read_recorded(tmp_path / "aa").batches["blocks"].tolist() == [1]


def test_a_checkout_that_is_edited_meanwhile_ends_a_recording(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = recording.measure_pair

    def editing(first: Half, second: Half) -> tuple[Measured, Measured]:
        if first.process_id == 3:
            (repository.path / "bench/variant").write_text("same")
        return measure(first, second)

    monkeypatch.setattr(recording, "measure_pair", editing)
    with pytest.raises(ValueError, match="changed while it was measured; 1 blocks are kept"):
        record(repository.path, wanted(tmp_path / "aa"), lambda line: None)
    assert read_recorded(tmp_path / "aa").batches["blocks"].tolist() == [1]


def test_a_block_in_which_a_process_fails_is_measured_again(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure, failed = recording.measure_pair, []

    def once_bad(first: Half, second: Half) -> tuple[Measured, Measured]:
        found = measure(first, second)
        if first.process_id == 1 and not failed:
            failed.append(True)
            return found[0], ProcessFailedError("killed")
        return found

    monkeypatch.setattr(recording, "measure_pair", once_bad)
    said: list[str] = []
    path = record(repository.path, wanted(tmp_path / "aa", blocks=1), said.append)
    rows = pd.read_parquet(path)
    assert rows[rows["metric"] == "step_ms"]["place"].tolist() == [0, 1, 2, 3]
    assert "block 0 is measured again: a process failed: killed" in said


def test_processes_that_keep_failing_end_a_recording(
    repository: Repository, tmp_path: Path
) -> None:
    repository.commit("deadly")
    with pytest.raises(ValueError, match=r"3 processes failed, the last: .*Segmentation fault"):
        record(repository.path, wanted(tmp_path / "aa"), lambda line: None)
    assert not (tmp_path / "aa" / "one.parquet").exists()


def test_a_batch_is_never_added_to(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "one.parquet").write_text("")
    with pytest.raises(ValueError, match=r"one\.parquet exists already; nothing is ever added"):
        record(repository.path, wanted(tmp_path), lambda line: None)


@pytest.mark.parametrize("batch", ["", "../x", "a b"])
def test_a_bad_name_is_refused(tmp_path: Path, batch: str) -> None:
    with pytest.raises(ValueError, match="must consist of letters"):
        wanted(tmp_path, batch=batch).check()


def test_no_blocks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="0 blocks; at least 1"):
        wanted(tmp_path, blocks=0).check()
