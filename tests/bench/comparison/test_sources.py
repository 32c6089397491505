"""A run stored in a git revision; revisions and paths that are not there."""

import subprocess
from pathlib import Path

import pytest

import bench
from bench.comparison import ExitCode
from tests.bench.comparison.made import make_run, speeds


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose first commit holds a run, deleted by the second."""
    make_run(tmp_path / "results" / "base", factors=speeds(1))
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "a baseline")
    git(tmp_path, "rm", "-r", "--quiet", "results")
    git(tmp_path, "commit", "--quiet", "-m", "no baseline")
    make_run(tmp_path / "new", factors=speeds(2))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", folder, *who, *arguments], check=True)


def test_a_stored_run_is_a_baseline(repository: Path) -> None:
    found = bench.compare("HEAD~1:results/base", "new")
    assert found.exit_code is ExitCode.POSITIVE
    assert found.baseline.name == "HEAD~1:results/base"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("0123456789abcdef:results/base", "is not in this repository .rewritten history"),
        ("HEAD:results/base", "git revision 'HEAD' has no results/base"),
        ("HEAD~1:results", "HEAD~1:results is no run folder"),
        ("--help:results/base", "is not in this repository"),
    ],
)
def test_what_is_not_stored_is_one_clear_line(repository: Path, source: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as error:
        bench.compare(source, "new")
    assert "\n" not in str(error.value)


def test_outside_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="is not in this repository"):
        bench.compare("main:run", "new")
