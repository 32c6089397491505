"""The run folder: what is written comes back, damage is named, nothing is lost."""

import json
import random
from pathlib import Path

import pandas as pd
import pytest

from bench import open_run
from bench.store import RunWriter
from bench.tables import COLUMNS, SCHEMA_VERSION, check, frame

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


def repairs(point_id: str, **changes: object) -> dict[str, pd.DataFrame]:
    keys = {"config_hash": "abc", "point_id": point_id}
    return {"repairs": frame("repairs", [REPAIR | changes], keys)}


def write_run(folder: Path) -> RunWriter:
    writer = RunWriter(folder, {"config_hash": "abc"})
    writer.write_point("a", repairs("a"))
    return writer


def test_points_come_back_in_schema_order(tmp_path: Path) -> None:
    writer = write_run(tmp_path / "run")
    writer.write_point("b", repairs("b", steps=9))
    writer.close(finished=True, wall_s=1.5)
    run = open_run(tmp_path / "run")
    assert run.repairs is not None
    assert list(run.repairs.columns) == list(COLUMNS["repairs"])
    assert run.repairs["steps"].tolist() == [4, 9]
    assert run.canvases is None
    assert run.info["finished"] is True
    assert run.info["schema_version"] == SCHEMA_VERSION


def test_a_point_written_again_replaces_itself(tmp_path: Path) -> None:
    writer = write_run(tmp_path / "run")
    writer.write_point("a", repairs("a", steps=7))
    run = open_run(tmp_path / "run")
    assert run.repairs is not None
    assert run.repairs["steps"].tolist() == [7]


def test_an_unfinished_run_is_readable_and_says_so(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    run = open_run(tmp_path / "run")
    assert run.repairs is not None
    assert run.info["finished"] is False


def test_an_existing_folder_is_refused(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    with pytest.raises(ValueError, match="run exists already"):
        RunWriter(tmp_path / "run", {})
    assert open_run(tmp_path / "run").repairs is not None


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"file/run cannot be created"):
        RunWriter(tmp_path / "file" / "run", {})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("repairs.parquet", b"PAR1 not really", "truncated or no parquet file"),
        ("run.json", b"{", "run.json is damaged"),
        ("run.json", b"[]", "has no schema_version"),
        (
            "run.json",
            b'{"schema_version": 99}',
            "schema version 99; this canvasbench reads up to 1",
        ),
        ("run.json", b'{"schema_version": "1"}', "must be an integer"),
        ("run.json", b"\xff\xfe", "run.json is damaged"),
    ],
)
def test_damage_is_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    write_run(tmp_path / "run")
    (tmp_path / "run" / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_run(tmp_path / "run").table("repairs")


def test_foreign_and_future_tables_are_named(tmp_path: Path) -> None:
    write_run(tmp_path / "run")
    path = tmp_path / "run" / "repairs.parquet"
    future = pd.read_parquet(path).assign(schema_version=SCHEMA_VERSION + 1)
    for table, message in (
        (pd.DataFrame({"x": [1]}), "has no schema_version"),
        (future, "schema version 2"),
        (future.assign(schema_version=1).drop(columns="steps"), "steps"),
    ):
        table.to_parquet(path)
        with pytest.raises(ValueError, match=message):
            open_run(tmp_path / "run").table("repairs")


@pytest.mark.parametrize("missing", ["folder", "run.json"])
def test_what_is_missing_is_named(tmp_path: Path, missing: str) -> None:
    folder = tmp_path / "run"
    if missing == "run.json":
        folder.mkdir()
    with pytest.raises(ValueError, match=r"is not a folder|has no run\.json"):
        open_run(folder)


def test_a_run_without_a_finished_point_says_so(tmp_path: Path) -> None:
    RunWriter(tmp_path / "run", {})
    with pytest.raises(ValueError, match="no finished point"):
        _ = open_run(tmp_path / "run").points


@pytest.mark.parametrize("column", ["steps", "surprise"])
def test_tables_have_exactly_their_columns(column: str) -> None:
    found = repairs("a")["repairs"]
    wrong = found.drop(columns=column) if column in found else found.assign(surprise=1)
    with pytest.raises(ValueError, match=column):
        check("repairs", wrong)


def test_unknown_values_are_null(tmp_path: Path) -> None:
    keys = {"config_hash": "abc", "point_id": "a"}
    row = {"request_id": 0, "process_id": 0, "repeat": 0, "task": "x", "canvas_index": 0}
    row |= {"step": 1, "phase": "decode", "device_ms": 1.0}
    table = frame("steps", [row], keys)
    assert table[["accepted", "mean_entropy_nat"]].isna().all(axis=None)


def test_run_json_is_plain_json(tmp_path: Path) -> None:
    write_run(tmp_path / "run").close(finished=False, wall_s=2.0)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["interrupted"] is True


def test_no_damage_alters_a_table_unnoticed(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [REPAIR | {"request_id": i, "steps": rng.randrange(2**40)} for i in range(200)]
    many = frame("repairs", rows, {"config_hash": "abc", "point_id": "a"})
    RunWriter(tmp_path / "run", {}).write_point("a", {"repairs": many})
    path = tmp_path / "run" / "repairs.parquet"
    whole = path.read_bytes()
    written = open_run(tmp_path / "run").table("repairs")
    assert written is not None
    for trial in range(200):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if trial % 2 else whole)
        if trial % 2 == 0:
            damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        found, message = _read(tmp_path / "run")
        assert written.equals(found) if found is not None else str(path) in message


def _read(folder: Path) -> tuple[pd.DataFrame | None, str]:
    try:
        return open_run(folder).table("repairs"), ""
    except ValueError as error:
        return None, str(error)


def test_a_run_json_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "run" / "run.json").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"run\.json cannot be read"):
        open_run(tmp_path / "run")


def test_a_kill_while_writing_leaves_the_finished_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = write_run(tmp_path / "run")
    real = Path.replace

    def killed(part: Path, target: Path) -> Path:
        if target.suffix == ".parquet":
            raise KeyboardInterrupt
        return real(part, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        writer.write_point("b", repairs("b"))
    run = open_run(tmp_path / "run")
    assert run.repairs is not None
    assert run.repairs["point_id"].tolist() == ["a"]


def test_a_point_stands_in_points_only_after_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    real = Path.replace

    def noted(part: Path, target: Path) -> Path:
        moved.append(target.stem)
        return real(part, target)

    writer = RunWriter(tmp_path / "run", {})
    monkeypatch.setattr(Path, "replace", noted)
    monkeypatch.setattr("bench.store.check", lambda _, table: table)
    writer.write_point("a", {name: pd.DataFrame({"x": [1]}) for name in COLUMNS})
    assert set(moved) == set(COLUMNS)
    assert moved[-1] == "points"
