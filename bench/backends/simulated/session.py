"""A session without a model: it plays a recording, lets time pass and goes wrong as told.

Steps, limits and the ledger follow the knobs as the engine's do: a canvas is cut at the step limit
and delivers the argmax it has there; forced steps repeat the last one. A recording knows no more
than was recorded: steps beyond it change nothing, and an answer longer than it ends in EOS.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from bench.backends import Capabilities, Delivery, Forward, Identity, RowBlock, Steps, unmarked
from bench.backends.simulated.canvases import nothing_more, played, stacked
from bench.backends.simulated.clocks import Clock, RealClock, VirtualClock
from bench.backends.simulated.faults import Fault
from bench.backends.simulated.pace import BatchTime, Mark, Player, RecordedTiming, Timing
from bench.backends.simulated.recording import (
    EOS,
    PAD,
    Pace,
    RecordedCanvas,
    RecordedRequest,
    Recording,
    num_content,
)
from bench.backends.simulated.telemetry import Observed, made_up, planted
from bench.phases import FUSED
from bench.telemetry import Sample
from bench.timing import HostStopwatch, Stopwatch

EOS_POLICIES = ("stop", "ignore")
TRACES = ("counts", "positions", "full")


@dataclass(frozen=True, kw_only=True, slots=True)
class Knobs:
    """What a session is configured with beside its model.

    Attributes:
        max_denoising_steps: None for as many as were recorded.
        early_stop: off, every canvas takes exactly `max_denoising_steps`.
        fused_commit: a canvas is committed in the forward of the next one's first step.
        process_id: which process this is; decides its random times and the recorded ones it takes.

    Raises:
        ValueError: a value out of range; it is named with what is valid.
    """

    max_new_tokens: int
    eos_policy: str = "stop"
    trace: str = "positions"
    max_denoising_steps: int | None = None
    early_stop: bool = True
    fused_commit: bool = False
    seed: int = 0
    process_id: int = 0

    def __post_init__(self) -> None:
        for name, valid in (("eos_policy", EOS_POLICIES), ("trace", TRACES)):
            if getattr(self, name) not in valid:
                raise ValueError(f"{name} is {getattr(self, name)!r}; valid: {', '.join(valid)}")
        for name, least in (("max_new_tokens", 1), ("max_denoising_steps", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"{name} is {value}; it must be >= {least}")
        if not self.early_stop and self.max_denoising_steps is None:
            raise ValueError("early_stop is off; max_denoising_steps must say how many are forced")


@dataclass(slots=True)
class _Row:
    """One row of a batch: what it plays and what it may still deliver."""

    request: RecordedRequest
    room: int
    ended: bool = False


class SimulatedSession:
    """Plays a recording as a `bench.backends.Session`.

    Attributes:
        marks: when faults that the driver would tell of lasted.
        clock: on a virtual one nothing is waited for.
    """

    def __init__(
        self,
        recording: Recording,
        timing: Timing | None = None,
        faults: Sequence[Fault] = (),
        *,
        knobs: Knobs | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.knobs = knobs or Knobs(
            max_new_tokens=recording.max_new_tokens,
            eos_policy=recording.eos_policy,
            trace=recording.trace,
            fused_commit=recording.fused_commit or False,
        )
        for fault in faults:
            recording = fault.alter(recording, self.knobs.seed)
        self.clock = clock or RealClock()
        self.marks: list[Mark] = []
        self._recording = recording
        self._faults = tuple(faults)
        timing = timing or RecordedTiming(recording.phase_s)
        self._player = Player(timing, self._faults, self.clock, self.marks)
        self._by_prompt: dict[tuple[int, ...], dict[int, RecordedRequest]] = {}
        for request in recording.requests:
            self._by_prompt.setdefault(request.prompt_ids, {})[request.request_id] = request
        self._ids_by_text = {r.prompt: r.prompt_ids for r in recording.requests}
        self._num_asked = 0
        self._begun: list[tuple[float, float]] = []  # of batches: time.perf_counter, own clock
        self._times_asked: Counter[int] = Counter()

    @property
    def identity(self) -> Identity:
        recording = self._recording
        return Identity(
            model=recording.model,
            decoding=recording.decoding,
            emulated=recording.emulated,
            weights=recording.weights,
            weights_sha256=recording.weights_sha256,
            vocab_size=len(recording.vocabulary),
            canvas_length=recording.canvas_length,
            device="simulated",
            eos_token_ids=(EOS,),
        )

    @property
    def capabilities(self) -> Capabilities:
        """Of a recording that may hold less: what it lacks is n/a as it was there."""
        return Capabilities(
            steps=Steps.PER_POSITION, device_time=False, seeds=True, step_cap=True, batch=True
        )

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        for row, prompt in enumerate(prompts):
            if tuple(prompt) not in self._by_prompt:
                raise ValueError(f"prompt {row} ({len(prompt)} tokens) is not in the recording")

    def encode(self, text: str) -> list[int]:
        """Token ids of a recorded prompt.

        Raises:
            ValueError: the recording has no such prompt.
        """
        if text not in self._ids_by_text:
            raise ValueError(
                f"prompt {text!r} is not in the recording, "
                f"which has {len(self._recording.requests)} of {self._recording.model}"
            )
        return list(self._ids_by_text[text])

    def decode(self, tokens: Sequence[int]) -> str:
        return self._recording.vocabulary.decode(tokens)

    def vocabulary(self, token: int) -> str:
        return self._recording.vocabulary.shown(token)

    def stopwatch(self) -> Stopwatch:
        virtual = isinstance(self.clock, VirtualClock)
        return HostStopwatch(self.clock, "virtual" if virtual else "host")

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        row_keys: Sequence[int],
        *,
        first_canvas: Sequence[Sequence[int]] | None = None,
        max_new_tokens: int | None = None,
        mark: Callable[[], None] = unmarked,
    ) -> Iterator[Forward | Delivery]:
        """Plays the recorded answers; a repair (`first_canvas`) takes no time."""
        requests = self._requests(prompts, row_keys)
        if first_canvas is not None:
            events = self._repair(requests, first_canvas)
        else:
            events = self._played(requests, max_new_tokens or self.knobs.max_new_tokens)
        for event in events:
            mark()
            yield event

    def _played(self, requests: list[RecordedRequest], room: int) -> Iterator[Forward | Delivery]:
        rows = [_Row(r, min(room, r.limit or room)) for r in requests]
        pace = self._started(requests)
        yield pace.forward(Forward("prefill", 0, 1))
        for block in itertools.count():
            if self._recording.canvas_length is None:
                if block:
                    yield pace.forward(Forward("decode", block, 1))
                delivery = self._tokens(rows, block)
            else:
                canvases = [None if row.ended else self._canvas(row, block) for row in rows]
                if block and not self.knobs.fused_commit:
                    yield pace.forward(Forward("commit", block, 1))
                for step in range(max(c.steps for c in canvases if c is not None)):
                    fused = self.knobs.fused_commit and block and not step
                    yield pace.forward(Forward(FUSED if fused else "denoise", block, step + 1))
                delivery = self._canvases(rows, block, canvases)
            pace.deliver(block)
            yield delivery
            if all(row.ended for row in rows):
                return

    def touched_experts(
        self, prompts: Sequence[Sequence[int]], row_keys: Sequence[int]
    ) -> Iterator[tuple[Forward, list[int]]]:
        """As recorded for a batch that began with the same request; nothing where none was."""
        del prompts
        yield from self._recording.experts.get(row_keys[0], [])

    def weight_bytes(self, distinct_experts: float) -> float:
        """As recorded, whatever the experts; 0 where nothing was."""
        del distinct_experts
        return self._recording.weight_bytes_per_step or 0.0

    def observed(self, samples: Sequence[Sample], window_s: tuple[float, float]) -> Observed:
        """What a sampler would have seen of the simulated device; to be called after the window.

        Args:
            samples: of the machine that the simulation runs on.
            window_s: of timed batches, on time.perf_counter.
        """
        if isinstance(self.clock, VirtualClock):
            begun = [at_s for real_s, at_s in self._begun if window_s[0] <= real_s <= window_s[1]]
            window_s = begun[0] if begun else self.clock(), self.clock()
            return Observed(planted(made_up(*window_s), self.marks), window_s, gpu=True)
        if any(fault.readings() for fault in self._faults):
            return Observed(planted(samples, self.marks), window_s, gpu=True)
        return Observed(samples, window_s, gpu=False)

    def _requests(
        self, prompts: Sequence[Sequence[int]], row_keys: Sequence[int]
    ) -> list[RecordedRequest]:
        """The recorded requests of a batch; equal prompts are told apart by their keys."""
        self.check(prompts)
        found = []
        for prompt, key in zip(prompts, row_keys, strict=True):
            same = self._by_prompt[tuple(prompt)]
            found.append(same.get(key) or next(iter(same.values())))
        return found

    def _started(self, requests: list[RecordedRequest]) -> BatchTime:
        """Starts a batch's time; every further time a request is asked takes its next pace."""
        self._begun.append((time.perf_counter(), self.clock()))
        knobs = self.knobs
        times = [(r.request_id, self._times_asked[r.request_id]) for r in requests]
        paces = [
            pace
            for request, (_, count) in zip(requests, times, strict=True)
            if (pace := _pace(request, knobs.process_id, count)) is not None
        ]
        seed = f"{knobs.seed}/{knobs.process_id}/{times}"
        batch = self._player.batch(paces, self._num_asked, len(requests), seed)
        # A warm-up asks one prompt in every row; it is not to use up one of its times.
        if len(set(times)) == len(times):
            self._times_asked.update(request.request_id for request in requests)
        self._num_asked += len(requests)
        return batch

    def _steps(self, canvas: RecordedCanvas) -> tuple[int, str]:
        """Steps a canvas takes under the knobs, and why it stops."""
        cap = self.knobs.max_denoising_steps
        if any(fault.ignores("max_denoising_steps") for fault in self._faults):
            cap = None
        stops = self.knobs.early_stop or any(f.ignores("early_stop") for f in self._faults)
        if not stops:
            return cap or canvas.steps, "forced"
        if cap is not None and canvas.steps > cap:
            return cap, "cap"
        return canvas.steps, canvas.stop_reason

    def _canvas(self, row: _Row, block: int) -> RecordedCanvas:
        """What a row plays at a block."""
        canvases = row.request.canvases
        canvas = canvases[block] if block < len(canvases) else nothing_more(canvases[-1])
        return played(canvas, *self._steps(canvas))

    def _canvases(
        self, rows: Sequence[_Row], block: int, canvases: Sequence[RecordedCanvas | None]
    ) -> Delivery:
        length = self._recording.canvas_length
        assert length is not None
        blocks = [
            self._block(row, canvas.slots, canvas.steps, canvas.stop_reason)
            if canvas is not None
            else RowBlock([], [PAD] * length, 0, 0, length, 0, None, None)
            for row, canvas in zip(rows, canvases, strict=True)
        ]
        return Delivery(block, blocks, stacked(canvases, length, self.knobs.trace))

    def _tokens(self, rows: Sequence[_Row], block: int) -> Delivery:
        blocks = []
        for row in rows:
            tokens = row.request.tokens
            token = tokens[block] if block < len(tokens) else EOS
            if row.ended:
                blocks.append(RowBlock([], [token], 0, 0, 1, 0, None, None))
            else:
                blocks.append(self._block(row, [token], 1, None))
        return Delivery(block, blocks, None)

    def _block(self, row: _Row, slots: list[int], steps: int, stop_reason: str | None) -> RowBlock:
        """A row's share of a delivery, cut at the end and at the limit: every slot has a place."""
        content = num_content(slots, self.knobs.eos_policy)
        tokens = slots[: min(content, row.room)]
        row.room -= len(tokens)
        finish = None
        if self.knobs.eos_policy == "stop" and tokens[-1] == EOS:
            finish = "eos"
        elif not row.room:
            finish = "length"
        row.ended = finish is not None
        block = RowBlock(
            tokens=tokens,
            slots=slots,
            after_eos=len(slots) - content,
            over_limit=content - len(tokens),
            row_ended=0,
            steps=steps,
            stop_reason=stop_reason,
            finish_reason=finish,
        )
        for fault in self._faults:
            block = fault.block(row.request.request_id, block)
        return block

    def _repair(
        self, requests: Sequence[RecordedRequest], given: Sequence[Sequence[int]]
    ) -> Iterator[Forward | Delivery]:
        """The recorded outcome of the repair test; everything comes back where none is known."""
        rows = []
        for request, corrupted in zip(requests, given, strict=True):
            original = request.canvases[0].slots
            content = range(num_content(original, self.knobs.eos_policy))
            changed = [i for i in content if corrupted[i] != original[i]]
            kept = [i for i in content if corrupted[i] == original[i]]
            slots, steps = list(original), request.canvases[0].steps
            if request.repair is not None:
                steps = request.repair.steps
                for i in changed[: request.repair.left]:
                    slots[i] = corrupted[i]
                for i in kept[: request.repair.lost]:
                    slots[i] = self._recording.vocabulary.wrong(0)
            tokens = slots[: len(content)]
            after_eos = len(slots) - len(tokens)
            rows.append(RowBlock(tokens, slots, after_eos, 0, 0, steps, "converged", None))
        yield Forward("prefill", 0, 1)
        for step in range(max(row.steps for row in rows)):
            yield Forward("denoise", 0, step + 1)
        yield Delivery(0, rows, None)


def _pace(request: RecordedRequest, process_id: int, count: int) -> Pace | None:
    """The pace of a process's so many-th time; processes and times start over when used up."""
    processes = sorted(request.paces)
    if not processes:
        return None
    own = request.paces[processes[process_id % len(processes)]]
    return own[count % len(own)]
