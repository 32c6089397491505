"""Measures points in this process: warm-up, then one repeat of one point at a time.

A model here is given one batch after the other; a server is sent all prompts of a repeat as a load.
Who decides which repeat comes when is `bench.supervise` (or a cluster's job): see `bench.plan`.
"""

import random
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

from bench.backends import AnySession, LoadSession, Session
from bench.compose import Point
from bench.experts import run_routing
from bench.records import (
    ExpertRecord,
    FailedRequest,
    LoadRecord,
    Reconciled,
    RepairRecord,
    RequestRecord,
)
from bench.repair import run_repairs
from bench.requests import run_batch
from bench.warmup import WarmUp, warm_up
from bench.workloads import Prompt, Workload


@dataclass(slots=True)
class PointRun:
    """A point while this process measures it."""

    point: Point
    session: AnySession
    workload: Workload
    process_id: int = 0
    warmed: WarmUp | None = field(default=None)


@dataclass(frozen=True, slots=True)
class Repeat:
    """What one pass over a point's prompts left.

    Attributes:
        window_s: of the timed batches or requests, on time.perf_counter.
        failed, load, reconciled: of a server's load alone.
    """

    window_s: tuple[float, float]
    requests: Iterable[RequestRecord]
    repairs: list[RepairRecord] = field(default_factory=list)
    experts: list[ExpertRecord] = field(default_factory=list)
    failed: Iterable[FailedRequest] = ()
    load: LoadRecord | None = None
    reconciled: list[Reconciled] = field(default_factory=list)


def measure_repeat(run: PointRun, repeat: int, on_batch: Callable[[], None]) -> Repeat:
    """Answers every prompt once, in random order; the first repeat also probes, untimed.

    Args:
        on_batch: called after every timed batch, outside the timed window; of a load, for every
            request that ended, within it.
    """
    prompts = run.workload.prompts
    order = random.Random(f"{run.point.config.seed}/{run.process_id}/{repeat}")
    shuffled = order.sample(prompts, len(prompts))
    if isinstance(run.session, LoadSession):
        return _load(run, run.session, shuffled, repeat, on_batch)
    return _batched(run, run.session, shuffled, repeat, on_batch)


def _load(
    run: PointRun,
    session: LoadSession,
    prompts: Sequence[Prompt],
    repeat: int,
    on_request: Callable[[], None],
) -> Repeat:
    """Sends all prompts as a load. A server is warmed once a point, by a set number of requests."""
    if run.warmed is None:
        num_requests = run.point.config.measure.min_warmup_prompts
        session.warm(run.workload.prompts, num_requests)
        run.warmed = WarmUp(num_requests, None)
    found = session.answer_all(
        prompts, process_id=run.process_id, repeat=repeat, on_outcome=on_request
    )
    return Repeat(
        found.window_s,
        found.requests,
        failed=found.failed,
        load=found.load,
        reconciled=found.reconciled,
    )


def _batched(
    run: PointRun,
    session: Session,
    prompts: Sequence[Prompt],
    repeat: int,
    on_batch: Callable[[], None],
) -> Repeat:
    if run.warmed is None:
        run.warmed = _warm(run, session)
    elif run.point.config.execution.name == "cuda_graph":
        # Graphs belong to the address of a cache, and probes or other points have run in between.
        _warm_batch(run, session, 0)
    requests: list[RequestRecord] = []
    size = run.point.config.batch_size
    begin_s = time.perf_counter()
    for begin in range(0, len(prompts), size):
        batch = prompts[begin : begin + size]
        requests += run_batch(session, batch, process_id=run.process_id, repeat=repeat)
        on_batch()
    window_s = begin_s, time.perf_counter()
    if repeat or run.process_id:
        return Repeat(window_s, requests)
    is_diffusion = session.identity.canvas_length is not None
    repairs = _repairs(run, session, requests) if is_diffusion else []
    return Repeat(window_s, requests, repairs, _experts(run, session))


def num_batches(run: PointRun) -> int:
    """Timed batches of one repeat."""
    return -(-len(run.workload.prompts) // run.point.config.batch_size)


def peak_rss_bytes() -> int:
    """The most memory this process has had resident."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _warm(run: PointRun, session: Session) -> WarmUp:
    """Untimed batches of every task until a forward takes a steady time."""
    measure = run.point.config.measure
    return warm_up(
        partial(_warm_batch, run, session), measure.min_warmup_prompts, measure.max_warmup_prompts
    )


def _warm_batch(run: PointRun, session: Session, index: int) -> Sequence[RequestRecord]:
    """The longest prompt first: a graph captured with it serves all that are shorter."""
    prompts = run.workload.prompts
    chosen = prompts[index % len(prompts)]
    if index == 0:
        chosen = max(prompts, key=lambda prompt: len(prompt.ids(session.encode)))
    batch = [chosen] * run.point.config.batch_size
    return run_batch(session, batch, process_id=run.process_id, repeat=-1)


def _experts(run: PointRun, session: Session) -> list[ExpertRecord]:
    config = run.point.config
    found = run_routing(
        session,
        run.workload.prompts,
        num_prompts=config.measure.num_routing_prompts,
        batch_size=config.batch_size,
    )
    return list(found)


def _repairs(
    run: PointRun, session: Session, requests: Sequence[RequestRecord]
) -> list[RepairRecord]:
    config = run.point.config
    found = run_repairs(
        session,
        run.workload.prompts,
        requests,
        max_repairs=config.measure.max_repairs,
        seed=config.seed,
    )
    return list(found)
