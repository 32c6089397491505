"""Runs the points of a sweep in one process: every point in every repeat, in random order.

Points are interleaved by repeat so that a slow moment of the machine does not fall on one of them.
A point's tables are written after each of its repeats, so whatever ends the run leaves what was
done.
"""

import random
import resource
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from bench.backends import Session
from bench.compose import Point
from bench.experts import run_routing
from bench.records import ExpertRecord, RepairRecord, RequestRecord
from bench.repair import run_repairs
from bench.requests import run_batch
from bench.workloads import Prompt, Workload


@dataclass(slots=True)
class PointRun:
    """A point while it is measured."""

    point: Point
    session: Session
    workload: Workload
    requests: list[RequestRecord] = field(default_factory=list)
    repairs: list[RepairRecord] = field(default_factory=list)
    experts: list[ExpertRecord] = field(default_factory=list)


Finished = Callable[[PointRun], None]


def run_points(
    runs: Sequence[PointRun], *, seed: int, on_repeat: Finished, on_request: Callable[[], None]
) -> None:
    """Measures all points; `on_repeat` gets a point with all it has after each repeat.

    Args:
        on_request: called after every timed batch, for progress.
    """
    order = random.Random(seed)
    for run in runs:
        _warm_up(run)
    num_repeats = max(run.point.config.measure.num_repeats for run in runs)
    for repeat in range(num_repeats):
        block = [r for r in runs if repeat < r.point.config.measure.num_repeats]
        for run in order.sample(block, len(block)):
            for batch in _batches(run, order):
                run.requests += run_batch(run.session, batch, process_id=0, repeat=repeat)
                on_request()
            if repeat == 0:
                run.experts += _experts(run)
                if run.session.identity.canvas_length is not None:
                    run.repairs += _repairs(run)
            on_repeat(run)


def peak_rss_bytes() -> int:
    """The most memory this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _warm_up(run: PointRun) -> None:
    """Untimed prompts of every task, so that first-use costs do not count."""
    config = run.point.config
    count = min(config.measure.num_warmup_prompts, len(run.workload.prompts))
    for prompt in run.workload.prompts[:count]:
        run_batch(run.session, [prompt] * config.batch_size, process_id=0, repeat=-1)


def _batches(run: PointRun, order: random.Random) -> Iterator[list[Prompt]]:
    """All prompts once, in random order, in batches."""
    prompts = order.sample(run.workload.prompts, len(run.workload.prompts))
    size = run.point.config.batch_size
    for begin in range(0, len(prompts), size):
        yield prompts[begin : begin + size]


def _experts(run: PointRun) -> list[ExpertRecord]:
    config = run.point.config
    found = run_routing(
        run.session,
        run.workload.prompts,
        num_prompts=config.measure.num_routing_prompts,
        batch_size=config.batch_size,
    )
    return list(found)


def _repairs(run: PointRun) -> list[RepairRecord]:
    config = run.point.config
    return list(
        run_repairs(
            run.session,
            run.workload.prompts,
            [request for request in run.requests if request.repeat == 0],
            max_repairs=config.measure.max_repairs,
            seed=config.seed,
        )
    )
