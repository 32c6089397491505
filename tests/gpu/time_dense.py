"""Checks and times the dense fp8 products at the model's sizes on one GPU.

`python3 -m tests.gpu.time_dense --out FILE.json --seconds 40`: every tile shape is checked against
fp32 products (a wrong one is recorded and not timed), then timed beside torch's scaled product, as
CUDA graphs that rotate over eight matrices, so that none is still in the second-level cache.
`--smoke` runs the same code tiny on the CPU under TRITON_INTERPRET=1.

Legend: T tokens, D depth, N out channels, F hidden.
"""

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from model.kernels import dense, experts, glue
from model.kernels.dense import DenseTiles
from model.kernels.experts import FP8, Tiles
from model.ops import reference
from tests.gpu.expert_data import quantised, relative_error
from tests.gpu.expert_report import Report, copy_speed, guarded, microseconds

SETS, CALLS, LIMIT = 8, 16, 2e-2
Product = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Shape:
    """A product of the model; `gated` ones end in gelu(gate) * up."""

    name: str
    channels: int
    depth: int
    gated: bool = False


class Operands(NamedTuple):
    values: Tensor
    scale: Tensor
    weight: Tensor
    weight_scale: Tensor


@dataclass(frozen=True)
class Variant:
    """A kernel of `model.kernels.dense`; `parts` leaves the sum of a split depth to the reader."""

    tiles: DenseTiles
    gated: bool = False
    parts: bool = False

    @property
    def label(self) -> str:
        t = self.tiles
        split = f" split{t.split}{' parts' if self.parts else ''}" if t.split > 1 else ""
        return f"{t.rows}x{t.out}x{t.inner} w{t.warps} s{t.stages}{split}"

    def __call__(self, *operands: Tensor) -> Tensor:
        product = dense.linear_fp8_parts if self.parts else dense.linear_fp8
        return product(*operands, self.tiles)


SHAPES = [
    Shape("output", 2816, 4096),
    Shape("qkv", 8192, 2816),
    Shape("down", 2816, 2112),
    Shape("gate_up", 4224, 2816),
    Shape("output full", 2816, 8192),
    Shape("qkv full", 9216, 2816),
]
_WIDE = [
    DenseTiles(128, 128, 128, 8, 4),
    DenseTiles(256, 64, 128, 4, 4),
    DenseTiles(128, 128, 128, 4, 4),
    DenseTiles(128, 128, 128, 8, 6),
    DenseTiles(128, 128, 128, 8, 3),
    DenseTiles(256, 64, 128, 8, 4),
    DenseTiles(128, 64, 128, 4, 4),
    DenseTiles(256, 128, 128, 8, 4),
]
_MIDDLE = [
    DenseTiles(128, 64, 128, 4, 4),
    DenseTiles(64, 128, 128, 4, 4),
    DenseTiles(64, 64, 128, 4, 5),
    DenseTiles(128, 64, 128, 4, 6),
    DenseTiles(128, 64, 256, 4, 3),
    DenseTiles(128, 128, 128, 8, 4),
    DenseTiles(128, 128, 128, 8, 4, 2),
]
_NARROW = [
    DenseTiles(128, 128, 128, 8, 4, 3),
    DenseTiles(64, 64, 128, 4, 5),
    DenseTiles(64, 128, 128, 4, 4, 3),
    DenseTiles(128, 64, 128, 4, 4, 3),
    DenseTiles(64, 64, 256, 4, 3),
    DenseTiles(64, 128, 128, 4, 6),
    DenseTiles(128, 64, 128, 4, 6),
    DenseTiles(128, 128, 128, 8, 4, 2),
    DenseTiles(64, 64, 128, 4, 4, 2),
]
_ONE = [
    DenseTiles(16, 64, 256, 4, 4),
    DenseTiles(16, 64, 256, 4, 4, 2),
    DenseTiles(16, 64, 256, 4, 4, 4),
    DenseTiles(16, 32, 256, 4, 4),
    DenseTiles(16, 16, 256, 4, 4),
    DenseTiles(16, 64, 128, 4, 8),
    DenseTiles(16, 64, 512, 4, 3),
]
_GATED = [
    DenseTiles(64, 64, 128, 4, 4),
    DenseTiles(64, 64, 128, 4, 6),
    DenseTiles(64, 64, 256, 4, 3),
    DenseTiles(64, 64, 128, 8, 4),
    DenseTiles(128, 64, 128, 8, 4),
    DenseTiles(128, 64, 128, 4, 4),
]
_GATED_ONE = [
    DenseTiles(16, 32, 256, 4, 4),
    DenseTiles(16, 64, 256, 4, 4),
    DenseTiles(16, 16, 256, 4, 4),
    DenseTiles(16, 64, 128, 4, 6),
]


def variants(shape: Shape, tokens: int) -> list[Variant]:
    """Best guesses first."""
    if shape.gated:
        return [Variant(tiles, gated=True) for tiles in (_GATED if tokens > 1 else _GATED_ONE)]
    if tokens == 1:
        many = _ONE
    else:
        many = _WIDE if shape.channels > 6000 else _MIDDLE if shape.channels > 4000 else _NARROW
    found = []
    for tiles in many:
        found.append(Variant(tiles))
        if tiles.split > 1:
            found.append(Variant(tiles, parts=True))
    return found


def torch_product(shape: Shape) -> Product:
    def product(values: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor) -> Tensor:
        out = torch._scaled_mm(
            values,
            weight.t(),
            scale[:, None],
            weight_scale[None],
            out_dtype=torch.bfloat16,
            use_fast_accum=True,
        )
        return glue.gated_gelu(out) if shape.gated else out

    return product


def routed_product(operands: Operands) -> Product:
    """The routed experts' kernel with one expert; its sort is constant and not timed."""
    tokens = operands.values.shape[0]
    expert = torch.zeros(tokens, 1, dtype=torch.int32, device=operands.values.device)
    tiles = Tiles(16, 64, 256, 4, 4) if tokens == 1 else Tiles(64, 64, 128, 4, 4)
    sorted_rows = experts.sort_rows(expert, 1, tiles.rows)

    def product(values: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor) -> Tensor:
        return experts.gate_up_rows(
            values, scale, weight[None], weight_scale[None], sorted_rows, 1, tiles
        )

    return product


def time_product(
    label: str, product: Product, sets: Sequence[Operands], want: Tensor, report: Report
) -> None:
    """Checks one product against fp32, then times it."""
    got = product(*sets[0])
    error = relative_error(got.sum(0) if got.ndim == 3 else got, want)
    report.add(label, error=error)
    if not error < LIMIT:
        raise ValueError(f"wrong: relative error {error:.2e}")
    took = microseconds(lambda i: product(*sets[i % len(sets)]), CALLS)
    values, weight = sets[0].values, sets[0].weight
    report.add(
        label,
        us=round(took, 2),
        gb_s=round((weight.numel() + values.numel() + 2 * want.numel()) / took * 1e-3),
        tflop_s=round(2 * values.shape[0] * weight.numel() / took * 1e-6, 1),
    )


def time_shape(
    shape: Shape,
    tokens: int,
    device: str,
    many: Sequence[Variant],
    compiling: dict[Any, Future[Any]],
    report: Report,
) -> None:
    x = quantised(torch.randn(tokens, shape.depth, device=device))
    sets = []
    for _ in range(SETS):
        matrix = torch.randn(shape.channels, shape.depth, device=device) / shape.depth**0.5
        sets.append(Operands(*x, *quantised(matrix)))
    first = sets[0]
    want = first.values.float() @ first.weight.float().t()
    want *= first.scale[:, None] * first.weight_scale
    if shape.gated:
        want = reference.gated_gelu(want.bfloat16())
    prefix = f"{shape.name} T={tokens}"
    todo: list[tuple[str, Product]] = [("torch", torch_product(shape))]
    if shape.gated:
        todo.append(("one routed expert", routed_product(first)))
    for label, product in todo:
        guarded(f"{prefix} {label}", report, time_product, f"{prefix} {label}", product, sets,
                want, report)  # fmt: skip
    for variant in many:
        label = f"{prefix} {variant.label}"
        if (variant, tokens) in compiling:
            with suppress(Exception):
                compiling[variant, tokens].exception(timeout=report.deadline - time.monotonic())
        guarded(label, report, time_product, label, variant, sets, want, report)


def compile_variant(variant: Variant, tokens: int) -> None:
    """Compiles for sm_90 whatever is here; sizes are arguments, so any shape will do."""
    from tests.kernels.compile_sm90 import compile_only

    torch.set_num_threads(1)
    with compile_only():
        variant(
            torch.empty(tokens, 2816, dtype=FP8),
            torch.empty(tokens),
            torch.empty(4224, 2816, dtype=FP8),
            torch.empty(4224),
        )


def measure(report: Report, smoke: bool) -> None:
    device = "cpu" if smoke else "cuda"
    plans = [(shape, tokens) for tokens in (256, 1) for shape in SHAPES]
    if smoke:
        tiny = Shape("tiny", 48, 64), Shape("tiny gelu", 64, 80, gated=True)
        plans = [(shape, tokens) for tokens in (20, 1) for shape in tiny]
    todo = [(plan, variants(*plan)[: 3 if smoke else None]) for plan in plans]
    workers = max(1, (os.cpu_count() or 2) - 2)
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    compiling: dict[Any, Future[Any]] = {}
    try:
        for (_, tokens), many in [] if smoke else todo:
            for variant in many:
                if not variant.parts and (variant, tokens) not in compiling:
                    compiling[variant, tokens] = pool.submit(compile_variant, variant, tokens)
        report.data["device"] = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        report.data["copy_gb_s"] = round(copy_speed(device), 1)
        for (shape, tokens), many in todo:
            name = f"{shape.name} T={tokens}"
            guarded(name, report, time_shape, shape, tokens, device, many, compiling, report)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def table(report: Report) -> None:
    """By product, fastest first."""
    print(f"copy {report.data.get('copy_gb_s', 0):.0f} GB/s on {report.data.get('device')}")
    rows: dict[str, dict[str, Any]] = report.data.get("rows", {})
    groups: dict[str, list[str]] = {}
    for label in rows:
        product, tokens = label.split(" T=")
        groups.setdefault(f"{product} T={tokens.split()[0]}", []).append(label)
    for labels in groups.values():
        for label in sorted(labels, key=lambda each: rows[each].get("us", float("inf"))):
            row = rows[label]
            if "us" in row:
                print(
                    f"{label:46} {row['us']:8.2f} us {row['gb_s']:6} GB/s "
                    f"{row['tflop_s']:7} TFLOP/s error {row['error']:.1e}"
                )
            else:
                print(f"{label:46} {row.get('failed', row)}"[:300])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--smoke", action="store_true")
    arguments = parser.parse_args()
    if arguments.smoke:
        from tests.kernels.interpreter import patch

        patch()
    report = Report(arguments.out, time.monotonic() + arguments.seconds)
    try:
        measure(report, arguments.smoke)
    finally:
        table(report)


if __name__ == "__main__":
    main()
