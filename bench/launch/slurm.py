"""`launcher=slurm`: every task is a job, submitted with submitit; all of a sweep at once."""

import time
from pathlib import Path
from typing import Any

from bench.launch import Launch
from bench.launch.job import bring_home, fail_task, run_job
from bench.plan import Task
from bench.schema import SlurmConfig
from bench.worker import describe

_POLL_S = 0.5


def run_on_slurm(config: SlurmConfig, given: Launch) -> None:
    """Submits all tasks and brings each home as it ends; interrupted, cancels what still runs.

    Raises:
        ValueError: submitit is not installed or SLURM is not reachable.
    """
    executor = _executor(config, given.run_folder / "logs")
    waiting: dict[Any, Task] = {}
    try:
        for block in given.blocks:
            for task in block:
                waiting[executor.submit(run_job, describe(task))] = task
        while waiting:
            done = [job for job in waiting if job.done()]
            for job in done:
                _collect(given, waiting.pop(job), job)
            if waiting and not done:
                time.sleep(_POLL_S)
    except BaseException:
        for job in waiting:
            job.cancel(check=False)
        raise


def _collect(given: Launch, task: Task, job: Any) -> None:
    error = job.exception()
    if error is None:
        bring_home(given, task, job.result())
    else:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        fail_task(given, task, "killed", lines[-1])


def _executor(config: SlurmConfig, logs: Path) -> Any:
    try:
        import submitit
    except ImportError:
        raise ValueError(
            "launcher=slurm needs submitit; install it with `pip install canvasbench[slurm]`"
        ) from None
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=config.cluster.name)
    except RuntimeError as error:
        raise ValueError(
            f"launcher=slurm: SLURM is not reachable from here ({error}); "
            "launcher.cluster=local runs the jobs on this machine"
        ) from error
    wanted: dict[str, Any] = {"timeout_min": config.timeout_min}
    if config.cluster.name == "slurm":
        wanted |= {"gpus_per_node": config.gpus_per_node, "slurm_partition": config.partition}
    executor.update_parameters(**{k: v for k, v in wanted.items() if v is not None})
    return executor
