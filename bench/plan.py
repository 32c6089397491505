"""What has to be measured, cut into tasks: one process, one loaded model, the points it serves.

A fresh process where a clean slate matters (model, weights, precision, kernels, execution, commits,
backend, device); one where only the workload or the sampler changes, so that weights load once.
Blocks (all tasks of one process number) come one after the other, tasks within a block and points
within a task in random order, so that heat and drift fall on no knob.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.compose import Point
from bench.schema import RunConfig


@dataclass(frozen=True, slots=True)
class Task:
    """One process's share of a sweep.

    Attributes:
        process_id: which of the points' processes it is.
        points: served by one loaded model.
    """

    task_id: str
    process_id: int
    points: tuple[Point, ...]


def num_batches(point: Point) -> int:
    """Timed batches that one process measures of a point, all repeats."""
    config = point.config
    return -(-config.workload.num_prompts // config.batch_size) * config.measure.num_repeats


def clean_slate(config: RunConfig) -> tuple[object, ...]:
    """Points that differ here must not share a process."""
    return (
        config.model,
        config.weights,
        config.precision.name,
        config.vocabulary.name,
        config.kernels.name,
        config.execution.name,
        config.commit.name,
        config.backend.process_key(),
        repr(config.sampler) if config.backend.starts_server else None,
        config.device,
        config.threads,
        config.seed,
    )


def blocks(
    points: Sequence[Point], finished: set[tuple[str, int]], seed: int
) -> Iterator[list[Task]]:
    """The tasks still to do, block by block.

    Args:
        finished: (config hash, process) pairs that need nothing more.
    """
    order = random.Random(seed)
    num_processes = max((p.config.measure.num_processes for p in points), default=0)
    for process_id in range(num_processes):
        groups: dict[tuple[object, ...], list[Point]] = {}
        for point in points:
            wanted = process_id < point.config.measure.num_processes
            if wanted and (point.config_hash, process_id) not in finished:
                groups.setdefault(clean_slate(point.config), []).append(point)
        tasks = [
            Task(_task_id(group, process_id), process_id, tuple(order.sample(group, len(group))))
            for group in groups.values()
        ]
        if tasks:
            yield order.sample(tasks, len(tasks))


def _task_id(points: Sequence[Point], process_id: int) -> str:
    digest = hashlib.sha256("".join(sorted(p.config_hash for p in points)).encode())
    return f"{digest.hexdigest()[:8]}-p{process_id:03}"
