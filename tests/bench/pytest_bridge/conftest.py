"""A run and a pytest session that measured the same small point, each once for all tests."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.sweep import run_sweep
from tests.bench.comparison.command import Command
from tests.bench.pytest_bridge.alone import alone_environment

POINT = (
    "model=tiny-diffusion",
    "precision=bf16",
    "workload.num_prompts=3",
    "measure.num_repeats=1",
    "measure.max_warmup_prompts=6",
    "measure.max_repairs=0",
    "measure.num_routing_prompts=0",
    "threads=1",
)
SIMULATED = (
    "backend=simulated",
    "backend.timing.source=chosen",
    *(f"backend.timing.{phase}_ms=0.1" for phase in ("prefill", "step", "commit")),
    "workload.num_prompts=2",
)
_TESTS = f"""
import sys

def test_nothing_is_loaded_before_a_point_is_asked_for(canvasbench_point, benchmark):
    assert not {{"torch", "numpy", "pandas", "hydra", "model"}} & set(sys.modules)
    benchmark(len, "")

def test_generation(canvasbench_point, benchmark):
    assert benchmark(canvasbench_point({list(POINT)})) is None

def test_other_work(canvasbench_point, benchmark):
    point = canvasbench_point({list(SIMULATED)})
    benchmark.pedantic(point)
    point.batches.pop()
    point()

def test_misspelt(canvasbench_point, benchmark):
    benchmark(canvasbench_point(["modle=tiny-diffusion"]))

def test_two_points(canvasbench_point, benchmark):
    canvasbench_point(["precision=fp32,bf16"])

def test_one_word(canvasbench_point, benchmark):
    canvasbench_point("model=tiny-diffusion")
"""


@dataclass(frozen=True)
class Session:
    """What pytest printed, its exit code, and the JSON that pytest-benchmark wrote."""

    returncode: int
    stdout: str
    path: Path

    @property
    def document(self) -> dict[str, Any]:
        return json.loads(self.path.read_text())


@pytest.fixture(scope="session")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The tests above, with no other plugin than these two."""
    folder = tmp_path_factory.mktemp("tests")
    (folder / "test_points.py").write_text(_TESTS)
    plugins = ["-p", "pytest_benchmark.plugin", "-p", "bench.pytest_bridge.plugin"]
    options = ["--benchmark-json=out.json", "--benchmark-max-time=0.01", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, *options, "test_points.py"],
        cwd=folder,
        env=alone_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return Session(done.returncode, done.stdout, folder / "out.json")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same point as `canvasbench run -m` measures it."""
    folder = tmp_path_factory.mktemp("run") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.sweep.render", lambda run: run.path)  # pages are no part of it
        run_sweep([*POINT, f"run_dir={folder}"], default_sweep=False)
    return folder


@pytest.fixture
def canvasbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)
