"""`canvasbench replay` on a measured run, and what it refuses."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.cli import app
from bench.replay import replay
from tests.bench.replay.made import made_run

PUBLISHED = Path("results/published/amd-epyc-2-cores-2026-11-25")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["replay", str(PUBLISHED), *arguments])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_measured_run_becomes_a_page(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    lines = run("--output", str(page)).splitlines()
    assert lines == [f"24 canvases, {page.stat().st_size / 1e6:.2f} MB", f"replay: {page}"]
    assert page.stat().st_size < 3e6


def test_a_measured_run_in_the_terminal() -> None:
    text = run("--terminal", "--request", "41")
    assert "request 41, canvas 1 of 1" in text
    assert text.count("\nStep ") == 28
    assert "Delivered: finfs" in text
    assert "autoregressive bf16: finas" in text


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"request_id": 10**6}, "request 1000000 has no traced canvas; valid: "),
        ({"terminal": True, "output": Path("x.html")}, "--terminal prints instead"),
        ({"output": Path("no/such/folder/x.html")}, "x.html cannot be written: No such file"),
    ],
)
def test_what_cannot_be_done_is_said(
    asked: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.replay.command.open_run", {tmp_path: made_run(tmp_path)}.__getitem__)
    default: dict[str, object] = {"output": None, "terminal": False, "request_id": None}
    with pytest.raises(ValueError, match=message):
        replay(tmp_path, **(default | asked))  # type: ignore[arg-type]
