"""Checks and times the routed-expert kernels at the model's sizes on one GPU.

`python3 -m tests.gpu.time_experts --out FILE.json --seconds 60`: correctness of every variant first
(a wrong one is recorded and not timed), then microseconds from CUDA graphs that rotate over three
layers' weights. `--smoke` runs the same code tiny on the CPU under TRITON_INTERPRET=1.

Legend: T tokens, D model, E experts, K experts a token, F expert hidden, N = T * K assignments.
"""

import argparse
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.kernels import experts, routing
from model.kernels.experts import FP8
from model.ops import reference
from tests.gpu.expert_data import (
    Case,
    Layer,
    Sizes,
    random_case,
    random_layer,
    relative_error,
    take,
    touched_bytes,
)
from tests.gpu.expert_report import Call, Report, copy_speed, guarded, microseconds, table
from tests.gpu.expert_variants import (
    Variant,
    compiling_early,
    run_variant,
    variants,
    whole_label,
    whole_tiles,
)

LAYERS = 3
LIMIT = {FP8: 2e-2, torch.bfloat16: 8e-3}


def time_variant(variant: Variant, layers: Sequence[Layer], case: Case, report: Report) -> None:
    """Checks one product kernel against fp32 products, then times it."""
    up = variant.kernel == "up"
    x, row_scale = (case.x, case.row_scale) if up else (case.hidden, case.hidden_scale)
    want = case.want_hidden if up else case.want_rows
    if variant.tiles.quantise:
        x = case.want_hidden
        row_scale = x.float().abs().unflatten(1, (-1, 64)).amax(-1)
    matrices = [
        (layer.gate_up, layer.gate_up_scale) if up else (layer.down, layer.down_scale)
        for layer in layers
    ]
    count = matrices[0][0].shape[0]
    sorted_rows = [experts.sort_rows(choice, count, variant.tiles.rows) for choice in case.expert]

    def call(index: int) -> Tensor:
        choice = index % len(case.expert)
        return run_variant(
            variant,
            x,
            row_scale,
            *matrices[index % len(matrices)],
            case.expert[choice],
            case.weight,
            sorted_rows[choice],
        )

    error = relative_error(call(0), want)
    report.add(variant.label, error=error)
    if not error < LIMIT[variant.dtype]:
        raise ValueError(f"wrong: relative error {error:.2e}")
    record_time(variant.label, call, touched_bytes(case, matrices[0][0]), report)


def record_time(label: str, call: Call, size: float, report: Report) -> None:
    took = microseconds(call)
    speed = size / took * 1e-3
    share = speed / report.data["copy_gb_s"] if report.data.get("copy_gb_s") else None
    report.add(label, us=round(took, 2), gb_s=round(speed), share=share and round(share, 3))


def time_whole(layers: Sequence[Layer], case: Case, report: Report, suffix: str = "") -> None:
    """sort, gate_up, (quantise,) down and combine with the default tiles."""
    dtype, tokens = case.x.dtype, case.x.shape[0]

    def call(index: int, quantise: bool) -> Tensor:
        tiles = whole_tiles(dtype, tokens, quantise)
        layer = layers[index % len(layers)]
        expert = case.expert[index % len(case.expert)]
        is_fp8 = dtype == FP8
        scales = (layer.gate_up_scale, layer.down_scale) if is_fp8 else ()
        weights = experts.ExpertWeights(layer.gate_up, layer.down, *scales)
        row_scale = case.row_scale if is_fp8 else None
        return experts.mixed_experts(case.x, row_scale, expert, case.weight, weights, *tiles)

    size = touched_bytes(case, layers[0].gate_up) + touched_bytes(case, layers[0].down)
    for quantise in (False, True) if dtype == FP8 else (False,):
        label = whole_label(dtype, tokens, quantise) + suffix
        error = relative_error(call(0, quantise), case.want)
        report.add(label, error=error)
        if not error < 2 * LIMIT[dtype]:
            raise ValueError(f"wrong: relative error {error:.2e}")
        record_time(label, lambda i, q=quantise: call(i, q), size, report)


def time_small(case: Case, sizes: Sizes, report: Report) -> None:
    """route, sort, quantise and combine alone."""
    tokens, device = case.x.shape[0], case.x.device
    scores = torch.randn(tokens, sizes.experts, device=device).bfloat16()
    scale = torch.rand(sizes.experts, device=device).bfloat16()
    got_expert, got_weight = routing.route(scores, scale, sizes.top_k)
    want_expert, want_weight = reference.route(scores, scale, sizes.top_k)
    order = scores.float().gather(1, got_expert.long()) == scores.float().gather(1, want_expert)
    error = relative_error(got_weight / scale[got_expert], want_weight / scale[want_expert])
    report.add(f"route T={tokens}", same_scores=bool(order.all()), error=error)
    calls: dict[str, Call] = {
        "route": lambda i: routing.route(scores, scale, sizes.top_k),
        "sort16": lambda i: routing.sort_rows(case.expert[i % 6], sizes.experts, 16),
        "sort32": lambda i: routing.sort_rows(case.expert[i % 6], sizes.experts, 32),
        "quantise": lambda i: experts.quantise_rows(case.want_hidden),
        "combine": lambda i: experts.combine(case.want_rows, case.weight),
    }
    for name, call in calls.items():
        report.add(f"{name} T={tokens}", us=round(microseconds(call, 24), 2))


def time_torch(layers: Sequence[Layer], case: Case, dtype: torch.dtype, report: Report) -> None:
    """torch's grouped products over rows that are sorted beforehand."""
    flat = case.expert[0].flatten().long()
    order = flat.argsort(stable=True)
    ends = torch.bincount(flat, minlength=layers[0].down.shape[0]).cumsum(0).int()
    for kernel in ("up", "down"):
        up = kernel == "up"
        rows = take(case.x, order // case.weight.shape[1]) if up else take(case.hidden, order)
        scale = case.row_scale[order // case.weight.shape[1]] if up else case.hidden_scale[order]
        pairs = [
            (layer.gate_up, layer.gate_up_scale) if up else (layer.down, layer.down_scale)
            for layer in layers
        ]

        def call(index: int, rows: Any = rows, scale: Any = scale, pairs: Any = pairs) -> Tensor:
            matrix, channel = pairs[index % len(pairs)]
            if dtype == FP8:
                return torch._scaled_grouped_mm(
                    rows,
                    matrix.transpose(-2, -1),
                    scale,
                    channel,
                    offs=ends,
                    out_dtype=torch.bfloat16,
                    use_fast_accum=True,
                )
            return torch._grouped_mm(rows, matrix.transpose(-2, -1), offs=ends)

        label = f"{'fp8' if dtype == FP8 else 'bf16'} {kernel} T={case.x.shape[0]} torch grouped"
        guarded(label, report, record_time, label, call, touched_bytes(case, pairs[0][0]), report)


def await_compiled(label: str, compiling: dict[str, Future[Any]], report: Report) -> None:
    """An error of the other process shows again where the kernel is used."""
    left = report.deadline - time.monotonic()
    if label in compiling and left > 0:
        with suppress(Exception):
            compiling[label].exception(timeout=left)


def time_case(
    layers: Sequence[Layer],
    case: Case,
    todo: Sequence[Variant],
    compiling: dict[str, Future[Any]],
    sizes: Sizes,
    report: Report,
) -> None:
    tokens, dtype = case.x.shape[0], case.x.dtype
    for quantise in (False, True):
        await_compiled(whole_label(dtype, tokens, quantise), compiling, report)
    guarded(f"{dtype} whole T={tokens}", report, time_whole, layers, case, report)
    if dtype == FP8:
        guarded(f"small T={tokens}", report, time_small, case, sizes, report)
    if tokens > 1:
        time_torch(layers, case, dtype, report)
    for variant in todo:
        await_compiled(variant.label, compiling, report)
        guarded(variant.label, report, time_variant, variant, layers, case, report)


def measure(report: Report, smoke: bool) -> None:
    device = "cpu" if smoke else "cuda"
    sizes = Sizes(8, 2, 128, 64) if smoke else Sizes()
    wide, fused = (20, 40) if smoke else (256, 512)
    plans = [(dtype, tokens) for dtype in (FP8, torch.bfloat16) for tokens in (wide, 1)]
    todo = {plan: variants(*plan)[: 2 if smoke else None] for plan in plans}
    wholes = [] if smoke else [*plans[:2], (FP8, fused), *plans[2:], (torch.bfloat16, fused)]
    with compiling_early(wholes, list(chain(*todo.values())), sizes) as compiling:
        report.data["device"] = torch.cuda.get_device_name() if device == "cuda" else "cpu"
        report.data["copy_gb_s"] = round(copy_speed(device), 1)
        for dtype in (FP8, torch.bfloat16):
            layers = [random_layer(sizes, dtype, device) for _ in range(LAYERS)]
            for tokens in (wide, 1):
                case = random_case(layers[0], sizes, tokens, dtype, device)
                time_case(layers, case, todo[dtype, tokens], compiling, sizes, report)
            for tokens, zipf in ((fused, 0), (wide, 1)):
                if not report.expired():
                    case = random_case(layers[0], sizes, tokens, dtype, device, zipf)
                    await_compiled(whole_label(dtype, tokens), compiling, report)
                    suffix = f" zipf {zipf}" if zipf else ""
                    label = f"{dtype} whole T={tokens}{suffix}"
                    guarded(label, report, time_whole, layers, case, report, suffix)
            del layers, case


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
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
