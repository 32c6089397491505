"""Tables on disk: damage is named, old versions are migrated, future and foreign ones refused."""

import random
from pathlib import Path

import pandas as pd
import pytest

from bench.parquet import read_table, write_table
from bench.tables import COLUMNS, SCHEMA_VERSION, frame

KEYS = {"config_hash": "abc", "point_id": "a", "host": "0a1b2c3d"}
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


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "repairs.parquet"
    write_table(found, frame("repairs", [REPAIR], KEYS))
    return found


def test_a_table_comes_back_as_it_was(path: Path) -> None:
    assert read_table("repairs", path).equals(frame("repairs", [REPAIR], KEYS))


def test_a_truncated_file_is_named(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"repairs\.parquet is truncated or no parquet file"):
        read_table("repairs", path)


def test_foreign_future_and_incomplete_tables_are_named(path: Path) -> None:
    today = pd.read_parquet(path)
    for table, message in (
        (pd.DataFrame({"x": [1]}), "has no schema_version"),
        (
            today.assign(schema_version=SCHEMA_VERSION + 1),
            f"schema version {SCHEMA_VERSION + 1}; this canvasbench reads up to {SCHEMA_VERSION}",
        ),
        (today.assign(schema_version="2"), "must be an integer"),
        (today.drop(columns="steps"), "column 'steps' is missing"),
    ):
        table.to_parquet(path)
        with pytest.raises(ValueError, match=message):
            read_table("repairs", path)


def test_version_1_is_migrated(path: Path) -> None:
    """It had no host in its rows."""
    old = pd.read_parquet(path).drop(columns="host").assign(schema_version=1)
    old.to_parquet(path)
    found = read_table("repairs", path)
    assert found["schema_version"].tolist() == [SCHEMA_VERSION]
    assert found["host"].tolist() == ["unknown"]
    assert found["steps"].tolist() == [4]


def test_a_version_1_point_gets_unknown_circumstances(tmp_path: Path) -> None:
    kinds = {"int": 1, "str": "x", "bool": True, "float": 1.0}
    row = {n: kinds.get(k.rstrip("?")) for n, k in COLUMNS["points"].items() if n not in KEYS}
    row.pop("schema_version")
    old = frame("points", [row], KEYS).drop(
        columns=["host", "commit", "dirty", "cpu", "torch", "warmup_stable"]
    )
    path = tmp_path / "points.parquet"
    old.assign(schema_version=1).to_parquet(path)
    found = read_table("points", path)
    assert found[["commit", "dirty", "cpu", "torch", "warmup_stable"]].isna().all(axis=None)
    assert found["decoding"].tolist() == ["x"]


def test_a_version_2_point_gets_unknown_device_memory(tmp_path: Path) -> None:
    kinds = {"int": 1, "str": "x", "bool": True, "float": 1.0}
    row = {n: kinds.get(k.rstrip("?")) for n, k in COLUMNS["points"].items() if n not in KEYS}
    row.pop("schema_version")
    memory = ["peak_device_allocated_bytes", "peak_device_reserved_bytes"]
    path = tmp_path / "points.parquet"
    frame("points", [row], KEYS).drop(columns=memory).assign(schema_version=2).to_parquet(path)
    found = read_table("points", path)
    assert found["schema_version"].tolist() == [SCHEMA_VERSION]
    assert found[memory].isna().all(axis=None)


def test_a_version_3_request_does_not_tell_whether_its_scores_were_finite(tmp_path: Path) -> None:
    kinds = {"int": 1, "str": "x", "bool": True, "float": 1.0}
    row = {n: kinds.get(k.rstrip("?")) for n, k in COLUMNS["requests"].items() if n not in KEYS}
    row.pop("schema_version")
    path = tmp_path / "requests.parquet"
    whole = frame("requests", [row], KEYS)
    whole.drop(columns="scores_finite").assign(schema_version=3).to_parquet(path)
    assert read_table("requests", path)["scores_finite"].isna().all()


def test_no_damage_alters_a_table_unnoticed(tmp_path: Path) -> None:
    rng = random.Random(0)
    rows = [REPAIR | {"request_id": i, "steps": rng.randrange(2**40)} for i in range(200)]
    path = tmp_path / "repairs.parquet"
    write_table(path, frame("repairs", rows, KEYS))
    whole, written = path.read_bytes(), read_table("repairs", path)
    for trial in range(200):
        damaged = bytearray(whole[: rng.randrange(len(whole))] if trial % 2 else whole)
        if trial % 2 == 0:
            damaged[rng.randrange(len(damaged))] ^= rng.randrange(1, 256)
        path.write_bytes(damaged)
        found, message = _read(path)
        assert written.equals(found) if found is not None else str(path) in message


def _read(path: Path) -> tuple[pd.DataFrame | None, str]:
    try:
        return read_table("repairs", path), ""
    except ValueError as error:
        return None, str(error)
