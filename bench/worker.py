"""A process that measures: it loads one model and does what it is told, a line of JSON each way.

`python -m bench.worker` reads on standard input a first line that describes its task, then one line
a repeat; it answers with `ready`, `batch`, `done` and `failed` lines. Whatever else the process
prints goes to its log. It dies with its parent. A simulation starts quickly: it needs no torch.
"""

import ctypes
import errno
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import IO, Any

from bench import provenance
from bench.backends import AnySession, LoadSession
from bench.backends.simulated import SimulatedConfig
from bench.build import build_sessions, build_workload
from bench.collect import point_note, repeat_parts, telemetry_tables
from bench.compose import Point, restore_point
from bench.plan import Task
from bench.redact import redact
from bench.refusal import is_refusal
from bench.runner import PointRun, measure_repeat, num_batches, peak_rss_bytes
from bench.schema import RunConfig
from bench.shards import ShardKey, write_shard
from bench.step_work import step_work
from bench.telemetry import Sampler


def describe(task: Task) -> dict[str, Any]:
    """A task as plain data, for another process or machine."""
    points = [
        {"point_id": p.point_id, "config_hash": p.config_hash, "resolved": p.resolved}
        for p in task.points
    ]
    return {"task_id": task.task_id, "process_id": task.process_id, "points": points}


def prepare(description: Mapping[str, Any]) -> list[PointRun]:
    """Loads the task's model and gives every point a session.

    Raises:
        ValueError: what the user can cause: a bad checkpoint, a prompt that does not fit.
    """
    points: list[Point] = [restore_point(**p) for p in description["points"]]
    configs = [p.config for p in points]
    if not isinstance(configs[0].backend, SimulatedConfig):
        import torch

        torch.set_num_threads(_threads(configs[0]))
    process_id = description["process_id"]
    log = description.get("log")
    sessions = build_sessions(
        [p.point_id for p in points],
        configs,
        process_id,
        server_log=None if log is None else Path(log).with_suffix(".server.log"),
    )
    if configs[0].device.startswith("cuda"):
        import torch

        # What loading took for a moment is not what measuring takes.
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(configs[0].device)
    try:
        runs = [
            PointRun(p, session, build_workload(p.config).fitted(session.encode), process_id)
            for p, session in zip(points, sessions, strict=True)
        ]
        for run in runs:
            run.session.check([prompt.ids(run.session.encode) for prompt in run.workload.prompts])
    except BaseException:
        close(sessions)
        raise
    return runs


def close(sessions: Iterable[AnySession]) -> None:
    """Ends the servers that were started for these sessions."""
    for session in sessions:
        if isinstance(session, LoadSession):
            session.close()


def measure(
    run: PointRun, repeat: int, run_folder: Path, on_batch: Callable[[], None], *, own_pid: int
) -> None:
    """Measures one repeat of a point and writes its shard.

    Args:
        own_pid: the root of the process tree whose load is our own; all other is foreign.
    """
    config, session = run.point.config, run.session
    machine, reached = _machine(run)
    with Sampler(gpu=_gpu(config.device), own_pid=own_pid) as sampler:
        found = measure_repeat(run, repeat, on_batch)
        samples = sampler.samples(until_s=found.window_s[1])
    assert run.warmed is not None
    host, rss_bytes = provenance.host(), peak_rss_bytes()
    held = None if isinstance(session, LoadSession) else _device_memory(config.device)
    note = point_note(run) | {
        "host": host,
        "peak_rss_bytes": rss_bytes,
        "device_memory": held,
        "probe": reached,
        "step_work": step_work(config, found.requests),
        "warmup": {"num_batches": run.warmed.num_batches, "stable": run.warmed.stable},
        "code": provenance.git_state(),
        "machine": machine,
    }
    key = ShardKey(run.point.config_hash, run.process_id, repeat)
    peaks = {
        "peak_rss_bytes": rss_bytes,
        "peak_device_allocated_bytes": held["peak_allocated_bytes"] if held else None,
    }
    observed = telemetry_tables(run, repeat, found.window_s, samples, host, peaks)
    write_shard(run_folder, key, note, chain(repeat_parts(run, found, host), [observed]))


def _machine(run: PointRun) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Where a point is measured, and the rates its device reaches, where one computes here."""
    config, session = run.point.config, run.session
    if isinstance(config.backend, SimulatedConfig):
        return provenance.computer(_threads(config)), None
    import torch

    machine = provenance.machine(config.device, torch.get_num_threads())
    if isinstance(session, LoadSession):
        return machine | session.machine(), None
    from bench.probe import probe

    return machine, asdict(probe(config.device))


def _threads(config: RunConfig) -> int:
    return config.threads or os.cpu_count() or 1


def _gpu(device: str) -> str | None:
    """The driver's name of the device: CUDA's numbers may be renumbered."""
    if not device.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_properties(device).uuid)


def _device_memory(device: str) -> dict[str, int] | None:
    """The most bytes of a GPU's memory this process has held since its model was loaded."""
    if not device.startswith("cuda"):
        return None
    import torch

    return {
        "peak_allocated_bytes": torch.cuda.max_memory_allocated(device),
        "peak_reserved_bytes": torch.cuda.max_memory_reserved(device),
    }


def reason_of(error: BaseException) -> str:
    """The class of a failure: out_of_memory, disk_full or exception."""
    torch = sys.modules.get("torch")  # where it was not imported, the error is not its own
    if isinstance(error, MemoryError) or (torch and isinstance(error, torch.OutOfMemoryError)):
        return "out_of_memory"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "disk_full"
    return "exception"


def serve(commands: IO[str], replies: IO[str]) -> None:
    """Reads the task and its repeats line by line until the input ends."""

    def reply(**fields: Any) -> None:
        replies.write(json.dumps(fields) + "\n")
        replies.flush()

    try:
        runs = {run.point.config_hash: run for run in prepare(json.loads(commands.readline()))}
    except Exception as error:
        if is_refusal(error):
            reply(kind="refused", detail=str(error))
        else:
            traceback.print_exc()
            reply(kind="failed", reason=reason_of(error), detail=_one_line(error))
        return
    try:
        _measure_all(commands, reply, runs)
    finally:
        close(run.session for run in runs.values())


def _measure_all(
    commands: IO[str], reply: Callable[..., None], runs: Mapping[str, PointRun]
) -> None:
    reply(kind="ready", batches={name: num_batches(run) for name, run in runs.items()})
    for line in commands:
        command = json.loads(line)
        run = runs[command["config_hash"]]
        try:
            measure(
                run,
                command["repeat"],
                Path(command["run_folder"]),
                lambda: reply(kind="batch"),
                own_pid=os.getppid(),  # the supervisor, whose other workers wait meanwhile
            )
        except Exception as error:
            traceback.print_exc()
            reply(kind="failed", reason=reason_of(error), detail=_one_line(error))
            return
        reply(kind="done")


def _one_line(error: BaseException) -> str:
    first = (str(error).splitlines() or [""])[0]
    return redact(f"{type(error).__name__}: {first}"[:500])


def die_with_parent() -> None:
    """Asks Linux to end this process when its parent ends, whatever ends that one."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    die_with_parent()
    # Replies keep the pipe to themselves: what libraries print goes to the log.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
