"""A point in the test's own process: loaded, warmed and checked by the harness, timed by rounds.

The times are of one process, so they carry no between-process interval: `canvasbench run
measure=publish` and `canvasbench ab` are for verdicts.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from bench import provenance
from bench.backends import Backend, Delivery, LoadSession, Session
from bench.build import check_point, decoding_of
from bench.collect import point_note, repeat_tables
from bench.compose import Point, compose_points
from bench.merge import empty
from bench.plan import Task
from bench.pytest_bridge.facts import Facts, facts_of
from bench.records import RequestRecord
from bench.runner import PointRun, measure_repeat
from bench.summary import point_row
from bench.tables import COLUMNS
from bench.worker import describe, prepare

_WITHOUT_PROBES = 1
"""The repeat to measure: only the first one, 0, also probes repair and routing."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Token ids of prompts and the keys of their noise, ready to be handed to the engine."""

    prompts: list[list[int]]
    row_keys: list[int]


@dataclass(slots=True)
class BenchmarkedPoint:
    """What `benchmark` calls: one round.

    Attributes:
        facts: what `benchmark.extra_info["canvasbench"]` holds.
        delivered_tokens: of the harness's own pass; every round must deliver as many.
        threads_before: torch's number of threads outside of this point.
    """

    session: Session
    batches: list[Batch]
    facts: Facts
    delivered_tokens: int
    threads_before: int
    _last_round: list[list[Delivery]] = field(default_factory=list)

    def __call__(self) -> None:
        """Answers every prompt once, batch after batch; each ends when the device has finished."""
        self._last_round = [answer(self.session, batch) for batch in self.batches]

    def close(self) -> None:
        """Gives torch its threads back.

        Raises:
            ValueError: the last round's answers are not as long as those of the harness's pass.
        """
        torch.set_num_threads(self.threads_before)
        if not self._last_round:
            return
        delivered = sum(
            len(row.tokens)
            for deliveries in self._last_round
            for delivery in deliveries
            for row in delivery.rows
            if not row.row_ended
        )
        if delivered != self.delivered_tokens:
            raise ValueError(
                f"the last round delivered {delivered} tokens, the harness's pass before it"
                f" {self.delivered_tokens}: the rounds are not the same work"
            )


def answer(session: Session, batch: Batch) -> list[Delivery]:
    """Generates for a batch; the stopwatch's reading waits for the device, as in every run."""
    watch = session.stopwatch()
    watch.start()
    events = list(session.answer(batch.prompts, batch.row_keys, mark=watch.mark))
    watch.laps()
    return [event for event in events if isinstance(event, Delivery)]


def open_point(overrides: Sequence[str]) -> BenchmarkedPoint:
    """Loads a point, warms it up until its forwards are steady, and answers its prompts once.

    Args:
        overrides: as `canvasbench run -m` takes them; exactly one point.

    Raises:
        ValueError: what the harness refuses, several points, a simulated clock, or answers that
            make the measurement invalid.
    """
    point = _the_point(overrides)
    threads_before = torch.get_num_threads()
    try:
        (run,) = prepare(describe(Task("pytest", 0, (point,))))
        assert not isinstance(run.session, LoadSession)
        clock = run.session.stopwatch().clock
        if clock == "virtual":
            raise ValueError("backend.clock=virtual takes no time to be measured; valid: real")
        requests, row = _own_pass(run)
        if row["validity"] == "invalid":
            raise ValueError(f"point {point.point_id} is invalid: {row['validity_reason']}")
        delivered = sum(request.delivered_tokens for request in requests)
        threads = torch.get_num_threads()
        facts = facts_of(run, row, overrides, delivered_tokens=delivered, threads=threads)
        return BenchmarkedPoint(run.session, _batches(run), facts, delivered, threads_before)
    except BaseException:
        torch.set_num_threads(threads_before)
        raise


def _the_point(overrides: Sequence[str]) -> Point:
    if isinstance(overrides, str):
        raise ValueError(f"overrides are {overrides!r}; they must be a list of key=value")
    points = compose_points(overrides, decoding_of, default_sweep=False)
    if len(points) != 1:
        names = ", ".join(point.point_id for point in points)
        raise ValueError(f"the overrides make {len(points)} points ({names}); a test times one")
    if points[0].config.backend.name is Backend.openai:
        raise ValueError("backend=openai is no round in this process; valid: native, transformers")
    check_point(points[0].config)
    return points[0]


def _own_pass(run: PointRun) -> tuple[list[RequestRecord], dict[str, object]]:
    """Warm-up and one pass, measured and summarised as in a run: its requests and point row."""
    found = measure_repeat(run, _WITHOUT_PROBES, lambda: None)
    requests = list(found.requests)
    for request in requests:
        request.repeat = 0  # contents are read from a run's first repeat
    tables = {name: empty(name) for name in COLUMNS}
    tables |= repeat_tables(run, found, provenance.host())
    return requests, point_row(tables, point_note(run)["knobs"])


def _batches(run: PointRun) -> list[Batch]:
    """The workload's prompts in their own order, so that all rounds are the same work."""
    prompts, size = run.workload.prompts, run.point.config.batch_size
    return [
        Batch(
            [prompt.ids(run.session.encode) for prompt in prompts[begin : begin + size]],
            [prompt.request_id for prompt in prompts[begin : begin + size]],
        )
        for begin in range(0, len(prompts), size)
    ]
