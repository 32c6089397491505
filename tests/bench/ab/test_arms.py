"""An arm: the tree of a revision, its own code, its interpreter, and what it is asked."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.ab import interpreter as environments
from bench.ab.arm import Arm
from bench.ab.asked import asked, asked_of_contents, defaults
from bench.ab.commands import seconds
from bench.ab.interpreter import interpreter, requirements
from bench.ab.source import Source, checkout, commit_of, source
from bench.build import decoding_of
from bench.compose import compose_points
from tests.bench.ab.fake import Repository, make_repository

_PROJECT = '[project]\nname = "x"\ndependencies = ["numpy>=2"]\n'


def test_a_worktree_holds_the_revision_and_is_removed(repository: Repository) -> None:
    repository.commit("slow")
    with source(repository.path, "HEAD~1") as base:
        assert (base.tree / "bench/variant").read_text() == "plain"
        assert (base.commit, base.dirty) == (repository.git("rev-parse", "HEAD~1"), False)
        assert repository.worktrees == 2
    assert not base.tree.exists()
    assert repository.worktrees == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_a_worktree_is_removed_whatever_happens(
    repository: Repository, error: type[BaseException]
) -> None:
    with pytest.raises(error), source(repository.path, "HEAD") as base:
        raise error
    assert not base.tree.exists()
    assert repository.worktrees == 1


def test_the_checkout_is_taken_as_it_is(repository: Repository) -> None:
    with source(repository.path, None) as clean:
        assert (clean.tree, clean.dirty) == (repository.path, False)
    (repository.path / "bench/variant").write_text("slow")
    with source(repository.path, None) as dirty:
        assert dirty.dirty
        assert "with uncommitted changes" in str(dirty)


def test_an_arm_changes_with_its_code_alone(repository: Repository) -> None:
    """By the rule of every run's provenance: a recording written beside the code is no change."""
    with source(repository.path, None) as arm:
        before = arm.content()
        (repository.path / "notes.md").write_text("new")
        (repository.path / ".gitignore").write_text("__pycache__/\nresults/runs/\n")
        with source(repository.path, None) as again:
            assert not again.dirty
        assert arm.content() == before
        new = repository.path / "bench" / "new.py"
        new.write_text("a = 1")
        with source(repository.path, None) as again:
            assert again.dirty
        added = arm.content()
        new.write_text("a = 2")
        assert len({before, added, arm.content()}) == 3


def test_a_checkout_of_which_git_does_not_tell_counts_as_changed(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.code_state.git", lambda *given: None)
    with source(repository.path, None) as arm:
        assert arm.dirty


def test_a_missing_revision_is_one_clear_line(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'no-such' is not in this repository .*rewritten"):
        commit_of(repository.path, "no-such")
    rewritten = repository.commit("slow")
    repository.git("reset", "--hard", "--quiet", "HEAD~1")
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "--prune=now", "--quiet")
    with pytest.raises(ValueError, match="rewritten"):
        commit_of(repository.path, rewritten)


def test_a_shallow_clone_is_named(repository: Repository, tmp_path: Path) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.commit("slow")
    url, clone = f"file://{repository.path}", tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", url, str(clone)], check=True)
    with pytest.raises(ValueError, match=r"shallow clone: fetch it .*fetch-depth: 0"):
        commit_of(clone, first)


def test_a_folder_outside_of_git_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is in no git checkout that can be read: .*not a git"):
        checkout(tmp_path)


def arm_of(tree: Path, python: Path = Path(sys.executable)) -> Arm:
    return Arm("baseline", Source("HEAD", tree, "1" * 40, dirty=False), python)


def test_an_arm_runs_its_tree_whatever_is_installed_or_current(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interpreter of these tests has an installed bench, and the current folder another."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path)
    arm = arm_of(repository.path)
    arm.check_code()
    where = "import bench, model, configs; print(bench.__file__, model.__file__, configs.__file__)"
    for path in arm.run("-c", where).stdout.split():
        assert Path(path).is_relative_to(repository.path)


def test_a_path_may_hold_spaces(tmp_path: Path, shards: Path) -> None:
    tree = make_repository(tmp_path / "a b", shards).path
    arm_of(tree).check_code()


def test_an_arm_that_would_run_other_code_is_refused(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is without the variables that put its tree first."""
    monkeypatch.setattr(Arm, "environment", {})
    with pytest.raises(ValueError, match=r"would run bench from .*, not from its own tree"):
        arm_of(repository.path).check_code()


def test_the_same_requirements_need_no_other_interpreter(
    repository: Repository, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "pyproject.toml").write_text(_PROJECT + '[tool.x]\na = "changed"\n')
    (tree / "constraints.txt").write_text("# a comment\n")
    with interpreter(tree, repository.path, pytest.fail) as python:
        assert python == Path(sys.executable)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("constraints.txt", "numpy==2.0  # pinned\n"),
        ("pyproject.toml", _PROJECT.replace("numpy>=2", "numpy>=2.1")),
        ("pyproject.toml", _PROJECT + 'requires-python = ">=3.12"\n'),
    ],
)
def test_other_requirements_get_an_environment_of_their_own(
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    text: str,
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "pyproject.toml").write_text(_PROJECT)
    (tree / file).write_text(text)
    ran: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(environments.subprocess, "run", run)
    monkeypatch.setattr(environments, "version", {"torch": "2.13.0+cpu"}.get)
    said: list[str] = []
    with interpreter(tree, repository.path, said.append) as python:
        folder = python.parent.parent
        assert folder.exists()
    assert not folder.exists()
    assert ran[0] == [sys.executable, "-m", "venv", str(folder)]
    assert ran[1][:4] == [str(python), "-m", "pip", "install"]
    assert "https://download.pytorch.org/whl/cpu" in ran[1]
    assert ("-c" in ran[1]) == (file == "constraints.txt")
    assert "making an environment" in said[0]


def test_an_environment_that_cannot_be_made_is_one_line(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "pyproject.toml").write_text(_PROJECT.replace("numpy", "other"))
    failed = subprocess.CompletedProcess([], 1, "", "noise\nERROR: no such package\n")
    monkeypatch.setattr(environments.subprocess, "run", lambda *a, **k: failed)
    with (
        pytest.raises(ValueError, match="for tree: ERROR: no such package"),
        interpreter(tree, repository.path, lambda line: None),
    ):
        pass


def test_a_tree_without_a_project_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"pyproject\.toml names no dependencies"):
        requirements(tmp_path)


def test_the_default_point_is_what_run_composes_of_the_file() -> None:
    """As overrides and as an experiment it is one configuration."""
    multirun, *overrides = asked([])
    assert multirun == "-m"
    (ours,) = compose_points(overrides, decoding_of, default_sweep=False)
    (theirs,) = compose_points(["experiment=ab", "sweep={}"], decoding_of)
    assert ours.config_hash == theirs.config_hash
    assert ours.config.threads == 1


def test_overrides_take_the_place_of_defaults() -> None:
    found = asked(["precision=bf16", "model=tiny-diffusion,tiny-autoregressive"])
    assert [a for a in found if a.startswith(("precision=", "model="))] == [
        "precision=bf16",
        "model=tiny-diffusion,tiny-autoregressive",
    ]
    assert f"threads={defaults()['threads']}" in found


def test_an_experiment_takes_the_place_of_all_defaults() -> None:
    assert asked(["experiment=step_cap"]) == ["experiment=step_cap"]


def test_contents_are_asked_of_more_prompts_unless_prompts_are_chosen() -> None:
    found = dict(each.split("=", 1) for each in (asked_of_contents(["precision=bf16"]) or [])[1:])
    assert int(found["workload.num_prompts"]) > int(defaults()["workload.num_prompts"])
    assert (found["measure.num_processes"], found["measure.num_repeats"]) == ("1", "1")
    assert (found["precision"], found["model"]) == ("bf16", "tiny-diffusion")
    for chosen in ("workload.num_prompts=32", "workload=tiny_hard", "experiment=step_cap"):
        assert asked_of_contents([chosen]) is None


@pytest.mark.parametrize("wrong", ["--bas=HEAD", "precision", "=1"])
def test_what_is_no_override_is_named(wrong: str) -> None:
    with pytest.raises(ValueError, match=f"'{wrong}' is unknown; overrides are key=value"):
        asked([wrong])


def test_budgets_are_read() -> None:
    assert [seconds(text) for text in ("90s", "15m", "1.5h")] == [90, 900, 5400]
    for wrong in ("15", "m", "fast"):
        with pytest.raises(ValueError, match=f"time '{wrong}' must be a number with s, m or h"):
            seconds(wrong)
