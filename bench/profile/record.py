"""Records a point under torch's profiler: one request after a warm-up, every forward a step of it.

The request is made so that every phase is seen: three canvases (or as many tokens as a decode step
is asked for), past the end of text, with at most so many denoise steps a canvas. The same request
is timed without a profiler before and after: the overhead is the difference.

Steps are profiled eagerly, with a range around every op group. What a profiler can see of them as a
run executes them is less: of a captured CUDA graph one launch on the host and the kernels, without
the operations that launched them, so that only our own kernels are known by their op group; of a
compiled step the calls that the compiler left, in no op group.
"""

import gzip
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

import model as engine
from bench.backends import Backend, Delivery, Forward
from bench.backends.native import NativeSession
from bench.build import build_sessions, build_workload
from bench.phases import COMMITTING
from bench.profile.floors import phase_floors
from bench.profile.labels import labelled
from bench.schema import RunConfig
from model.transformer import Unwrapped
from model.work import ForwardKind

_CANVASES = 3
_WARMUPS = 2  # requests; in a compiled or captured one graphs are made
_ENDLESS = 1 << 30
_Key = tuple[str, int, int]
"""Phase, canvas or token, and step of what happened."""


@dataclass(frozen=True, slots=True)
class ForwardNote:
    """One step of the profiler's schedule: a forward, or the delivery of a block.

    Attributes:
        number: the step's, as in the trace.
        context: cached positions of every row before it.
        plain_before_ms, plain_after_ms: its length without the profiler, on the device's clock.
        profiled_ms: with it.
    """

    number: int
    phase: str
    canvas_index: int
    step: int
    context: int
    plain_before_ms: float
    profiled_ms: float
    plain_after_ms: float


@dataclass(frozen=True, slots=True)
class Recording:
    """What recording leaves besides the trace.

    Attributes:
        executed: how steps ran: eager, or as the point asks.
        weights: tiny, dummy or a checkpoint's name.
        floors: of each phase's mean forward, by op group.
    """

    executed: str
    emulated: bool
    weights: str
    forwards: list[ForwardNote]
    floors: dict[str, dict[str, dict[str, float]]]

    def plain(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Request:
    session: NativeSession
    prompts: list[list[int]]

    def run(
        self, between: Callable[[], None] = lambda: None, at_end: Callable[[], None] = lambda: None
    ) -> tuple[list[_Key], list[float]]:
        """Answers once; what happened, and each event's length in milliseconds.

        Args:
            between: called after every event but the last.
            at_end: called after the last.
        """
        watch = self.session.stopwatch()
        events: list[Forward | Delivery] = []
        answer = self.session.answer(self.prompts, range(len(self.prompts)), mark=watch.mark)
        watch.start()
        for event in answer:
            events.append(event)
            if isinstance(event, Delivery) and all(row.finish_reason for row in event.rows):
                at_end()
                break
            between()
        reached_s = watch.laps().device_s
        lengths = [end - begin for begin, end in zip([0.0, *reached_s], reached_s, strict=False)]
        return list(_keys(events)), [1e3 * length_s for length_s in lengths]


def _keys(events: list[Forward | Delivery]) -> Iterator[_Key]:
    for event in events:
        if isinstance(event, Forward):
            yield event.phase, event.canvas_index, event.step
        else:
            yield "delivery", event.canvas_index, 1


def record(config: RunConfig, into: Path, *, steps: int, as_executed: bool) -> Recording:
    """Profiles a point and writes its trace, `profile.<time>.pt.trace.json.gz`.

    Args:
        into: the trace's folder.
        steps: denoise steps a canvas at most, or decode steps.
        as_executed: keeps the point's execution; op groups are then known where kernels tell them.

    Raises:
        ValueError: a backend other than our engine, or a prompt that does not fit.
    """
    if config.backend.name is not Backend.native:
        raise ValueError(f"backend={config.backend.name.name} is not profiled; valid: native")
    request = _request(config, steps)
    model = request.session.loaded.model
    as_executed = as_executed and config.execution.name != "eager"
    if not as_executed:
        model.wrap_step = Unwrapped()
    for _ in range(_WARMUPS):
        request.run()
    _, before_ms = request.run()
    with nullcontext() if as_executed else labelled(model):
        keys, profiled_ms = _profiled(request, into, on_gpu=config.device != "cpu")
    after_keys, after_ms = request.run()
    assert keys == after_keys, "the same request takes the same forwards"
    width = max(map(len, request.prompts))
    length = request.session.loaded.config.canvas_length or 1
    times = zip(keys, before_ms, profiled_ms, after_ms, strict=True)
    forwards = [
        ForwardNote(number, *key, _context(key, width, length), *own)
        for number, (key, *own) in enumerate(times, start=1)
    ]
    identity = request.session.identity
    return Recording(
        executed=config.execution.name if as_executed else "eager",
        emulated=identity.emulated,
        weights=identity.weights,
        forwards=forwards,
        floors=_floors(config, request.session, forwards, width),
    )


def _request(config: RunConfig, steps: int) -> _Request:
    """The point's first batch, to be answered over so many canvases or decode steps."""
    (session,) = build_sessions(["profile"], [config], 0)
    assert isinstance(session, NativeSession)
    canvas_length = session.loaded.config.canvas_length
    sampling = session.sampling
    if isinstance(sampling, engine.DiffusionSampling):
        sampling = replace(sampling, max_denoising_steps=min(steps, sampling.max_denoising_steps))
    session = replace(
        session,
        sampling=sampling,
        max_new_tokens=steps + 1 if canvas_length is None else _CANVASES * canvas_length,
        eos_policy=engine.EosPolicy.IGNORE,
    )
    prompts = build_workload(config).fitted(session.encode).prompts[: config.batch_size]
    ids = [prompt.ids(session.encode) for prompt in prompts]
    session.check(ids)
    return _Request(session, ids)


def _profiled(request: _Request, into: Path, *, on_gpu: bool) -> tuple[list[_Key], list[float]]:
    """One request that the profiler warms up with, and one that it records."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    profiler = profile(
        activities=activities,
        schedule=schedule(wait=0, warmup=1, active=_ENDLESS, repeat=1),
        on_trace_ready=partial(_export, into=into),
        profile_memory=True,
    )

    def end() -> None:
        if on_gpu:
            torch.cuda.synchronize()
        profiler.stop()  # right after the last event, whose step it ends

    profiler.start()
    request.run()
    profiler.step()
    return request.run(between=profiler.step, at_end=end)


def _export(profiler: profile, *, into: Path) -> None:
    """Writes the trace under a name that TensorBoard knows, without the machine's own name."""
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(exported))
        trace = json.loads(exported.read_bytes(), strict=False)
    trace.pop("host_name", None)
    name = f"profile.{time.time_ns()}.pt.trace.json.gz"
    trace["traceName"] = name
    into.mkdir(parents=True, exist_ok=True)
    (into / name).write_bytes(gzip.compress(json.dumps(trace).encode(), mtime=0))


def _context(key: _Key, width: int, length: int) -> int:
    """Cached positions before a forward; a commit writes the canvas before the one it belongs to,
    and so does a fused one.

    An autoregressive step k appends token k to the prompt and the k - 1 tokens before it.
    """
    phase, block, _ = key
    if phase == "prefill":
        return 0
    return width + length * (block - (phase in (*COMMITTING, "decode")))


def _floors(
    config: RunConfig, session: NativeSession, forwards: list[ForwardNote], width: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Of every phase that `model.work` knows, at the mean context of its forwards."""
    kinds: tuple[ForwardKind, ...] = ("prefill", "denoise", "commit", "fused", "decode")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind in kinds:
        contexts = [f.context for f in forwards if f.phase == kind]
        if contexts:
            found[kind] = phase_floors(
                config,
                session,
                kind,
                context=round(sum(contexts) / len(contexts)),
                new_tokens=width if kind == "prefill" else None,
            )
    return found
