"""A result names the code it was made with, also from an exported tree."""

import itertools
import subprocess
import uuid
from pathlib import Path

import pytest

from bench.provenance import git_state, host

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_an_exported_tree_names_its_commit(tmp_path: Path) -> None:
    (tmp_path / ".git_archival.txt").write_text(f"node: {COMMIT}\n")
    assert git_state(tmp_path) == {"commit": COMMIT, "dirty": None}


def test_without_git_nothing_is_claimed(tmp_path: Path) -> None:
    assert git_state(tmp_path) == {"commit": None, "dirty": None}
    (tmp_path / ".git_archival.txt").write_text("node: $Format:%H$\n")
    assert git_state(tmp_path) == {"commit": None, "dirty": None}


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *who, *arguments], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout of this project in miniature, with the names of its parts."""
    for name in ("bench/provenance.py", "model/loading.py", "configs/a.yaml", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("as committed")
    (tmp_path / ".gitignore").write_text("__pycache__/\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "a")
    return tmp_path


@pytest.mark.parametrize(
    ("name", "dirty"),
    [
        ("results/runs/a/run.json", False),
        ("results/published/a.md", False),
        ("a/run.json", False),
        ("README.md", False),
        ("bench/__pycache__/cli.pyc", False),
        ("bench/provenance.py", True),
        ("bench/new.py", True),
        ("model/kernels/tuned/device.json", True),
        ("configs/claim/mine.yaml", True),
        ("pyproject.toml", True),
    ],
)
def test_only_changes_of_the_code_make_a_checkout_dirty(
    checkout: Path, name: str, dirty: bool
) -> None:
    commit = git(checkout, "rev-parse", "HEAD")
    assert git_state(checkout) == {"commit": commit, "dirty": False}
    (checkout / name).parent.mkdir(parents=True, exist_ok=True)
    (checkout / name).write_text("changed, or new")
    assert git_state(checkout) == {"commit": commit, "dirty": dirty}


def test_a_new_file_counts_where_git_is_configured_not_to_show_it(checkout: Path) -> None:
    git(checkout, "config", "status.showUntrackedFiles", "no")
    (checkout / "bench" / "new.py").write_text("new")
    assert git_state(checkout)["dirty"] is True


def test_installed_into_a_repository_of_something_else_nothing_is_claimed(checkout: Path) -> None:
    git(checkout, "rm", "--quiet", "--cached", "-r", "bench")
    git(checkout, "commit", "--quiet", "-m", "its packages are not its own")
    assert git_state(checkout) == {"commit": None, "dirty": None}


def test_a_host_keeps_its_name_without_a_network_card(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = itertools.count(1 << 40)
    monkeypatch.setattr(uuid, "getnode", lambda: next(drawn))
    assert host() == host()
