"""Which tiles the expert kernels are timed with, best guesses first, and their early compilation.

Legend: T tokens, D model, E experts, K experts a token, F expert hidden.
"""

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from model.kernels import experts, routing
from model.kernels.experts import FP8, Tiles
from tests.gpu.expert_data import Sizes


@dataclass(frozen=True)
class Variant:
    """One product kernel at one number of tokens."""

    kernel: str  # up or down
    dtype: torch.dtype
    tokens: int
    tiles: Tiles

    @property
    def label(self) -> str:
        t = self.tiles
        name = "fp8" if self.dtype == FP8 else "bf16"
        way = "tma" if t.tma else "ptr"
        promote = f" promote{t.promote}" if t.promote else ""
        quantise = " quantise" if t.quantise else ""
        shape = f"{t.rows}x{t.out}x{t.inner} w{t.warps} s{t.stages} {way}{promote}{quantise}"
        return f"{name} {self.kernel:4} T={self.tokens:<3} {shape}"


_UP_FP8 = [
    Tiles(32, 64, 128, 4, 3),
    Tiles(16, 64, 256, 4, 3),
    Tiles(32, 64, 128, 4, 3, tma=False),
    Tiles(16, 64, 128, 4, 5),
    Tiles(32, 64, 128, 4, 5),
    Tiles(32, 64, 256, 4, 2),
    Tiles(32, 64, 128, 4, 5, promote=128),
]
_DOWN_FP8 = [
    Tiles(32, 64, 128, 4, 5),
    Tiles(32, 64, 128, 4, 5, quantise=True),
    Tiles(32, 128, 128, 4, 4, quantise=True),
    Tiles(32, 64, 256, 4, 3),
    Tiles(32, 128, 128, 4, 4),
    Tiles(16, 128, 128, 4, 4),
    Tiles(32, 64, 256, 4, 3, quantise=True),
    Tiles(32, 128, 128, 4, 4, promote=128),
]
_UP_BF16 = [
    Tiles(32, 64, 128, 4, 3),
    Tiles(16, 64, 128, 4, 3),
    Tiles(32, 64, 128, 4, 3, tma=False),
    Tiles(32, 64, 64, 4, 5),
    Tiles(32, 64, 64, 4, 3),
]
_DOWN_BF16 = [
    Tiles(32, 64, 64, 4, 6),
    Tiles(32, 128, 64, 4, 5),
    Tiles(16, 128, 64, 4, 5),
    Tiles(32, 128, 64, 4, 4, tma=False),
]
_ONE_TOKEN: dict[tuple[str, torch.dtype], list[Tiles]] = {
    ("up", FP8): [Tiles(16, 64, 256, 4, 4), Tiles(16, 64, 128, 4, 5), Tiles(16, 64, 256, 4, 3)],
    ("down", FP8): [
        Tiles(16, 128, 128, 4, 4),
        Tiles(16, 128, 128, 4, 4, quantise=True),
        Tiles(16, 64, 128, 4, 6),
        Tiles(16, 64, 256, 4, 3),
    ],
    ("up", torch.bfloat16): [Tiles(16, 64, 128, 4, 5), Tiles(16, 64, 64, 4, 6)],
    ("down", torch.bfloat16): [Tiles(16, 128, 64, 4, 5), Tiles(16, 64, 64, 4, 8)],
}


def variants(dtype: torch.dtype, tokens: int) -> list[Variant]:
    """gate_up and down variants in turn, best guesses first."""
    if tokens == 1:
        lists = {kernel: _ONE_TOKEN[kernel, dtype] for kernel in ("up", "down")}
    elif dtype == FP8:
        lists = {"up": _UP_FP8, "down": _DOWN_FP8}
    else:
        lists = {"up": _UP_BF16, "down": _DOWN_BF16}
    found = [
        (place, Variant(kernel, dtype, tokens, tiles))
        for kernel, many in lists.items()
        for place, tiles in enumerate(many)
    ]
    return [variant for _, variant in sorted(found, key=lambda pair: pair[0])]


def whole_label(dtype: torch.dtype, tokens: int, quantise: bool = False) -> str:
    name = "fp8" if dtype == FP8 else "bf16"
    return f"{name} whole T={tokens} defaults{' quantise in down' if quantise else ''}"


def whole_tiles(dtype: torch.dtype, tokens: int, quantise: bool) -> tuple[Tiles, Tiles]:
    up, down = experts.default_tiles(dtype, tokens)
    return up, replace(down, quantise=quantise)


@contextmanager
def compiling_early(
    wholes: list[tuple[torch.dtype, int]], many: list[Variant], sizes: Sizes
) -> Iterator[dict[str, Future[Any]]]:
    """Meanwhile other processes fill triton's disk cache, without touching the GPU."""
    if not wholes:
        yield {}
        return
    workers = max(1, (os.cpu_count() or 2) - 2)
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    try:
        started = {
            whole_label(*whole, quantise): pool.submit(compile_whole, *whole, quantise, sizes)
            for whole in wholes
            for quantise in ((False, True) if whole[0] == FP8 else (False,))
        }
        for variant in many:
            started[variant.label] = pool.submit(compile_variant, variant, sizes)
        yield started
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def compile_variant(variant: Variant, sizes: Sizes) -> float:
    """Compiles for sm_90 whatever is here; returns the seconds it took."""
    from tests.kernels.compile_sm90 import compile_only

    torch.set_num_threads(1)
    start = time.perf_counter()
    with compile_only():
        run_variant(variant, *empty_inputs(variant, sizes))
    return time.perf_counter() - start


def compile_whole(dtype: torch.dtype, tokens: int, quantise: bool, sizes: Sizes) -> None:
    """Everything that `time_whole` and `time_small` launch."""
    from tests.kernels.compile_sm90 import compile_only

    torch.set_num_threads(1)
    tiles = whole_tiles(dtype, tokens, quantise)
    up, down = (Variant(*each) for each in (("up", dtype, tokens, tiles[0]),
                                            ("down", dtype, tokens, tiles[1])))  # fmt: skip
    x, row_scale, gate_up, up_scale, expert, weight = empty_inputs(up, sizes)
    _, _, matrix, scale, _, _ = empty_inputs(down, sizes)
    with compile_only():
        scores = torch.empty(tokens, sizes.experts, dtype=torch.bfloat16)
        routing.route(scores, scores[0], sizes.top_k)
        scales = (up_scale, scale) if dtype == FP8 else ()
        weights = experts.ExpertWeights(gate_up, matrix, *scales)
        rows = row_scale if dtype == FP8 else None
        experts.mixed_experts(x, rows, expert, weight, weights, *tiles)


def empty_inputs(variant: Variant, sizes: Sizes) -> tuple[torch.Tensor, ...]:
    """x, its row scale, matrix, its scale, assignments, their weights on the CPU, all unset."""
    up = variant.kernel == "up"
    rows, depth = (2 * sizes.hidden, sizes.width) if up else (sizes.width, sizes.hidden)
    count = variant.tokens if up else variant.tokens * sizes.top_k
    quantise = variant.tiles.quantise
    return (
        torch.empty(count, depth, dtype=torch.bfloat16 if quantise else variant.dtype),
        torch.empty(count, -(-depth // 64)) if quantise else torch.empty(count),
        torch.empty(sizes.experts, rows, depth, dtype=variant.dtype),
        torch.empty(sizes.experts, rows),
        torch.empty(variant.tokens, sizes.top_k, dtype=torch.int32),
        torch.empty(variant.tokens, sizes.top_k),
    )


def run_variant(
    variant: Variant,
    x: torch.Tensor,
    row_scale: torch.Tensor,
    matrix: torch.Tensor,
    scale: torch.Tensor,
    expert_TK: torch.Tensor,
    weight_TK: torch.Tensor,
    sorted_rows: experts.SortedRows | None = None,
) -> torch.Tensor:
    """The product alone where sorted rows are given."""
    up, fp8, tiles = variant.kernel == "up", variant.dtype == FP8, variant.tiles
    scales = (row_scale, scale) if fp8 else (None, None)
    if sorted_rows is None:
        sorted_rows = experts.sort_rows(expert_TK, matrix.shape[0], tiles.rows)
    if up:
        top_k = expert_TK.shape[1]
        return experts.gate_up_rows(x, scales[0], matrix, scales[1], sorted_rows, top_k, tiles)
    return experts.down_rows(x, scales[0], matrix, scales[1], sorted_rows, tiles)
