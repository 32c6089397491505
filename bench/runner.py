"""Measures points in this process: warm-up, then one repeat of one point at a time.

Who decides which repeat comes when is `bench.supervise` (or a cluster's job): see `bench.plan`.
"""

import random
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.backends import Session
from bench.compose import Point
from bench.experts import run_routing
from bench.records import ExpertRecord, RepairRecord, RequestRecord
from bench.repair import run_repairs
from bench.requests import run_batch
from bench.warmup import WarmUp, warm_up
from bench.workloads import Prompt, Workload


@dataclass(slots=True)
class PointRun:
    """A point while this process measures it."""

    point: Point
    session: Session
    workload: Workload
    process_id: int = 0
    warmed: WarmUp | None = field(default=None)


@dataclass(frozen=True, slots=True)
class Repeat:
    """What one pass over a point's prompts left."""

    window_s: tuple[float, float]  # of the timed batches, on time.perf_counter
    requests: list[RequestRecord]
    repairs: list[RepairRecord]
    experts: list[ExpertRecord]


def measure_repeat(run: PointRun, repeat: int, on_batch: Callable[[], None]) -> Repeat:
    """Answers every prompt once, in random order; the first repeat also probes, untimed.

    Args:
        on_batch: called after every timed batch, outside the timed window.
    """
    if run.warmed is None:
        run.warmed = _warm(run)
    elif run.point.config.execution.name == "cuda_graph":
        # Graphs belong to the address of a cache, and probes or other points have run in between.
        _warm_batch(run, 0)
    order = random.Random(f"{run.point.config.seed}/{run.process_id}/{repeat}")
    requests: list[RequestRecord] = []
    begin_s = time.perf_counter()
    for batch in _batches(run, order):
        requests += run_batch(run.session, batch, process_id=run.process_id, repeat=repeat)
        on_batch()
    window_s = begin_s, time.perf_counter()
    if repeat or run.process_id:
        return Repeat(window_s, requests, [], [])
    is_diffusion = run.session.identity.canvas_length is not None
    repairs = _repairs(run, requests) if is_diffusion else []
    return Repeat(window_s, requests, repairs, _experts(run))


def num_batches(run: PointRun) -> int:
    """Timed batches of one repeat."""
    return -(-len(run.workload.prompts) // run.point.config.batch_size)


def peak_rss_bytes() -> int:
    """The most memory this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _warm(run: PointRun) -> WarmUp:
    """Untimed batches of every task until a forward takes a steady time."""
    measure = run.point.config.measure
    return warm_up(
        partial(_warm_batch, run), measure.min_warmup_prompts, measure.max_warmup_prompts
    )


def _warm_batch(run: PointRun, index: int) -> Sequence[RequestRecord]:
    """The longest prompt first: a graph captured with it serves all that are shorter."""
    prompts = run.workload.prompts
    chosen = prompts[index % len(prompts)]
    if index == 0:
        chosen = max(prompts, key=lambda prompt: len(prompt.ids(run.session.encode)))
    batch = [chosen] * run.point.config.batch_size
    return run_batch(run.session, batch, process_id=run.process_id, repeat=-1)


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


def _repairs(run: PointRun, requests: Sequence[RequestRecord]) -> list[RepairRecord]:
    config = run.point.config
    found = run_repairs(
        run.session,
        run.workload.prompts,
        requests,
        max_repairs=config.measure.max_repairs,
        seed=config.seed,
    )
    return list(found)
