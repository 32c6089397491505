"""Where a step's time goes, by the op groups of `model.work`, beside each one's floor.

Steps run eagerly under torch's profiler, so the table says how time divides and never how long a
step takes: that is what timed requests are for. On a GPU the times are those of its kernels; on a
processor those of torch's operations, what Python does between them left out. `canvasbench profile`
shows the same of one point in full.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

import model as engine
from bench.backends import Forward
from bench.backends.native import NativeSession
from bench.build import build_sessions, build_workload
from bench.checks import Finding
from bench.profile.floors import phase_floors
from bench.profile.labels import labelled
from bench.profile.names import GROUP_RANGE, OTHER, group_of
from bench.schema import RunConfig
from model.kernels import OP_GROUPS as GROUP_OF_KERNEL
from model.transformer import Unwrapped
from model.work import ForwardKind

_STEPS = 4


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
    kind: ForwardKind = "decode" if session.identity.canvas_length is None else "denoise"
    floors = phase_floors(config, session, kind, context=len(ids[0]))
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
        if event.name.startswith(GROUP_RANGE):
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
            add(GROUP_OF_KERNEL.get(event.name, OTHER), event.self_device_time_total)
    return found


def _range_around(event: Any) -> str:
    around = event
    while around is not None and not around.name.startswith(GROUP_RANGE):
        around = around.cpu_parent
    within = None if around is None else around.name.removeprefix(GROUP_RANGE)
    return group_of(within, event.name)
