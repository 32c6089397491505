"""The same sweep through SLURM's and Ray's front doors: real submitit and Ray, on this machine."""

from pathlib import Path

import pytest

from bench import open_run
from tests.bench.comparison.command import Command

SMALL = [
    "run",
    "backend=simulated",
    "backend.clock=virtual",
    "workload.num_prompts=4",
    "measure.num_repeats=2",
    "measure.max_repairs=1",
    "measure.num_routing_prompts=0",
    "measure.min_warmup_prompts=0",
    "measure.max_warmup_prompts=0",
    "precision=bf16",
    "threads=1",
    "run_dir=run",
]
LAUNCHERS = {
    "slurm": ["launcher=slurm", "launcher.cluster=local"],
    "ray": ["launcher=ray"],
}


@pytest.fixture
def canvasbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setattr("bench.sweep.render", lambda run: run.path)  # pages take seconds
    return Command(monkeypatch, capsys)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_jobs_bring_every_part_home_once_and_failures_too(
    tmp_path: Path, canvasbench: Command, launcher: str
) -> None:
    fault = "backend.faults=[{kind:crash,request:2,how:error,point:autoregressive-bf16}]"
    done = canvasbench(*SMALL, *LAUNCHERS[launcher], fault, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert run.points["point_id"].tolist() == ["diffusion-bf16"]
    assert run.requests is not None
    assert len(run.requests) == 4 * 2
    assert not run.requests.duplicated(["repeat", "request_id"]).any()
    assert run.requests["host"].str.fullmatch("[0-9a-f]{8}").all()
    failures = run.failures
    assert failures is not None
    assert failures["point_id"].tolist() == ["autoregressive-bf16"]
    assert "simulated: crash" in failures["detail"].iloc[0]
    assert run.info["finished"] is False


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["launcher=slurm"], "SLURM is not reachable from here"),
        (["launcher=ray", "launcher.address=127.0.0.1:1"], "no cluster at '127.0.0.1:1'"),
        (["launcher=kubernetes"], "valid: local, ray, slurm"),
    ],
)
def test_a_cluster_out_of_reach_is_one_line(
    tmp_path: Path, canvasbench: Command, arguments: list[str], message: str
) -> None:
    done = canvasbench(*SMALL, *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
