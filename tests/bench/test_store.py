"""The run folder: made once, written by one, opened with every damage named."""

import json
import subprocess
import sys
from datetime import datetime, tzinfo
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench import open_run
from bench.store import RunFolder
from bench.sweep import _created
from bench.tables import SCHEMA_VERSION


def test_a_folder_is_made_with_its_description(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {"config_hash": "abc"})
    info = open_run(tmp_path / "run").info
    assert info == {"schema_version": SCHEMA_VERSION, "config_hash": "abc", "finished": False}
    folder.note(finished=True, wall_s=1.5)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["wall_s"] == 1.5


def test_an_existing_folder_is_refused_and_left_alone(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", {"config_hash": "abc"}).release()
    with pytest.raises(ValueError, match="run exists already; choose another run_dir"):
        RunFolder.create(tmp_path / "run", {})
    assert open_run(tmp_path / "run").info["config_hash"] == "abc"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/run cannot be created"):
        RunFolder.create(tmp_path / "file" / "run", {})


def test_two_runs_cannot_write_to_one_folder(tmp_path: Path) -> None:
    first = RunFolder.create(tmp_path / "run", {})
    with pytest.raises(ValueError, match="is being written by another run"):
        RunFolder.reopen(tmp_path / "run")
    first.release()
    RunFolder.reopen(tmp_path / "run").release()


def test_a_folder_that_cannot_be_written_to_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RunFolder.create(tmp_path / "run", {}).release()

    def read_only(*_: object) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("bench.store.os.open", read_only)
    with pytest.raises(ValueError, match="run cannot be written to: Read-only file system"):
        RunFolder.reopen(tmp_path / "run")


def test_what_cannot_be_created_is_told_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    RunFolder.check_creatable(tmp_path / "deep" / "down" / "run")
    with pytest.raises(ValueError, match=f"cannot be created: {tmp_path}/file is not writable"):
        RunFolder.check_creatable(tmp_path / "file" / "run")
    with pytest.raises(ValueError, match="exists already; choose another run_dir"):
        RunFolder.check_creatable(tmp_path)
    monkeypatch.setattr("bench.store.os.access", lambda path, mode: False)
    with pytest.raises(ValueError, match=f"cannot be created: {tmp_path} is not writable"):
        RunFolder.check_creatable(tmp_path / "run")
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_runs_of_one_second_get_names_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stopped":
            return cls(2026, 11, 26, 12, 0, 0, tzinfo=tz)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bench.sweep.datetime", Stopped)
    config = SimpleNamespace(run_dir=None)
    points: Any = [SimpleNamespace(config=config, config_hash="abc")]
    made = [_created(points, {}) for _ in range(3)]
    first = made[0].path.name
    assert first.startswith("20261126T120000-")
    assert [each.path.name for each in made] == [first, f"{first}-2", f"{first}-3"]
    config.run_dir = str(made[0].path)
    with pytest.raises(ValueError, match="exists already"):
        _created(points, {})


def test_a_discarded_folder_leaves_no_trace(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", {})
    (tmp_path / "run" / "logs").mkdir()
    (tmp_path / "run" / "logs" / "x.log").write_text("")
    folder.release()
    folder.discard()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "run.json is damaged"),
        (b"[]", "has no schema_version"),
        (b'{"schema_version": 99}', "schema version 99; this canvasbench reads up to"),
        (b'{"schema_version": "1"}', "must be an integer"),
        (b"\xff\xfe", "run.json is damaged"),
        (b"9" * 5000, "run.json is damaged"),
    ],
)
def test_damage_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_run(tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not a folder"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"has no run\.json"):
        open_run(tmp_path)
    (tmp_path / "run.json").mkdir()
    with pytest.raises(ValueError, match=r"run\.json cannot be read"):
        open_run(tmp_path)


def test_a_run_without_a_finished_point_says_so(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "run", {})
    with pytest.raises(ValueError, match="no finished point"):
        _ = open_run(tmp_path / "run").points


def test_reading_a_finished_run_needs_no_scipy(tmp_path: Path) -> None:
    """It is slow to import; only a run that still has shards is summarised on reading."""
    RunFolder.create(tmp_path / "run", {}).release()
    code = (
        "import sys, bench; assert bench.open_run(sys.argv[1]).steps is None; "
        "assert 'scipy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True)


def test_a_folder_is_released_on_every_way_out(tmp_path: Path) -> None:
    def leave(error: BaseException) -> None:
        with RunFolder.reopen(tmp_path / "run"):
            raise error

    RunFolder.create(tmp_path / "run", {}).release()
    for error in (ValueError("bad"), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            leave(error)
    RunFolder.reopen(tmp_path / "run").release()
