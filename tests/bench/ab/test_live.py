"""Slowdowns on purpose, measured for real: minutes each."""

import subprocess
from pathlib import Path

import pytest

from tests.bench.ab.live import SLOWDOWNS, run_once, slowed_clone


@pytest.mark.parametrize("kind", SLOWDOWNS)
def test_a_slowed_clone_differs_from_its_parent_in_one_file(kind: str, tmp_path: Path) -> None:
    clone = slowed_clone(tmp_path, kind)
    git = ("git", "-C", str(clone), "diff", "--name-only", "HEAD~1", "HEAD")
    names = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split()
    assert names == [SLOWDOWNS[kind].file]
    compile((clone / names[0]).read_text(), names[0], "exec")


@pytest.mark.slow
@pytest.mark.parametrize("kind", SLOWDOWNS)
def test_a_slowdown_is_caught_and_attributed(kind: str) -> None:
    found = run_once(kind)
    assert found["caught"], found
    assert found["attributed"], found


@pytest.mark.slow
def test_two_pairs_of_the_real_harness_are_enough_for_contents() -> None:
    found = run_once("steps", "--metric", "steps_per_canvas")
    assert (found["exit_code"], found["pairs"]) == (1, 2), found
