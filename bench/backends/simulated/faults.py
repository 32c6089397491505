"""What can go wrong, on purpose. Faults compose: each alters what the ones before it left.

A share of requests is exact and drawn from the seed. `request` counts the requests that a session
was asked from 0 on, warm-up included; `request_id` names a prompt, whenever it is asked.
"""

import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from bench.backends import Forward, RowBlock
from bench.backends.simulated.recording import (
    EOS,
    PAD,
    RecordedRequest,
    Recording,
    num_content,
)
from bench.phases import DENOISING
from bench.telemetry import ThrottleReason

_KNOBS = ("max_denoising_steps", "early_stop")
_EXIT_CODE = 70
_STEPS = (*DENOISING, "decode")


@dataclass(frozen=True, slots=True)
class Moment:
    """A forward that is about to be played.

    Attributes:
        request: how many requests were asked before this batch's, which has `num_rows`.
        index: of the forward within its batch, from 0.
    """

    request: int
    num_rows: int
    index: int
    forward: Forward

    def is_in(self, request: int) -> bool:
        """Whether the batch contains a request."""
        return self.request <= request < self.request + self.num_rows

    def is_from(self, request: int) -> bool:
        """Whether the batch contains a request or comes after it."""
        return request < self.request + self.num_rows


@dataclass(frozen=True, slots=True)
class Fault:
    """Base: does nothing. Each kind overrides what it changes."""

    def alter(self, recording: Recording, seed: int) -> Recording:
        """What is answered, changed once when the session begins."""
        del seed
        return recording

    def ignores(self, knob: str) -> bool:
        """Whether a sampler's knob has no effect."""
        del knob
        return False

    def strike(self, moment: Moment) -> None:
        """May not return."""

    def slow(self, seconds: float, moment: Moment, rng: random.Random) -> float:
        """What becomes of a forward's seconds."""
        del moment, rng
        return seconds

    def readings(self) -> Mapping[str, Any]:
        """What the device's driver tells while the fault lasts, as fields of a sample."""
        return {}

    def lasts(self, moment: Moment) -> bool:
        """Whether the driver would tell of it during a forward."""
        del moment
        return False

    def block(self, request_id: int, block: RowBlock) -> RowBlock:
        """What becomes of a row's share of a delivery."""
        del request_id
        return block


@dataclass(frozen=True, slots=True)
class SlowSteps(Fault):
    """From a request on, steps take `factor` times as long, within a canvas from `step` on.

    Autoregressive steps are counted over the whole answer.
    """

    factor: float
    request: int = 0
    step: int = 1

    def slow(self, seconds: float, moment: Moment, rng: random.Random) -> float:
        forward = moment.forward
        step = forward.canvas_index if forward.phase == "decode" else forward.step
        hit = moment.is_from(self.request) and step >= self.step
        return seconds * self.factor if hit and forward.phase in _STEPS else seconds


@dataclass(frozen=True, slots=True)
class SlowShare(Fault):
    """A random share of steps takes `factor` times as long: a heavy tail."""

    share: float
    factor: float

    def __post_init__(self) -> None:
        _check_share(self.share)

    def slow(self, seconds: float, moment: Moment, rng: random.Random) -> float:
        hit = rng.random() < self.share and moment.forward.phase in _STEPS
        return seconds * self.factor if hit else seconds


@dataclass(frozen=True, slots=True)
class Throttle(Fault):
    """From a request on all forwards slow down, over `num_requests` more up to `factor`.

    Attributes:
        reason: what the driver names: a name of `ThrottleReason` in small letters.
    """

    factor: float
    request: int = 0
    num_requests: int = 1
    reason: str = "hw_thermal_slowdown"

    def __post_init__(self) -> None:
        if self.reason.upper() not in ThrottleReason.__members__:
            valid = ", ".join(name.lower() for name in ThrottleReason.__members__)
            raise ValueError(f"reason is {self.reason!r}; valid: {valid}")

    def slow(self, seconds: float, moment: Moment, rng: random.Random) -> float:
        into = moment.request + moment.num_rows - self.request
        reached = min(1.0, max(0, into) / self.num_requests)
        return seconds * (1.0 + (self.factor - 1.0) * reached)

    def readings(self) -> Mapping[str, Any]:
        return {"throttle_reasons": int(ThrottleReason[self.reason.upper()])}

    def lasts(self, moment: Moment) -> bool:
        return moment.is_from(self.request)


@dataclass(frozen=True, slots=True)
class ForeignProcess(Fault):
    """From a request on another process is on the device; forwards take `factor` times as long."""

    factor: float = 1.0
    request: int = 0

    def slow(self, seconds: float, moment: Moment, rng: random.Random) -> float:
        return seconds * self.factor if moment.is_from(self.request) else seconds

    def readings(self) -> Mapping[str, Any]:
        return {"foreign_processes": 1}

    def lasts(self, moment: Moment) -> bool:
        return moment.is_from(self.request)


@dataclass(frozen=True, slots=True)
class NonFiniteEntropy(Fault):
    """One prompt's logits, and so its entropies, are not finite; diffusion only."""

    request_id: int

    def alter(self, recording: Recording, seed: int) -> Recording:
        def broken(request: RecordedRequest) -> RecordedRequest:
            canvases = (
                replace(
                    canvas,
                    mean_entropy_nat=np.full_like(canvas.mean_entropy_nat, np.nan),
                    entropy_nat=np.full(canvas.entropy_nat.shape, np.nan),
                )
                for canvas in request.canvases
            )
            return replace(request, canvases=tuple(canvases))

        return _altered(recording, frozenset({self.request_id}), broken)


@dataclass(frozen=True, slots=True)
class UnbalancedLedger(Fault):
    """One prompt's canvases claim slots that they do not have; diffusion only."""

    request_id: int
    slots: int = 1

    def block(self, request_id: int, block: RowBlock) -> RowBlock:
        if request_id != self.request_id:
            return block
        return replace(block, over_limit=block.over_limit + self.slots)


@dataclass(frozen=True, slots=True)
class InertKnob(Fault):
    """A knob of the sampler is ignored: max_denoising_steps or early_stop."""

    knob: str

    def __post_init__(self) -> None:
        if self.knob not in _KNOBS:
            raise ValueError(f"knob is {self.knob!r}; valid: {', '.join(_KNOBS)}")

    def ignores(self, knob: str) -> bool:
        return knob == self.knob


@dataclass(frozen=True, slots=True)
class EmptyAnswers(Fault):
    """A share of prompts is answered by an EOS alone."""

    share: float

    def __post_init__(self) -> None:
        _check_share(self.share)

    def alter(self, recording: Recording, seed: int) -> Recording:
        def emptied(request: RecordedRequest) -> RecordedRequest:
            if not request.canvases:
                return replace(request, tokens=(EOS,))
            first = request.canvases[0]
            argmax = np.full_like(first.argmax, PAD)
            argmax[:, 0] = EOS
            canvas = replace(first, argmax=argmax, candidate=argmax)
            return replace(request, canvases=(canvas,))

        return _altered(recording, _chosen(recording, self.share, f"{seed}/empty"), emptied)


@dataclass(frozen=True, slots=True)
class TruncatedAnswers(Fault):
    """A share of prompts is cut at half of its answer, as if by the limit of new tokens."""

    share: float

    def __post_init__(self) -> None:
        _check_share(self.share)

    def alter(self, recording: Recording, seed: int) -> Recording:
        def cut(request: RecordedRequest) -> RecordedRequest:
            content = (num_content(c.slots, recording.eos_policy) for c in request.canvases)
            return replace(request, limit=max(1, (sum(content) + len(request.tokens)) // 2))

        return _altered(recording, _chosen(recording, self.share, f"{seed}/truncated"), cut)


@dataclass(frozen=True, slots=True)
class Crash(Fault):
    """A request ends the process or raises, before the forward `index` of its batch.

    Attributes:
        how: error (RuntimeError), memory (MemoryError), exit (at once, code 70), kill (SIGKILL).
        marker: a file that the crash leaves; while it is there, it does not come again.
    """

    request: int
    index: int = 0
    how: str = "error"
    marker: str | None = None

    HOW: ClassVar[tuple[str, ...]] = ("error", "memory", "exit", "kill")

    def __post_init__(self) -> None:
        if self.how not in self.HOW:
            raise ValueError(f"how is {self.how!r}; valid: {', '.join(self.HOW)}")

    def strike(self, moment: Moment) -> None:
        if not moment.is_in(self.request) or moment.index != self.index:
            return
        if not _comes(self.marker):
            return
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "exit":
            os._exit(_EXIT_CODE)
        elif self.how == "memory":
            raise MemoryError(f"simulated: out of memory at request {self.request}")
        raise RuntimeError(f"simulated: crash at request {self.request}")


@dataclass(frozen=True, slots=True)
class Hang(Fault):
    """A request stands still for real seconds, whatever the session's clock; `marker` as above."""

    request: int
    seconds: float
    marker: str | None = None

    def strike(self, moment: Moment) -> None:
        if moment.is_in(self.request) and moment.index == 0 and _comes(self.marker):
            time.sleep(self.seconds)


def _comes(marker: str | None) -> bool:
    """Whether what leaves a marker has not been; leaves it."""
    if marker is None:
        return True
    if Path(marker).exists():
        return False
    Path(marker).touch()
    return True


def _check_share(share: float) -> None:
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}; it must be from 0 to 1")


def _chosen(recording: Recording, share: float, seed: str) -> frozenset[int]:
    """The ids of a share of the prompts, rounded."""
    ids = [request.request_id for request in recording.requests]
    return frozenset(random.Random(seed).sample(ids, round(share * len(ids))))


def _altered(
    recording: Recording,
    chosen: frozenset[int],
    change: Callable[[RecordedRequest], RecordedRequest],
) -> Recording:
    requests = (change(r) if r.request_id in chosen else r for r in recording.requests)
    return replace(recording, requests=tuple(requests))
