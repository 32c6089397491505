"""One made run and its entry, for every test of histories."""

from pathlib import Path

import pytest

from bench.history.entry import Entry, entry_of
from tests.bench.comparison.command import Command
from tests.bench.comparison.made import make_run, speeds


@pytest.fixture(scope="session")
def made_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("history") / "run", factors=speeds(1))


@pytest.fixture(scope="session")
def entry(made_run: Path) -> Entry:
    return entry_of(made_run)


@pytest.fixture
def canvasbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)
