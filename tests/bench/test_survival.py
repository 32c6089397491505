"""A sweep survives: kill -9, dying and silent workers, a full disk; `resume` completes it.

Everything runs on the simulated backend, through the command line; what is killed in a process of
its own, the rest in this one and without the report's page, which takes seconds.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench import open_run
from bench.shards import SHARDS, shards
from bench.supervise import Worker
from tests.bench.comparison.command import Command

COMMAND = [sys.executable, "-c", "from bench.cli import main; main()"]
SMALL = [
    "backend=simulated",
    "backend.clock=virtual",
    "workload.num_prompts=6",
    "measure.num_repeats=3",
    "measure.max_repairs=1",
    "measure.num_routing_prompts=0",
    "measure.min_warmup_prompts=0",
    "measure.max_warmup_prompts=0",
    "precision=bf16",
    "threads=1",
]
POINTS = {"diffusion-bf16", "autoregressive-bf16"}


@pytest.fixture
def reporting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line with its pages."""
    return Command(monkeypatch, capsys)


@pytest.fixture
def canvasbench(reporting: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr("bench.sweep.render", lambda run: run.path)
    return reporting


def assert_complete(folder: Path, points: set[str] = POINTS) -> None:
    """Every point, every request of every repeat, each exactly once; nothing is left over."""
    run = open_run(folder)
    assert set(run.points["point_id"]) == points
    assert len(run.points) == len(points)
    requests = run.requests
    assert requests is not None
    keys = ["point_id", "process_id", "repeat", "request_id"]
    assert not requests.duplicated(keys).any()
    assert len(requests) == len(points) * 3 * 6
    assert requests["host"].str.fullmatch("[0-9a-f]{8}").all()
    assert run.info["finished"] is True
    assert not (folder / SHARDS).exists()
    assert (run.points["validity"] != "invalid").all()


def kill_at_random_moments(folder: Path, cwd: Path, count: int, seed: int) -> None:
    rng = random.Random(seed)
    slow = ["backend.clock=real", "backend.synthetic.step_ms=8", "backend.synthetic.decode_ms=4"]
    arguments = ["run", *SMALL, *slow, f"run_dir={folder.name}"]
    for _ in range(count):
        process = subprocess.Popen(
            [*COMMAND, *arguments], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not (folder / "run.json").exists() and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 9.0))
        before = {shard.path.name for shard in shards(folder)}
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        open_run(folder).table("requests")  # readable whenever it was killed
        after = {shard.path.name for shard in shards(folder)}
        assert before <= after or not (folder / SHARDS).exists()
        arguments = ["resume", folder.name]
    done = subprocess.run(
        [*COMMAND, "resume", folder.name],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_complete(folder)


def test_kill_9_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    kill_at_random_moments(tmp_path / "run", tmp_path, 3, seed=1)


@pytest.mark.slow
def test_kill_9_many_times(tmp_path: Path) -> None:
    for trial in range(5):
        kill_at_random_moments(tmp_path / f"run{trial}", tmp_path, 5, seed=trial)


FAULTS = {
    "fp32": ("kind:crash,request:8,how:kill", "killed", "signal 9"),
    "bf16": ("kind:crash,request:8,how:error", "exception", "RuntimeError: simulated: crash"),
    "fp8": ("kind:crash,request:8,how:memory", "out_of_memory", "MemoryError"),
}


def test_failing_points_cost_a_row_each_and_resume_mends_them(
    tmp_path: Path, canvasbench: Command
) -> None:
    planted = ",".join(
        f"{{{fault},point:diffusion-{precision},marker:{tmp_path}/{precision}}}"
        for precision, (fault, _, _) in FAULTS.items()
    )
    wide = [argument for argument in SMALL if not argument.startswith("precision")]
    swept = ["precision=fp32,bf16,fp8", f"backend.faults=[{planted}]", "run_dir=run"]
    done = canvasbench("run", *wide, *swept, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    assert run.info["finished"] is False
    assert set(run.points["point_id"]) == {f"autoregressive-{p}" for p in FAULTS}
    failures = run.failures
    assert failures is not None
    rows = {row["point_id"]: row for row in failures.to_dict("records")}
    for precision, (_, reason, detail) in FAULTS.items():
        row = rows.pop(f"diffusion-{precision}")
        assert row["reason"] == reason
        assert detail in row["detail"]
        assert ("Traceback" in row["log_tail"]) == (reason != "killed")
    assert not rows

    again = canvasbench("resume", "run", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    both = ("diffusion", "autoregressive")
    assert_complete(tmp_path / "run", {f"{d}-{p}" for d in both for p in FAULTS})
    kept = open_run(tmp_path / "run").failures
    assert kept is not None
    assert len(kept) == 3  # what went wrong stays on record


def test_a_silent_worker_is_ended(tmp_path: Path, canvasbench: Command) -> None:
    fault = "backend.faults=[{kind:hang,request:2,seconds:60,point:diffusion-bf16}]"
    given = [*SMALL, fault, "measure.timeout_s=2", "model=tiny-diffusion", "run_dir=run"]
    done = canvasbench("run", *given, cwd=tmp_path)
    assert done.returncode == 2
    assert "could be measured: no sign of life for 2 s" in done.stderr
    failures = open_run(tmp_path / "run").failures
    assert failures is not None
    assert failures["reason"].tolist() == ["timeout"]
    assert failures["detail"].tolist() == ["no sign of life for 2 s"]


def test_a_full_disk_is_said_and_what_was_finished_is_kept(
    tmp_path: Path, canvasbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer meets ENOSPC at its fourth shard, in the worker's process."""
    program = (
        "import errno, os, bench.shards as s; real = s._into_place; n = [0]\n"
        "def full(part, whole):\n"
        "    n[0] += 1\n"
        "    if n[0] > 2: raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "    real(part, whole)\n"
        "s._into_place = full\n"
    )
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'bench.worker' in ' '.join(sys.orig_argv):\n"
        + "".join(f"    {line}\n" for line in program.splitlines())
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    done = canvasbench("run", *SMALL, "run_dir=run", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "is full; free some and `canvasbench resume run`" in done.stderr
    (tmp_path / "sitecustomize.py").unlink()
    finished = {shard.path.name for shard in shards(tmp_path / "run")}
    assert finished
    assert canvasbench("resume", "run", cwd=tmp_path).returncode == 0
    assert_complete(tmp_path / "run")


def test_an_interrupted_resume_keeps_what_an_interrupted_run_had(
    tmp_path: Path, canvasbench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run can be read meanwhile as well."""
    one = ["-m", *SMALL, "model=tiny-diffusion", "run_dir=run"]
    with monkeypatch.context() as patch:
        patch.setattr(Worker, "measure", interrupted_after(Worker.measure, 2, tmp_path / "run"))
        assert canvasbench("run", *one, cwd=tmp_path).returncode == 130
    before = open_run(tmp_path / "run").points.iloc[0]
    assert before["num_requests"] == 2 * 6
    for count in (0, 1):  # before and after its first repeat
        with monkeypatch.context() as patch:
            patch.setattr(
                Worker, "measure", interrupted_after(Worker.measure, count, tmp_path / "run")
            )
            assert canvasbench("resume", "run", cwd=tmp_path).returncode == 130
        kept = open_run(tmp_path / "run").points.iloc[0]
        assert kept["num_requests"] == 2 * 6
        assert kept["delivered_tok_per_s"] == before["delivered_tok_per_s"]
    assert canvasbench("resume", "run", cwd=tmp_path).returncode == 0
    assert_complete(tmp_path / "run", {"diffusion-bf16"})


def interrupted_after(real: Callable[..., None], count: int, folder: Path) -> Callable[..., None]:
    """`Worker.measure` with Ctrl-C in the place of its repeat number `count`."""
    done: list[int] = []

    def measure(*given: Any) -> None:
        if len(done) == count:
            raise KeyboardInterrupt
        real(*given)
        done.append(open_run(folder).points["num_requests"].item())  # readable meanwhile

    return measure


def test_resume_refuses_what_is_not_the_same_run(tmp_path: Path, canvasbench: Command) -> None:
    assert canvasbench("run", *SMALL, "run_dir=run", cwd=tmp_path).returncode == 0
    path = tmp_path / "run" / "run.json"
    info = json.loads(path.read_text())
    info["finished"] = False
    info["config"]["diffusion-bf16"]["seed"] = 5
    path.write_text(json.dumps(info))
    done = canvasbench("resume", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "a changed configuration is another run" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    for arguments, message in (
        (["resume", "nowhere"], "nowhere is not a folder"),
        (["resume", "run", "seed=1"], "unexpected extra argument"),
    ):
        refused = canvasbench(*arguments, cwd=tmp_path)
        assert refused.returncode == 2
        assert message in refused.stderr


def test_a_secret_in_the_environment_enters_no_result(
    tmp_path: Path, reporting: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home" / "somebody"
    home.mkdir(parents=True)
    secrets = {"HF_TOKEN": "hf_plantedplanted", "MY_PASSWORD": "planted-pass", "USER": "somebody"}
    for name, value in {**secrets, "HOME": str(home)}.items():
        monkeypatch.setenv(name, value)
    planted = "backend.faults=[{kind:crash,request:2,point:diffusion-bf16}]"
    done = reporting("run", *SMALL, planted, f"run_dir={home}/run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for file in (home / "run").rglob("*"):
        if file.is_file() and file.parent.name != "logs":
            content = file.read_bytes()
            for secret in ("hf_plantedplanted", "planted-pass", str(home)):
                assert secret.encode() not in content, (file, secret)


def test_a_time_budget_ends_a_run_that_resume_completes(
    tmp_path: Path, canvasbench: Command
) -> None:
    folder = tmp_path / "run"
    done = canvasbench(
        *["run", "-m", *SMALL, "measure.num_processes=2", "workload.num_prompts=3"],
        *["measure.num_repeats=1", "time_budget_s=0.01", "run_dir=run"],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    run = open_run(folder)
    assert run.info["finished"] is False
    assert set(run.requests["process_id"]) == {0}
    done = canvasbench("resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = open_run(folder)
    assert run.info["finished"] is True
    assert set(run.requests["process_id"]) == {0, 1}
