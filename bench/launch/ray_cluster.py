"""`launcher=ray`: every task is a Ray task in a worker process of its own."""

import socket
from typing import Any

from bench.launch import Launch
from bench.launch.job import bring_home, fail_task, run_job
from bench.plan import Task
from bench.schema import RayConfig
from bench.worker import describe

_KNOCK_TIMEOUT_S = 5.0


def run_on_ray(config: RayConfig, given: Launch) -> None:
    """Hands all tasks to Ray and brings each home as it ends.

    Raises:
        ValueError: Ray is not installed or the cluster is not reachable.
    """
    ray = _connected(config)
    try:
        # One call a worker process: a clean slate for every task.
        remote = ray.remote(
            num_cpus=config.num_cpus, num_gpus=config.num_gpus, max_calls=1, max_retries=0
        )(run_job)
        waiting: dict[Any, Task] = {
            remote.remote(describe(task)): task for block in given.blocks for task in block
        }
        while waiting:
            done, _ = ray.wait(list(waiting), num_returns=1)
            for reference in done:
                task = waiting.pop(reference)
                try:
                    outcome = ray.get(reference)
                except ray.exceptions.RayError as error:
                    lines = str(error).strip().splitlines() or [type(error).__name__]
                    fail_task(given, task, "killed", lines[0])
                else:
                    bring_home(given, task, outcome)
    finally:
        ray.shutdown()


def _connected(config: RayConfig) -> Any:
    try:
        import ray
    except ImportError:
        raise ValueError(
            "launcher=ray needs Ray; install it with `pip install canvasbench[ray]`"
        ) from None
    _require_reachable(config.address)
    try:
        ray.init(
            address=config.address,
            log_to_driver=False,
            include_dashboard=False,
            configure_logging=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"launcher=ray: no cluster at {config.address!r}: {first}") from error
    return ray


def _require_reachable(address: str | None) -> None:
    """Knocks first: Ray itself tries an address for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # null, auto, local: Ray finds out by itself
        return
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_TIMEOUT_S).close()
    except OSError as error:
        raise ValueError(f"launcher=ray: no cluster at {address!r}: {error}") from error
