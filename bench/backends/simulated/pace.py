"""How long a simulated forward takes, as recorded or as chosen, and letting that time pass."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from bench.backends import Forward
from bench.backends.simulated.clocks import Clock
from bench.backends.simulated.faults import Fault, Moment
from bench.backends.simulated.recording import Pace

DISTRIBUTIONS = ("constant", "lognormal", "heavy_tail")


class Timing(Protocol):
    """Seconds that pass; `paces` are those recorded for the rows of the batch."""

    def host_s(self) -> float:
        """Once a batch, before its first delivery; no forward's time."""
        ...

    def forward_s(self, forward: Forward, paces: Sequence[Pace], rng: random.Random) -> float: ...

    def delivery_s(self, block: int, paces: Sequence[Pace]) -> float:
        """From a block's last forward to its text in hand."""
        ...


@dataclass(frozen=True, slots=True)
class RecordedTiming:
    """A batch is as slow as its slowest row was; a forward without a record takes `phase_s`."""

    phase_s: Mapping[str, float]

    def host_s(self) -> float:
        return 0.0

    def forward_s(self, forward: Forward, paces: Sequence[Pace], rng: random.Random) -> float:
        del rng
        key = forward.phase, forward.canvas_index, forward.step
        known = [pace.forward_s[key] for pace in paces if key in pace.forward_s]
        return max(known, default=self.phase_s.get(forward.phase, 0.0))

    def delivery_s(self, block: int, paces: Sequence[Pace]) -> float:
        known = [pace.delivery_s[block] for pace in paces if block < len(pace.delivery_s)]
        return max(known, default=0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenTiming:
    """Seconds of a forward by phase, times a random factor.

    Attributes:
        request_s: host time of a batch beside its forwards.
        distribution: of the factor. constant: 1; lognormal: median 1, `spread` the standard
            deviation of its logarithm; heavy_tail: Pareto from 1 on with index 1 / spread.
        process_factor: of all forwards; what sets one process apart from another.

    Raises:
        ValueError: a value out of range; it is named with its valid range.
    """

    prefill_s: float = 0.0
    denoise_s: float = 0.0
    commit_s: float = 0.0
    fused_s: float = 0.0
    decode_s: float = 0.0
    request_s: float = 0.0
    distribution: str = "constant"
    spread: float = 0.0
    process_factor: float = 1.0

    def __post_init__(self) -> None:
        if self.distribution not in DISTRIBUTIONS:
            raise ValueError(
                f"distribution is {self.distribution!r}; valid: {', '.join(DISTRIBUTIONS)}"
            )
        times = ("prefill_s", "denoise_s", "commit_s", "fused_s", "decode_s", "request_s")
        for name in (*times, "spread"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be >= 0")
        if self.process_factor <= 0:
            raise ValueError(f"process_factor is {self.process_factor}; it must be > 0")

    def host_s(self) -> float:
        return self.request_s

    def forward_s(self, forward: Forward, paces: Sequence[Pace], rng: random.Random) -> float:
        del paces
        seconds: float = getattr(self, f"{forward.phase}_s")
        return seconds * self._factor(rng) * self.process_factor

    def delivery_s(self, block: int, paces: Sequence[Pace]) -> float:
        del block, paces
        return 0.0

    def _factor(self, rng: random.Random) -> float:
        if self.distribution == "lognormal":
            return rng.lognormvariate(0.0, self.spread)
        if self.distribution == "heavy_tail":
            return float((1.0 - rng.random()) ** -self.spread)
        return 1.0


def process_factor(spread: float, process_id: int, seed: int) -> float:
    """A process's own factor: lognormal around 1, `spread` its logarithm's standard deviation."""
    return random.Random(f"{seed}/process/{process_id}").lognormvariate(0.0, spread)


@dataclass(frozen=True, slots=True)
class Mark:
    """A forward during which a fault lasted, on the session's clock; it took `factor` as long."""

    fault: Fault
    begin_s: float
    end_s: float
    factor: float


@dataclass(frozen=True, slots=True)
class Player:
    """What decides over a session's time."""

    timing: Timing
    faults: Sequence[Fault]
    clock: Clock
    marks: list[Mark]

    def batch(
        self, paces: Sequence[Pace], first_request: int, num_rows: int, seed: str
    ) -> "BatchTime":
        """Starts a batch now."""
        moment = Moment(first_request, num_rows, 0, Forward("prefill", 0, 1))
        return BatchTime(self, paces, random.Random(seed), moment)


class BatchTime:
    """Lets a batch's time pass, forward by forward."""

    def __init__(
        self, player: Player, paces: Sequence[Pace], rng: random.Random, begin: Moment
    ) -> None:
        self._player = player
        self._paces = paces
        self._rng = rng
        self._moment = begin
        self._due_s = player.clock()
        self._host_s = player.timing.host_s()

    def forward(self, forward: Forward) -> Forward:
        """Waits for as long as a forward takes, unless a fault ends it all."""
        player, moment = self._player, replace(self._moment, forward=forward)
        self._moment = replace(moment, index=moment.index + 1)
        seconds = player.timing.forward_s(forward, self._paces, self._rng)
        lasting: list[tuple[Fault, float]] = []
        for fault in player.faults:
            fault.strike(moment)
            slowed = fault.slow(seconds, moment, self._rng)
            if fault.lasts(moment):
                lasting.append((fault, slowed / seconds if seconds else 1.0))
            seconds = slowed
        end_s = self._due_s + seconds
        player.marks.extend(Mark(fault, self._due_s, end_s, factor) for fault, factor in lasting)
        self._wait(seconds)
        return forward

    def deliver(self, block: int) -> None:
        """Waits until a block's text is in hand."""
        host_s, self._host_s = self._host_s, 0.0
        self._wait(host_s + self._player.timing.delivery_s(block, self._paces))

    def _wait(self, seconds: float) -> None:
        self._due_s += seconds
        self._player.clock.wait_until(self._due_s)
