"""`canvasbench roofline device=NAME`: floors of the released pair on a listed device."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeAlias

from rich import box
from rich.table import Table
from rich.text import Text

from bench.devices import Device, device
from bench.digits import NOT_AVAILABLE
from bench.roofline import group_floors, op_floor_s, streaming_floor_s, tokens_per_s
from bench.screen import screen
from model import PRESETS, ModelConfig
from model.precision import Precision
from model.vocabulary import Vocabulary
from model.work import ForwardKind, OpGroup, forward_work

_DEFAULTS = {
    "device": "h200",
    "model": "diffusiongemma-26b-a4b",
    "context": "1024",
    "batch_size": "1",
    "vocabulary": "exact",
}
_STEPS = (12, 16, 20, 48)
_OF_DEVICE = ("label", "bytes_per_s", "bf16_flops", "fp8_flops", "source")
_PRECISIONS = (Precision.FP8, Precision.BF16)
_COMMITS: dict[ForwardKind, str] = {"commit": "separate", "fused": "fused"}
"""Forwards that write a canvas to the cache, by the setting of `commit` that runs them."""

Forwards: TypeAlias = dict[ForwardKind, list[OpGroup]]


def print_roofline(overrides: Sequence[str], *, as_json: bool = False) -> None:
    """Prints what a step moves, its floor by op group, and tokens a second at the floor.

    Args:
        as_json: prints one object instead, of both precisions and every forward, not rounded.

    Raises:
        ValueError: an unknown key, device, model or vocabulary, a number that is none, or a
            context that the model's positions do not hold.
    """
    keys = dict(_DEFAULTS)
    for override in overrides:
        key, _, value = override.partition("=")
        if key not in keys:
            raise ValueError(f"key {key!r} is unknown; valid: {', '.join(keys)}")
        keys[key] = value
    on, config = device(keys["device"]), _model(keys["model"])
    context, batch_size = (_count(key, keys[key]) for key in ("context", "batch_size"))
    sibling, vocabulary = PRESETS[config.sibling], _vocabulary(keys["vocabulary"])
    _check_context(config, context)

    def forwards(precision: Precision) -> Forwards:
        passes: tuple[tuple[ModelConfig, ForwardKind], ...] = (
            (config, "denoise"),
            (config, "commit"),
            (config, "fused"),
            (sibling, "decode"),
        )
        return {
            kind: forward_work(
                own,
                kind,
                precision,
                context=context,
                batch_size=batch_size,
                vocabulary=vocabulary,
            )
            for own, kind in passes
        }

    by_precision = {precision: forwards(precision) for precision in _PRECISIONS}
    if as_json:
        told = {
            "class": "projected",
            "device": {name: getattr(on, name) for name in _OF_DEVICE},
            "model": config.name,
            "context": context,
            "batch_size": batch_size,
            "vocabulary": str(vocabulary),
            "precisions": {
                precision.value: _plain(config, found, on, batch_size)
                for precision, found in by_precision.items()
            },
        }
        print(json.dumps(told, indent=1))
        return
    console = screen()
    console.print(
        Text(
            f"{on.label}: {on.bytes_per_s / 1e12:g} TB/s, bf16 {_rate(on.bf16_flops)}, "
            f"fp8 {_rate(on.fp8_flops)} ({on.source})\n"
            f"context {context:,}, batch {batch_size:,}, vocabulary {vocabulary}"
        )
    )
    if on.bf16_flops is None:
        console.print("no product rate is stated: floors are those of memory alone")
    for precision, found in by_precision.items():
        console.print()
        console.print(_groups(found["denoise"], on, f"one denoise step, {precision.value}"))
        console.print(Text(_totals(found, on)))
        console.print(Text(_speeds(config, found, on, batch_size)))


def _groups(groups: Sequence[OpGroup], on: Device, title: str) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("op group", no_wrap=True)
    for name in ("weights\nMB", "other\nMB", "GFLOP", "memory\nus", "arithmetic\nus", "floor\nus"):
        table.add_column(name, justify="right", no_wrap=True)
    for group, floor in zip(groups, group_floors(groups, on), strict=True):
        table.add_row(
            group.name.replace("_", " "),
            f"{group.weight_bytes / 1e6:,.1f}",
            f"{group.activation_bytes / 1e6:,.1f}",
            f"{group.flops / 1e9:,.1f}",
            f"{floor.memory_s * 1e6:,.0f}",
            NOT_AVAILABLE if floor.arithmetic_s is None else f"{floor.arithmetic_s * 1e6:,.0f}",
            f"{floor.floor_s * 1e6:,.0f}",
        )
    return table


def _plain(config: ModelConfig, found: Forwards, on: Device, batch_size: int) -> dict[str, Any]:
    """Of one precision: floors of every forward, by op group, and tokens a second at them."""
    return {
        "forwards": {
            kind: {
                "op_floor_s": op_floor_s(groups, on),
                "streaming_floor_s": streaming_floor_s(groups, on),
                "op_groups": [
                    {
                        **asdict(group),
                        "memory_s": floor.memory_s,
                        "arithmetic_s": floor.arithmetic_s,
                        "floor_s": floor.floor_s,
                    }
                    for group, floor in zip(groups, group_floors(groups, on), strict=True)
                ],
            }
            for kind, groups in found.items()
        },
        "tok_per_s_by_steps": {
            f"commit={name}": _rates(config, found, own, on, batch_size)
            for own, name in _COMMITS.items()
        },
        "autoregressive_tok_per_s": batch_size / op_floor_s(found["decode"], on),
    }


def _rates(
    config: ModelConfig, found: Forwards, own: ForwardKind, on: Device, batch_size: int
) -> dict[int, float]:
    """Tokens a second by steps, the canvas committed by its `own` forward.

    A fused one is a step of the next canvas, too: one plain step fewer.
    """
    assert config.canvas_length is not None
    length, plain = config.canvas_length, 1 if own == "fused" else 0
    return {
        steps: batch_size * tokens_per_s(length, steps - plain, found["denoise"], found[own], on)
        for steps in _STEPS
    }


def _totals(found: Forwards, on: Device) -> str:
    said = ", ".join(
        f"{kind} {op_floor_s(groups, on) * 1e3:.2f} / {streaming_floor_s(groups, on) * 1e3:.2f}"
        for kind, groups in found.items()
    )
    return f"op floor / streaming floor, ms a forward:\n  {said}"


def _speeds(config: ModelConfig, found: Forwards, on: Device, batch_size: int) -> str:
    """A line a way of committing, each rate behind its forwards a canvas."""
    separate, fused = (_rates(config, found, own, on, batch_size) for own in _COMMITS)
    lines = (
        "tok/s at the op floor (projected), by steps a canvas:",
        f"  and a commit: {', '.join(f'{s}+1: {rate:,.0f}' for s, rate in separate.items())}",
        f"  commits fused: {', '.join(f'{s}: {rate:,.0f}' for s, rate in fused.items())}",
        f"  autoregressive: {batch_size / op_floor_s(found['decode'], on):,.0f}",
    )
    return "\n".join(lines)


def _rate(flops: float | None) -> str:
    return NOT_AVAILABLE if flops is None else f"{flops / 1e12:g} TFLOP/s"


def _model(name: str) -> ModelConfig:
    config = PRESETS.get(name)
    if config is None or config.canvas_length is None:
        valid = [p.name for p in PRESETS.values() if p.canvas_length is not None]
        raise ValueError(f"model {name!r} is no diffusion preset; valid: {', '.join(valid)}")
    return config


def _check_context(config: ModelConfig, context: int) -> None:
    """Refuses a context after which no canvas fits into the model's positions."""
    assert config.canvas_length is not None
    most = config.max_positions - config.canvas_length
    if context > most:
        raise ValueError(
            f"context is {context}; {config.name} has {config.max_positions} positions, which "
            f"leaves room for 0 to {most} before a canvas of {config.canvas_length}"
        )


def _vocabulary(name: str) -> Vocabulary:
    if name not in list(Vocabulary):
        raise ValueError(f"vocabulary {name!r} is unknown; valid: {', '.join(Vocabulary)}")
    return Vocabulary(name)


def _count(key: str, text: str) -> int:
    if not text.isdigit() or (key == "batch_size" and int(text) < 1):
        raise ValueError(f"{key} is {text!r}; it must be a whole number")
    return int(text)
