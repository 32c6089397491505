"""Where a step's time goes, by the op groups of `model.work`, beside each one's floor.

Steps run eagerly under torch's profiler, so the table says how time divides and never how long a
step takes: that is what timed requests are for. On a GPU the times are those of its kernels; on a
processor those of torch's operations, what Python does between them left out.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function

import model as engine
from bench.backends import Forward
from bench.backends.native import NativeSession
from bench.build import build_sessions, build_workload
from bench.checks import Finding
from bench.probe import probe
from bench.roofline import Reached, group_floors
from bench.schema import RunConfig
from model.kernels import OP_GROUPS as GROUP_OF_KERNEL
from model.precision import Precision
from model.transformer import Transformer, Unwrapped
from model.work import forward_work

_PREFIX = "op_group:"
_OTHER = "other"
_STEPS = 4
_MODULES = {
    "attention": "attention",
    "attention.qkv": "projections",
    "attention.output": "projections",
    "dense": "dense",
    "router": "router",
    "experts": "experts",
    "self_conditioning": "self_conditioning",
    "final_norm": "norms",
}
"""Parts of a model, by the end of their name, and the op group they are; norms besides."""


def check(config: RunConfig) -> Finding:
    """Profiles a few denoise or decode steps of the point's first prompts."""
    (session,) = build_sessions(["check"], [config], 0)
    assert isinstance(session, NativeSession)
    model = session.loaded.model
    model.wrap_step = Unwrapped()
    session = replace(session, trace=engine.TraceLevel.COUNTS)
    prompts = build_workload(config).prompts[: config.batch_size]
    ids = [prompt.ids(session.encode) for prompt in prompts]
    with labelled(model):
        events = _profiled_steps(session, ids, config.device)
    times = group_times_us(events, on_gpu=config.device != "cpu")
    floors = _floors(config, session, context=len(ids[0]))
    rows: list[dict[str, Any]] = [
        {"op_group": name, "step_ms": time_us / _STEPS / 1e3, "launches": launches / _STEPS}
        | floors.get(name, {})
        for name, (time_us, launches) in times.items()
    ]
    total_ms = sum(time_us for time_us, _ in times.values()) / _STEPS / 1e3
    launches = sum(count for _, count in times.values()) / _STEPS
    detail = (
        f"{total_ms:.3g} ms of operations in {launches:.0f} launches a step, profiled and eager"
    )
    return Finding(None, detail, rows)


@contextmanager
def labelled(model: Transformer) -> Iterator[None]:
    """Names the op group of everything that runs, for a profiler to see."""
    embedding, ops = model.embedding, model.ops
    with ExitStack() as stack:
        for name, module in model.named_modules():
            group = _group_of(name)
            if group is not None:
                stack.enter_context(_ranged(module, group))
        wrapped = {
            "logits": (embedding, "logits", embedding.logits),
            "self_conditioning": (embedding, "soft", embedding.soft),
        }
        for group, (owner, attribute, function) in wrapped.items():
            owner.__dict__[attribute] = _in_range(function, group)
            stack.callback(owner.__dict__.pop, attribute)
        model.ops = replace(
            ops,
            sample=_in_range(ops.sample, "sampling"),
            settle=_in_range(ops.settle, "sampling"),
        )
        stack.callback(setattr, model, "ops", ops)
        yield


def _group_of(name: str) -> str | None:
    parts = name.split(".")
    for end, group in _MODULES.items():
        if parts[-end.count(".") - 1 :] == end.split("."):
            return group
    return "norms" if name.startswith("blocks.") and parts[-1].endswith("_norm") else None


@contextmanager
def _ranged(module: nn.Module, group: str) -> Iterator[None]:
    ranges: list[record_function] = []

    def enter(*_: Any) -> None:
        ranges.append(record_function(_PREFIX + group))
        ranges[-1].__enter__()

    def leave(*_: Any) -> None:
        ranges.pop().__exit__(None, None, None)

    hooks = [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _in_range(function: Callable[..., Any], group: str) -> Callable[..., Any]:
    def ranged(*args: Any) -> Any:
        with record_function(_PREFIX + group):
            return function(*args)

    return ranged


def _profiled_steps(session: NativeSession, ids: list[list[int]], device: str) -> Sequence[Any]:
    """Events of the last `_STEPS` of twice as many steps; those before them warm up."""
    on_gpu = device != "cpu"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    profiler = profile(activities=activities, acc_events=True)
    answer = session.answer(ids, list(range(len(ids))))
    seen = 0
    for event in answer:
        if not isinstance(event, Forward) or event.phase not in ("denoise", "decode"):
            continue
        seen += 1
        if seen == _STEPS:
            profiler.start()
        elif seen == 2 * _STEPS:
            break
    if on_gpu:
        torch.cuda.synchronize()
    profiler.stop()
    if seen < 2 * _STEPS:
        raise ValueError(f"op_groups needs {2 * _STEPS} steps, the point has {seen}")
    return profiler.events() or []


def group_times_us(events: Sequence[Any], *, on_gpu: bool) -> dict[str, tuple[float, int]]:
    """Microseconds and launches by op group.

    An operation belongs to the innermost range around it; a kernel of our own to the group that its
    name stands for (`model.kernels.OP_GROUPS`), whatever launched it.
    """
    found: dict[str, tuple[float, int]] = {}

    def add(group: str, time_us: float) -> None:
        before, launches = found.get(group, (0.0, 0))
        found[group] = before + time_us, launches + 1

    attached: dict[str, int] = {}
    for event in events:
        if event.name.startswith(_PREFIX):
            continue
        if not on_gpu:
            add(_range_around(event), event.self_cpu_time_total)
            continue
        for kernel in event.kernels:
            attached[kernel.name] = attached.get(kernel.name, 0) + 1
            add(GROUP_OF_KERNEL.get(kernel.name, _range_around(event)), kernel.duration)
    for event in events if on_gpu else ():
        if "CUDA" not in str(event.device_type):
            continue
        if attached.get(event.name, 0):
            attached[event.name] -= 1
        else:
            add(GROUP_OF_KERNEL.get(event.name, _OTHER), event.self_device_time_total)
    return found


def _range_around(event: Any) -> str:
    while event is not None:
        if event.name.startswith(_PREFIX):
            return str(event.name[len(_PREFIX) :])
        event = event.cpu_parent
    return _OTHER


def _floors(
    config: RunConfig, session: NativeSession, *, context: int
) -> dict[str, dict[str, float]]:
    """Each op group's floor at the device's own rates; none where precision is emulated."""
    if session.identity.emulated:
        return {}
    own = session.loaded.config
    groups = forward_work(
        own,
        "decode" if own.canvas_length is None else "denoise",
        Precision(config.precision.name),
        context=context,
        batch_size=config.batch_size,
    )
    reached = probe(config.device)
    wide = reached.fp32_flops if config.precision.name == "fp32" else reached.bf16_flops
    assert wide is not None
    rates = Reached(reached.copy_bytes_per_s, wide, reached.fp8_flops)
    return {
        group.name: {"floor_ms": floor.floor_s * 1e3, "bytes": group.bytes, "flops": group.flops}
        for group, floor in zip(groups, group_floors(groups, rates), strict=True)
    }
