"""One real check of the committed golden, in fp32; its run serves all other tests."""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from bench import open_run
from bench.cli import main
from bench.golden import Golden, collected, write_golden
from bench.golden.table import Answer
from bench.store import Run
from tests.bench.comparison.command import Command

COMMITTED = Path(__file__).parents[3] / "results" / "golden"


@dataclass(frozen=True)
class Checked:
    """What `canvasbench golden check precision=fp32` did and left."""

    code: int
    printed: str
    run: Run


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    folder = tmp_path_factory.mktemp("golden") / "run"
    arguments = ["golden", "check", "--from", str(COMMITTED), "precision=fp32", f"run_dir={folder}"]
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["canvasbench", *arguments])
        page = "report.html"  # no part of it, and dear
        patch.setattr("bench.sweep.render", lambda run: run.path / page)
        with (
            redirect_stdout(printed),
            redirect_stderr(io.StringIO()),
            pytest.raises(SystemExit) as left,
        ):
            main()
    return Checked(int(left.value.code or 0), printed.getvalue(), open_run(folder))


@pytest.fixture(scope="session")
def golden(checked: Checked) -> Golden:
    """A golden of that very run."""
    return collected(checked.run, ["experiment=golden", "precision=fp32", "run_dir=elsewhere"])


@pytest.fixture
def canvasbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def written(
    golden: Golden,
    folder: Path,
    change: Callable[[Answer], Answer] = lambda answer: answer,
    machine: dict[str, str | None] | None = None,
    work: dict[str, str | None] | None = None,
) -> Path:
    """The golden with its answers changed, as if collected so or elsewhere."""
    points = tuple(
        replace(
            point,
            machine=point.machine | (machine or {}),
            work=point.work | (work or {}),
            answers=tuple(change(answer) for answer in point.answers),
        )
        for point in golden.points
    )
    write_golden(replace(golden, points=points), folder)
    return folder
