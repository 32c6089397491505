"""Series: one a fingerprint, with why it began; printed, drawn, and as JSON."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from bench.history import add_run, plain_series, plot_series, print_series, read_series
from bench.history.entry import Entry
from bench.stats import Better, Status
from tests.bench.comparison.command import Command, Done, alone
from tests.bench.comparison.made import make_run, speeds
from tests.bench.history.made import METRIC, history_of, noisy

SHIFTED = noisy([100.0] * 12 + [93.0] * 8, seed=1)


def test_a_new_driver_starts_a_new_series(entry: Entry, tmp_path: Path) -> None:
    """And its step down is no change point."""
    history_of(tmp_path, entry, SHIFTED, drivers=["550"] * 12 + ["560"] * 8)
    first, second = read_series(tmp_path, METRIC)
    assert (len(first.observations), len(second.observations)) == (12, 8)
    assert first.began == ()
    assert [str(each) for each in second.began] == ["driver: 550 -> 560"]
    assert (first.changes, second.changes) == ((), ())


def test_a_machine_that_comes_back_goes_on_in_its_series(entry: Entry, tmp_path: Path) -> None:
    history_of(tmp_path, entry, [1.0] * 6, drivers=["550", "560"] * 3)
    assert [len(series.observations) for series in read_series(tmp_path, METRIC)] == [3, 3]


def test_a_change_has_a_direction(entry: Entry, tmp_path: Path) -> None:
    history_of(tmp_path, entry, SHIFTED)
    (series,) = read_series(tmp_path, METRIC)
    (change,) = series.changes
    assert (change.index, series.status(change)) == (12, Status.REGRESSION)


def test_memory_has_a_series(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", factors=speeds(1), peak_rss_bytes=485 * 2**20)
    add_run(run, tmp_path / "history")
    (series,) = read_series(tmp_path / "history", "peak_rss_bytes")
    assert [seen.value for seen in series.observations] == [485 * 2**20]
    assert (series.unit, series.better) == ("bytes", Better.LESS)


def test_the_terminal_says_it_in_100_columns(entry: Entry, tmp_path: Path) -> None:
    made = history_of(tmp_path, entry, SHIFTED)
    console = Console(width=100, record=True, file=io.StringIO())
    print_series(read_series(tmp_path, METRIC), console)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 100
    said = " ".join(" ".join(lines).split())
    assert f"since {made[12].name} (2026-09-13, commit {made[12].commit[:12]})" in said
    assert "12 runs at 100, then 8 at 92.8 (permutation p 0.0005)" in said
    assert "1 change point in 1 series; the last: diffusion-bf16" in said


def test_the_plot_is_drawn(entry: Entry, tmp_path: Path) -> None:
    history_of(tmp_path / "h", entry, SHIFTED, drivers=["550"] * 12 + ["560"] * 8)
    plot_series(read_series(tmp_path / "h", METRIC), tmp_path / "history.png")
    assert (tmp_path / "history.png").stat().st_size > 8_000


def test_json_is_plain(entry: Entry, tmp_path: Path) -> None:
    made = history_of(tmp_path, entry, SHIFTED)
    (series,) = json.loads(json.dumps(plain_series(read_series(tmp_path, METRIC)), allow_nan=False))
    assert series["unit"] == "tok/s"
    assert series["changes"][0]["entry"] == made[12].name
    assert series["changes"][0]["status"] == "REGRESSION"
    assert series["observations"][0]["value"] == SHIFTED[0]


def test_unknown_names_are_said(entry: Entry, tmp_path: Path) -> None:
    history_of(tmp_path, entry, [1.0])
    with pytest.raises(ValueError, match="metric 'x' is unknown; valid: delivered_tok_per_s"):
        read_series(tmp_path, "x")
    with pytest.raises(ValueError, match=r"point 'x' is not in .*; valid: diffusion-bf16"):
        read_series(tmp_path, METRIC, ["x"])


def test_the_command_line_from_add_to_export(
    made_run: Path, tmp_path: Path, canvasbench: Command
) -> None:
    def history(*arguments: object) -> Done:
        return canvasbench("history", *arguments, cwd=tmp_path)

    done = history("add", made_run, "--into", "h")
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = (tmp_path / "h").iterdir()
    assert done.stdout == f"added: h/{path.name}\n"
    again = history("add", made_run, "--into", "h")
    assert (again.returncode, len(again.stderr.splitlines())) == (2, 1)
    assert history("annotate", "h", "--at", path.stem, "--text", "the first").returncode == 0
    done = history("show", "h", "--metric", "step_ms", "--plot", "h.png")
    assert done.returncode == 0
    assert "known shift at" in done.stdout
    assert "change points need 8 in a series" in done.stdout
    assert (tmp_path / "h.png").exists()
    done = history("export", "h", "--format", "bencher", "--into", "out")
    assert done.stdout == "written: out/bencher.json\n"
    done = history("export", "h", "--format", "excel", "--into", "out")
    assert done.returncode == 2
    assert "valid: otava, github-action-benchmark, bencher" in done.stderr


def test_it_needs_no_torch(entry: Entry, tmp_path: Path) -> None:
    history_of(tmp_path / "h", entry, SHIFTED)
    done = alone("history", "show", "h", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)[0]["changes"][0]["status"] == "REGRESSION"
