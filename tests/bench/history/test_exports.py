"""Exports against readers written from the documents of the tools that are to read them."""

import csv
import json
import re
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from bench.history import export
from bench.history.entry import Entry
from tests.bench.history.made import METRIC, history_of, noisy

VALUES = noisy([100.0] * 6, seed=2)


def test_otava_reads_the_csv(entry: Entry, tmp_path: Path) -> None:
    """As Otava 0.8 does: a test's file, time_column, attributes and metrics of otava.yaml, columns
    found by their header, every metric a number, every time with its zone, 1 for more is better."""
    history_of(tmp_path / "h", entry, VALUES, drivers=["550"] * 4 + ["560"] * 2)
    export(tmp_path / "h", "otava", tmp_path / "out")
    tests = yaml.safe_load((tmp_path / "out" / "otava.yaml").read_text())["tests"]
    assert len(tests) == 2
    seen = []
    for name, test in tests.items():
        assert name.startswith("diffusion-bf16.")
        assert test["type"] == "csv"
        with (tmp_path / "out" / test["file"]).open(newline="") as file:
            header, *rows = csv.reader(file, delimiter=",", quotechar='"')
        assert {test["time_column"], *test["attributes"], *test["metrics"]} <= set(header)
        assert "branch" not in header  # Otava gives that column a meaning of its own
        times = [datetime.fromisoformat(row[header.index(test["time_column"])]) for row in rows]
        assert times == sorted(times)
        assert all(time.tzinfo is not None for time in times)
        for metric in test["metrics"]:
            values = [float(row[header.index(metric)]) for row in rows]
            seen += values if metric == METRIC else []
        directions = {metric: own["direction"] for metric, own in test["metrics"].items()}
        assert (directions[METRIC], directions["step_ms"]) == (1, -1)
        assert "argmax_flip_rate" not in directions
    assert seen == VALUES


def test_a_metric_that_a_run_lacks_is_left_out_of_otavas_series(
    entry: Entry, tmp_path: Path
) -> None:
    """It takes no empty cell for a number."""
    made = history_of(tmp_path / "h", entry, VALUES)
    path = tmp_path / "h" / f"{made[2].name}.json"
    plain = json.loads(path.read_text())
    del plain["points"][0]["figures"]["step_ms"]
    path.write_text(json.dumps(plain))
    export(tmp_path / "h", "otava", tmp_path / "out")
    (test,) = yaml.safe_load((tmp_path / "out" / "otava.yaml").read_text())["tests"].values()
    assert METRIC in test["metrics"]
    assert "step_ms" not in test["metrics"]


def test_github_action_benchmark_reads_both_directions(entry: Entry, tmp_path: Path) -> None:
    """A list of objects: name, unit and value are needed; range is "± NUMBER" where known."""
    history_of(tmp_path / "h", entry, VALUES)
    bigger, smaller = export(tmp_path / "h", "github-action-benchmark", tmp_path / "out")
    assert (bigger.name, smaller.name) == (
        "customBiggerIsBetter.json",
        "customSmallerIsBetter.json",
    )
    names = set()
    for path in (bigger, smaller):
        rows = json.loads(path.read_text(encoding="utf-8"))
        assert rows
        for row in rows:
            assert (
                {"name", "unit", "value"}
                <= set(row)
                <= {
                    "name",
                    "unit",
                    "value",
                    "range",
                    "extra",
                }
            )
            assert isinstance(row["value"], float)
            if "range" in row:
                found = re.search(r"(\+-|±)\s*(\d.+)", row["range"])
                assert found is not None
                float(found[2])
            names.add(row["name"])
    rows = {row["name"].split()[-1]: row for row in json.loads(bigger.read_text())}
    assert rows[METRIC]["value"] == VALUES[-1]
    assert float(rows[METRIC]["range"][1:]) == pytest.approx(0.01 * VALUES[-1], rel=1e-4)
    assert len(names) == len({name.split()[-1] for name in names})


def test_bencher_reads_its_metric_format(entry: Entry, tmp_path: Path) -> None:
    """Benchmark (up to 1,024 characters) -> measure (up to 64) -> value and its limits."""
    history_of(tmp_path / "h", entry, VALUES)
    (path,) = export(tmp_path / "h", "bencher", tmp_path / "out")
    found = json.loads(path.read_text())
    for benchmark, measures in found.items():
        assert 0 < len(benchmark) <= 1024
        assert measures
        for name, metric in measures.items():
            assert 0 < len(name) <= 64
            assert {"value"} <= set(metric) <= {"value", "lower_value", "upper_value"}
            assert all(isinstance(value, float) for value in metric.values())
    (measures,) = found.values()
    assert measures[METRIC] == {
        "value": VALUES[-1],
        "lower_value": 0.99 * VALUES[-1],
        "upper_value": 1.01 * VALUES[-1],
    }


def test_another_environment_is_another_name(entry: Entry, tmp_path: Path) -> None:
    names = []
    for driver in ("550", "560"):
        history_of(tmp_path / driver, entry, VALUES[:1], drivers=[driver])
        (path,) = export(tmp_path / driver, "bencher", tmp_path / "out")
        names += json.loads(path.read_text())
    assert len(set(names)) == 2
