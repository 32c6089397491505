"""The pairs of a comparison, measured block by block until every metric has its verdict."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.ab.blocks import MAX_PAIRS, PAIRS, Place, block_orders
from bench.ab.prepared import AskedPoint, Prepared
from bench.ab.process import Half, Measured, ProcessFailedError, measure_pair
from bench.budget import Budget
from bench.comparison.metrics import Metric
from bench.stats import Better, GoOn, Plan, Verdict, log_ratios, sequential_verdict

LOOKS = Plan().looks
MAX_FAILURES = 3
PLACES_FILE = "places.jsonl"
assert LOOKS[-1] == MAX_PAIRS
_ARMS = ("candidate", "baseline")


@dataclass(frozen=True, slots=True)
class Failure:
    """A process that did not measure; its pair is left out."""

    arm: str
    point_id: str
    pair: int
    why: str

    def __str__(self) -> str:
        return f"the {self.arm}'s process {self.pair} of {self.point_id} failed: {self.why}"


@dataclass(slots=True)
class Pairs:
    """What was measured so far.

    Attributes:
        values: by point, metric and arm: each process's value by its pair.
        failures: in the order they happened.
        blocks: finished.
    """

    values: dict[tuple[str, str, str], dict[int, float]] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    blocks: int = 0

    def add(self, arm: str, point_id: str, pair: int, found: Mapping[str, float]) -> None:
        for name, value in found.items():
            self.values.setdefault((point_id, name, arm), {})[pair] = value

    def log_ratios(self, point_id: str, metric: str) -> np.ndarray:
        """(pairs,) log(candidate / baseline) of the pairs that both arms have, as measured."""
        ours, theirs = (self.values.get((point_id, metric, arm), {}) for arm in _ARMS)
        both = sorted(set(ours) & set(theirs))
        return log_ratios([ours[pair] for pair in both], [theirs[pair] for pair in both])

    def has(self, point_id: str, metric: str) -> bool:
        """Whether both arms have values of it."""
        return all((point_id, metric, arm) in self.values for arm in _ARMS)

    @property
    def both_arms(self) -> bool:
        """Whether each arm has a value of anything."""
        return {arm for _, _, arm in self.values} == set(_ARMS)


def verdict_so_far(pairs: Pairs, point_id: str, metric: Metric, bound: float) -> Verdict | GoOn:
    """The sequential rule's answer on a metric of a point that processes have."""
    plan = Plan(looks=LOOKS, bound=bound, better=metric.better or Better.LESS)
    return sequential_verdict(pairs.log_ratios(point_id, metric.name), plan)


@dataclass(slots=True, kw_only=True)
class Measuring:
    """Two arms, measured in turn.

    Attributes:
        arms: ready to be measured, each as its own code configures its points, by name.
        folders: the run folders, by the arm's name.
        by_process: metrics that decide when it ends.
        bound: relative change that matters.
        budget: no block is begun where the next look is out of its reach.
        log: a line of JSON a process is added to it.
        say: told what happens, a line each.
    """

    arms: Mapping[str, Prepared]
    folders: Mapping[str, Path]
    by_process: Sequence[Metric]
    bound: float
    budget: Budget
    seed: int
    log: Path
    say: Callable[[str], None]
    pairs: Pairs = field(default_factory=Pairs)

    def run(self) -> str:
        """Measures until nothing is open, and says why it ended.

        Raises:
            ValueError: what a process wrote cannot be read.
        """
        for block in block_orders(self.seed):
            more_pairs = self._to_next_look()
            if more_pairs is None:
                return "every metric has its verdict"
            if 2 * self.pairs.blocks >= MAX_PAIRS:
                return f"all {MAX_PAIRS} pairs are measured"
            if late := self._late(more_pairs):
                return late
            begin = time.monotonic()
            with self.budget.spent_on():
                for pair in (block[:PAIRS], block[PAIRS:]):
                    self._measure(pair)
                    if len(self.pairs.failures) >= MAX_FAILURES:
                        return f"{MAX_FAILURES} processes failed"
            took_s = time.monotonic() - begin
            self.pairs.blocks += 1
            self.say(f"{2 * self.pairs.blocks} pairs; a block takes {took_s:.0f} s")
        raise AssertionError("blocks have no end")

    def _late(self, more_pairs: int) -> str | None:
        """Why the budget ends it: it is spent, or so many more pairs would end after it."""
        if self.budget.is_spent:
            return "the budget is spent"
        blocks = math.ceil(more_pairs / PAIRS)
        if self.budget.allows_another(blocks):
            return None
        pairs, needed_s = 2 * self.pairs.blocks + more_pairs, self.budget.needed_s(blocks)
        return f"the next look is out of reach: {pairs} pairs need --budget {_told(needed_s)}"

    def _to_next_look(self) -> int | None:
        """Pairs until a verdict may fall on what is open yet; None where nothing is."""
        if not self.pairs.both_arms:
            return PAIRS
        found = [
            verdict_so_far(self.pairs, point.point_id, metric, self.bound)
            for point in self.arms["candidate"].points
            for metric in self.by_process
            if self.pairs.has(point.point_id, metric.name)
        ]
        return min((each.more_pairs for each in found if isinstance(each, GoOn)), default=None)

    def _measure(self, pair: Sequence[Place]) -> None:
        """Each point in a process of either arm, the first place's arm first."""
        names = ["candidate" if place.is_candidate else "baseline" for place in pair]
        for points in zip(*(self._points(name) for name in names), strict=True):
            started = datetime.now(UTC).isoformat(timespec="seconds")
            halves = [
                Half(self.arms[name], point, place.pair, self.folders[name])
                for name, point, place in zip(names, points, pair, strict=True)
            ]
            found = measure_pair(halves[0], halves[1])
            for name, point, place, measured in zip(names, points, pair, found, strict=True):
                line = {
                    "block": place.block,
                    "place": place.place,
                    "arm": name,
                    "pair": place.pair,
                    "point": point.point_id,
                    "started": started,
                }
                self._log({**line, **self._kept(name, point, place.pair, measured)})

    def _points(self, arm: str) -> list[AskedPoint]:
        """In an order that both arms have."""
        return sorted(self.arms[arm].points, key=lambda point: point.point_id)

    def _kept(self, arm: str, point: AskedPoint, pair: int, measured: Measured) -> dict[str, Any]:
        if isinstance(measured, ProcessFailedError):
            failure = Failure(arm, point.point_id, pair, str(measured))
            self.pairs.failures.append(failure)
            self.say(str(failure))
            return {"failure": failure.why}
        if measured is None:
            return {"failure": "the other of its pair failed"}
        self.pairs.add(arm, point.point_id, pair, measured)
        return {"values": measured}

    def _log(self, line: Mapping[str, Any]) -> None:
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _told(seconds: float) -> str:
    """As --budget takes it, rounded up."""
    return f"{math.ceil(seconds / 60)}m" if seconds > 60 else f"{math.ceil(seconds)}s"
