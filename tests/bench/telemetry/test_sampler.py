"""The sampling process: it samples, it ends with its block, it dies with its parent."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.telemetry import Sample, Sampler, window
from bench.telemetry.sample import decode, encode

FAKE = "tests.bench.telemetry.fake_nvml"
ROOT = Path(__file__).resolve().parents[3]
CPU_ALWAYS = ("cpu_count", "cpu_busy_s", "own_cpu_s", "memory_available_bytes", "sampler_cpu_s")
GPU_FIELDS = [
    field.name
    for field in dataclasses.fields(Sample)
    if field.name.startswith(("gpu", "sm_", "memory_clock", "memory_temp", "power", "energy"))
    or field.name.startswith(("throttle", "ecc", "own_proc", "foreign"))
]


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for_end(pid: int) -> bool:
    deadline_s = time.monotonic() + 60
    while is_running(pid) and time.monotonic() < deadline_s:
        time.sleep(0.02)
    return not is_running(pid)


def test_this_machine_is_sampled_and_timestamps_lie_on_our_clock() -> None:
    before_s = time.perf_counter()
    with Sampler(gpu=None, interval_s=0.05) as sampler:
        begin_s = time.perf_counter()
        assert len(sampler.samples()) >= 1
        end_s = begin_s
        while len(window(sampler.samples(), begin_s, end_s)) < 5 and end_s < begin_s + 60:
            time.sleep(0.05)
            end_s = time.perf_counter()
        samples = sampler.samples(until_s=end_s)
        assert sampler.problem is None
    assert before_s < samples[0].at_s < begin_s
    assert end_s <= samples[-1].at_s < time.perf_counter()
    times = [sample.at_s for sample in samples]
    assert times == sorted(set(times))
    # On a busy machine they come late, but none is due before its interval.
    assert 5 <= len(window(samples, begin_s, end_s)) <= (end_s - begin_s) / 0.05 + 2
    for sample in samples:
        assert all(getattr(sample, name) is not None for name in CPU_ALWAYS)
        assert all(getattr(sample, name) is None for name in GPU_FIELDS)


def test_the_device_is_read_in_the_sampling_process() -> None:
    with Sampler(gpu=0, nvml=FAKE) as sampler:
        samples = sampler.samples()
        assert sampler.problem is None
    assert samples[0].sm_clock_mhz == 1980
    assert samples[0].power_w == 420.0
    assert samples[0].foreign_processes == 0


@pytest.mark.parametrize(("gpu", "nvml"), [(0, "no_such_module"), (7, FAKE), ("GPU-unknown", FAKE)])
def test_without_a_driver_or_device_the_fields_are_unknown(gpu: int | str, nvml: str) -> None:
    with Sampler(gpu=gpu, nvml=nvml) as sampler:
        samples = sampler.samples()
        assert sampler.problem is not None
        assert sampler.problem.startswith("no GPU readings")
    assert samples
    assert all(getattr(samples[0], name) is None for name in GPU_FIELDS)
    assert samples[0].cpu_busy_s is not None


def test_the_process_ends_with_its_block_after_a_last_sample() -> None:
    with Sampler(gpu=None, interval_s=30.0) as sampler:
        pid = sampler.pid
        assert pid is not None
        assert is_running(pid)
        assert len(sampler.samples()) == 1
    assert not is_running(pid)
    assert len(sampler.samples()) == 2  # one that had to be killed leaves no last one
    assert sampler.problem is None


def test_the_process_ends_though_another_holds_its_pipe() -> None:
    """As a process does that was forked within the block."""
    with Sampler(gpu=None, interval_s=30.0) as sampler:
        assert sampler._process is not None
        assert sampler._process.stdin is not None
        held = os.dup(sampler._process.stdin.fileno())
    os.close(held)
    assert sampler._process.returncode == 0
    assert len(sampler.samples()) == 2


def test_an_error_in_the_block_ends_the_process_too() -> None:
    with pytest.raises(RuntimeError, match="measured"), Sampler(gpu=None) as sampler:
        raise RuntimeError("measured")
    assert sampler.pid is not None
    assert not is_running(sampler.pid)


def test_a_sampler_that_is_killed_is_told_and_its_samples_stay() -> None:
    with Sampler(gpu=None) as sampler:
        assert sampler.pid is not None
        os.kill(sampler.pid, signal.SIGKILL)
        assert wait_for_end(sampler.pid)
        samples = sampler.samples(until_s=time.perf_counter() + 60)
    assert samples
    assert sampler.problem is not None
    assert "ended early with status -9" in sampler.problem


def test_a_sampler_that_cannot_start_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/interpreter")
    with Sampler(gpu=None) as sampler:
        assert sampler.samples() == []
    assert sampler.problem is not None
    assert "could not be started" in sampler.problem


@pytest.mark.parametrize("how", ["kill", "exit", "fork"])
def test_the_process_dies_with_its_parent(how: str) -> None:
    """kill: SIGKILL; exit: without leaving the block; fork: a child keeps the pipe open."""
    leave = {
        "kill": "time.sleep(60)",
        "exit": "os._exit(0)",
        "fork": "pid = os.fork(); pid and print(pid, flush=True); time.sleep(60)",
    }[how]
    code = (
        "import os, time\n"
        "from bench.telemetry import Sampler\n"
        "with Sampler(gpu=None) as sampler:\n"
        "    print(sampler.pid, flush=True)\n"
        f"    {leave}\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    forked = 0
    try:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if how == "fork":
            forked = int(parent.stdout.readline())
        if how != "exit":
            assert is_running(pid)
            os.kill(parent.pid, signal.SIGKILL)
        parent.wait(60)
        assert wait_for_end(pid)
    finally:
        parent.kill()
        parent.wait()
        if forked:
            os.kill(forked, signal.SIGKILL)


def test_a_parent_that_ends_normally_is_not_kept() -> None:
    """The block is never left: the sampler is a global that nobody closes."""
    code = (
        "from bench.telemetry import Sampler\n"
        "sampler = Sampler(gpu=None).__enter__()\n"
        "print(sampler.pid, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    assert done.returncode == 0
    assert wait_for_end(int(done.stdout))


def test_an_interrupt_of_the_group_leaves_the_last_sample_to_the_parent() -> None:
    with Sampler(gpu=None) as sampler:
        assert sampler.pid is not None
        os.kill(sampler.pid, signal.SIGINT)
        time.sleep(0.3)
        assert is_running(sampler.pid)


def test_sampling_costs_little() -> None:
    """States the share; the bound is generous for a machine that is shared."""
    with Sampler(gpu=0, nvml=FAKE) as sampler:
        time.sleep(2)
    first, last = sampler.samples()[0], sampler.samples()[-1]
    assert first.sampler_cpu_s is not None
    assert last.sampler_cpu_s is not None
    share = (last.sampler_cpu_s - first.sampler_cpu_s) / (last.at_s - first.at_s)
    assert share < 0.05


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gpu": None, "interval_s": 0.0}, "interval_s is 0.0"),
        ({"gpu": None, "interval_s": float("nan")}, "interval_s is nan"),
        ({"gpu": -1}, "gpu is -1"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sampler(**settings)


def test_a_sample_survives_its_line() -> None:
    sample = Sample(at_s=1.25, sm_clock_mhz=1980, throttle_reasons=36, cpu_busy_s=0.1)
    line = encode(sample)
    assert line.count(b"\n") == 1
    assert decode(line) == sample


def test_samples_hold_numbers_alone() -> None:
    """Nothing that could name a host, a person or a program fits into a field."""
    kinds = {str(field.type) for field in dataclasses.fields(Sample)}
    allowed = {int, float, int | None, float | None}
    assert kinds <= {str(kind) for kind in allowed} | {"<class 'int'>", "<class 'float'>"}


def test_the_sampling_process_imports_no_torch() -> None:
    code = (
        "import sys, bench.telemetry, bench.telemetry.worker\n"
        "print(sorted({'torch', 'pandas', 'numpy', 'pynvml', 'hydra'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == "[]"
