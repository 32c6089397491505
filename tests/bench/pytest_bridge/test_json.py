"""pytest-benchmark's JSON out of runs and histories and into them, with its own command line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.stats import Stats

from bench import open_run
from bench.history import read_history, read_series
from bench.pytest_bridge.exporting import export_pytest_benchmark
from bench.pytest_bridge.importing import import_pytest_benchmark
from bench.pytest_bridge.rounds import round_stats
from tests.bench.comparison.command import Command, alone
from tests.bench.comparison.made import TIMING, make_run, speeds
from tests.bench.history.made import entry_of, history_of
from tests.bench.pytest_bridge.alone import alone_environment


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The JSON of a run of three processes."""
    folder = tmp_path_factory.mktemp("exported")
    (path,) = export_pytest_benchmark(
        make_run(folder / "run", factors=speeds(3, n=3)), folder / "out"
    )
    return path


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What pytest-benchmark writes of a test that knows nothing of canvasbench."""
    folder = tmp_path_factory.mktemp("plain")
    (folder / "test_plain.py").write_text("def test_len(benchmark): benchmark(len, '')")
    plugin = ["-p", "pytest_benchmark.plugin", "-p", "no:cacheprovider"]
    subprocess.run(
        [sys.executable, "-m", "pytest", *plugin, "--benchmark-json=out.json", "test_plain.py"],
        cwd=folder,
        env=alone_environment(),
        capture_output=True,
        check=True,
    )
    return json.loads((folder / "out.json").read_text())


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 8, 9, 40, 41])
def test_statistics_are_pytest_benchmarks_own(size: int) -> None:
    rounds_s = [float(s) for s in np.random.default_rng(size).lognormal(-3, 0.6, size)]
    theirs = Stats()
    for seconds in rounds_s:
        theirs.update(seconds)
    ours = round_stats(rounds_s)
    for name, value in theirs.as_dict().items():
        assert ours[name] == (value if isinstance(value, str) else pytest.approx(value)), name
    assert set(ours) == {*theirs.as_dict(), "data", "iterations"}


def test_rounds_that_all_take_the_same_time_have_no_outliers() -> None:
    assert round_stats([0.1, 0.1, 0.1])["outliers"] == "0;0"


def compared(*arguments: object, cwd: Path) -> str:
    """What `pytest-benchmark compare` prints."""
    program = "from pytest_benchmark.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "compare", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def benchmarks(path: Path) -> dict[str, dict[str, Any]]:
    found = {each["name"]: each for each in json.loads(path.read_text())["benchmarks"]}
    assert len(found) == len(json.loads(path.read_text())["benchmarks"])
    return found


def test_a_runs_rounds_are_its_passes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", factors=(1.0, 1.1, 1.2))
    (path,) = export_pytest_benchmark(run, tmp_path / "out")
    found = benchmarks(path)
    steps = found["diffusion-bf16[step_ms]"]["stats"]
    assert steps["data"] == pytest.approx([TIMING.denoise_s * f for f in (1.0, 1.1, 1.2)])
    token = found["diffusion-bf16[delivered_tok_per_s]"]["stats"]
    requests = open_run(run).requests
    own = requests.groupby("process_id")[["wall_s", "delivered_tokens"]].sum()
    assert token["data"] == pytest.approx(list(own["wall_s"] / own["delivered_tokens"]))
    assert token["ops"] == pytest.approx(3 / sum(token["data"]))
    assert "diffusion-bf16[decode_ms]" not in found  # a canvas has no autoregressive step


def test_pytest_benchmark_compares_a_run_with_a_slower_one(tmp_path: Path) -> None:
    files = []
    for number, slower in enumerate((1.0, 1.3)):
        factors = [slower * factor for factor in speeds(number, n=3)]
        run = make_run(tmp_path / f"run{number}", factors=factors)
        files += export_pytest_benchmark(run, tmp_path / f"out{number}")
    told = compared(*files, "--columns=median,rounds", cwd=tmp_path)
    (table,) = [part for part in told.split("\n\n") if "'step_ms'" in part]
    rows = [line.split() for line in table.splitlines() if line.startswith("diffusion-bf16[step")]
    assert len(rows) == 2
    ratios = sorted(float(row[3].strip("()")) for row in rows)
    assert ratios == [1.0, pytest.approx(1.3, abs=0.01)]
    assert {row[4] for row in rows} == {"3"}


def test_a_historys_files_are_in_order_and_say_what_a_value_is(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", factors=speeds(1, n=3))
    history_of(tmp_path / "h", entry_of(run), [100.0, 50.0])
    paths = export_pytest_benchmark(tmp_path / "h", tmp_path / "out")
    assert [path.name[:4] for path in paths] == ["0001", "0002"]
    found = benchmarks(paths[1])["diffusion-bf16[delivered_tok_per_s]"]
    assert (found["stats"]["rounds"], found["stats"]["ops"]) == (1, pytest.approx(50.0))
    own = found["extra_info"]["canvasbench"]
    assert own["interval"] == [0.99 * 50, 1.01 * 50]
    assert "the value kept in the history" in own["definitions"]["round"]
    assert own["figures"]["accuracy"] > 0
    assert "(2.00)" in compared(*paths, "--columns=median", cwd=tmp_path)


def test_an_invalid_point_is_not_exported(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", validity="invalid", validity_reason="throttled")
    with pytest.raises(ValueError, match="has no valid point with a time"):
        export_pytest_benchmark(run, tmp_path / "out")


def test_any_other_benchmark_is_a_series_by_processor_and_python(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day, python in enumerate(("3.11.7", "3.11.7", "3.12.1")):
        document["datetime"] = f"2026-11-0{day + 1}T12:00:00+00:00"
        document["machine_info"]["python_version"] = python
        (tmp_path / "x.json").write_text(json.dumps(document))
        import_pytest_benchmark(tmp_path / "x.json", tmp_path / "h")
    series = read_series(tmp_path / "h", "round_s")
    assert [len(each.observations) for each in series] == [2, 1]
    assert [d.name for d in series[1].began] == ["python"]
    (measured,) = document["benchmarks"]
    assert series[0].observations[0].value == measured["stats"]["median"]
    (host,) = {entry.host for entry in read_history(tmp_path / "h").entries}
    assert host not in (None, document["machine_info"]["node"])


def test_an_export_of_a_run_comes_back_with_its_values(exported: Path, tmp_path: Path) -> None:
    import_pytest_benchmark(exported, tmp_path / "h")
    (point,) = entry_of(exported.parents[1] / "run").points
    (entry,) = read_history(tmp_path / "h").entries
    found = {each.point_id: each for each in entry.points}
    for metric in ("step_ms", "delivered_tok_per_s"):
        own = found[f"canvasbench::diffusion-bf16[{metric}]"]
        assert own.figures[metric].value == point.figures[metric].value
        assert (own.fingerprint, own.num_processes) == (point.fingerprint, 3)
    assert (entry.commit, entry.created) == ("1" * 40, "2026-11-01T10:00:00+00:00")


def test_the_command_line_imports_and_exports_without_torch(exported: Path, tmp_path: Path) -> None:
    done = alone("history", "import", exported, "--into", "h", cwd=tmp_path)
    assert (done.returncode, done.stdout[:7]) == (0, "added: "), done.stderr
    export = ("history", "export", "h", "--format", "pytest-benchmark", "--into", "out")
    done = alone(*export, cwd=tmp_path)
    assert (done.returncode, done.stdout[:9]) == (0, "written: "), done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "is no JSON"),
        ("[]", "is no JSON of pytest-benchmark: it has no benchmarks"),
        ('{"benchmarks": []}', "is no JSON of pytest-benchmark: it has no datetime"),
        (
            '{"benchmarks": [{}], "datetime": "2026-01-01", "machine_info": {}, "commit_info": {}}',
            "is no JSON of pytest-benchmark: no 'fullname'",
        ),
        (
            '{"benchmarks": [], "datetime": "2026-01-01", "machine_info": {}, "commit_info": {}}',
            "has no benchmark with a figure that a history keeps",
        ),
        (
            '{"benchmarks": [], "datetime": "today", "machine_info": {}, "commit_info": {}}',
            "Invalid isoformat string: 'today'",
        ),
    ],
)
def test_other_files_are_refused_in_one_line(
    canvasbench: Command, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "x.json").write_text(text)
    done = canvasbench("history", "import", "x.json", "--into", "h", cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "h").exists()


def test_nothing_is_imported_twice(canvasbench: Command, exported: Path, tmp_path: Path) -> None:
    command = ("history", "import", exported, "--into", "h")
    assert canvasbench(*command, cwd=tmp_path).returncode == 0
    done = canvasbench(*command, cwd=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is in the history already" in done.stderr
    assert len(list((tmp_path / "h").iterdir())) == 1


def test_an_unknown_format_is_named_with_the_valid_ones(
    canvasbench: Command, tmp_path: Path
) -> None:
    export = ("history", "export", "h", "--format", "asv", "--into", "out")
    done = canvasbench(*export, cwd=tmp_path)
    assert done.returncode == 2
    assert "bencher, pytest-benchmark" in done.stderr
