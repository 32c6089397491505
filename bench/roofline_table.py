"""`canvasbench roofline device=NAME`: floors of the released pair on a listed device."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bench.devices import Device, device
from bench.report.style import NOT_AVAILABLE
from bench.roofline import group_floors, op_floor_s, streaming_floor_s, tokens_per_s
from model import PRESETS, ModelConfig
from model.precision import Precision
from model.work import ForwardKind, OpGroup, forward_work

_DEFAULTS = {
    "device": "h200",
    "model": "diffusiongemma-26b-a4b",
    "context": "1024",
    "batch_size": "1",
}
_STEPS = (12, 16, 20, 48)


def print_roofline(overrides: Sequence[str]) -> None:
    """Prints what a step moves, its floor by op group, and tokens a second at the floor.

    Raises:
        ValueError: an unknown key, device or model, or a number that is none.
    """
    keys = dict(_DEFAULTS)
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in keys:
            raise ValueError(f"key {key!r} is unknown; valid: {', '.join(keys)}")
        keys[key] = value
    on, config = device(keys["device"]), _model(keys["model"])
    context, batch_size = (_count(key, keys[key]) for key in ("context", "batch_size"))
    sibling = PRESETS[config.sibling]
    console = Console()
    console.print(
        f"{on.label}: {on.bytes_per_s / 1e12:g} TB/s, bf16 {_rate(on.bf16_flops)}, "
        f"fp8 {_rate(on.fp8_flops)} "
        f"({on.source}); context {context}, batch {batch_size}"
    )
    if on.bf16_flops is None:
        console.print("no product rate is stated: floors are those of memory alone")
    for precision in (Precision.FP8, Precision.BF16):
        passes: tuple[tuple[ModelConfig, ForwardKind], ...] = (
            (config, "denoise"),
            (config, "commit"),
            (sibling, "decode"),
        )
        found = {
            kind: forward_work(own, kind, precision, context=context, batch_size=batch_size)
            for own, kind in passes
        }
        console.print(_groups(found["denoise"], on, f"one denoise step, {precision.value}"))
        console.print(_totals(found, on))
        console.print(_speeds(config, found, on, batch_size))


def _groups(groups: Sequence[OpGroup], on: Device, title: str) -> Table:
    table = Table(title=title, title_justify="left", show_edge=False)
    for name in (
        "op group",
        "weights MB",
        "other MB",
        "GFLOP",
        "memory us",
        "arithmetic us",
        "floor us",
    ):
        table.add_column(name, justify="left" if name == "op group" else "right")
    for group, floor in zip(groups, group_floors(groups, on), strict=True):
        table.add_row(
            group.name,
            f"{group.weight_bytes / 1e6:,.1f}",
            f"{group.activation_bytes / 1e6:,.1f}",
            f"{group.flops / 1e9:,.1f}",
            f"{floor.memory_s * 1e6:,.0f}",
            NOT_AVAILABLE if floor.arithmetic_s is None else f"{floor.arithmetic_s * 1e6:,.0f}",
            f"{floor.floor_s * 1e6:,.0f}",
        )
    return table


def _totals(found: dict[ForwardKind, list[OpGroup]], on: Device) -> str:
    return "; ".join(
        f"{kind}: op floor {op_floor_s(groups, on) * 1e3:.2f} ms, "
        f"streaming floor {streaming_floor_s(groups, on) * 1e3:.2f} ms"
        for kind, groups in found.items()
    )


def _speeds(
    config: ModelConfig, found: dict[ForwardKind, list[OpGroup]], on: Device, batch_size: int
) -> str:
    assert config.canvas_length is not None
    rates = {
        steps: batch_size
        * tokens_per_s(config.canvas_length, steps, found["denoise"], found["commit"], on)
        for steps in _STEPS
    }
    diffusion = ", ".join(f"{steps}+1 {rate:,.0f}" for steps, rate in rates.items())
    autoregressive = batch_size / op_floor_s(found["decode"], on)
    return f"tok/s at the op floor (projected): {diffusion}; autoregressive {autoregressive:,.0f}\n"


def _rate(flops: float | None) -> str:
    return NOT_AVAILABLE if flops is None else f"{flops / 1e12:g} TFLOP/s"


def _model(name: str) -> ModelConfig:
    config = PRESETS.get(name)
    if config is None or config.canvas_length is None:
        valid = [p.name for p in PRESETS.values() if p.canvas_length is not None]
        raise ValueError(f"model {name!r} is no diffusion preset; valid: {', '.join(valid)}")
    return config


def _count(key: str, text: str) -> int:
    if not text.isdigit() or (key == "batch_size" and int(text) < 1):
        raise ValueError(f"{key} is {text!r}; it must be a whole number")
    return int(text)
