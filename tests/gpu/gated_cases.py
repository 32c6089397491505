"""Hidden rows made by the launch of their product beside the separate ones: for `time_glue`.

Answers of e4m3 products may differ in a few roundings where sums have another order, bf16 ones from
cuBLAS likewise; quantised by the experts' own product they must not differ at all.

Legend: T rows, D model, F hidden.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from bench.tune.candidates import expert_tiles, gated_tiles
from model.kernels import dense, experts, gated, glue, routing
from model.kernels.glue import Quantised
from model.kernels.tiles import FP8, GatedTiles, Tiles
from model.precision import quantise_rows
from tests.gpu.glue_cases import BF16, SETS, TOP_K, Case, Setting

_EXPERTS = 128
_SMALL = GatedTiles(16, 64, 64), Tiles(16, 32, 32, tma=False)  # for sizes that no tile is made for


def gated_cases(s: Setting) -> Iterator[Case]:
    real = s.device.type == "cuda"
    for dtype in (BF16, FP8):
        inputs = _Dense(s, dtype)
        for tiles in gated_tiles(dtype, s.rows) if real else _SMALL[:1]:
            if tiles is not None:
                yield inputs.case(tiles)
    rows = _Experts(s)
    for up in expert_tiles("gate_up", FP8, s.rows) if real else _SMALL[1:]:
        if not up.persistent:
            yield rows.case(up)


def _differing(found: tuple[Tensor, ...], wanted: tuple[Tensor, ...]) -> dict[str, float]:
    """Shares of hidden values, and of their scales if any, that differ at all."""
    pairs = zip(("values", "scales")[: len(found)], found, wanted, strict=True)
    return {name: (a.float() != b.float()).float().mean().item() for name, a, b in pairs}


def _checked(
    one: Callable[[int], tuple[Tensor, ...]],
    two: Callable[[int], tuple[Tensor, ...]],
    arrived: Tensor,
) -> dict[str, float]:
    """The largest shares of two rounds over all sets."""
    shares = [_differing(one(index), two(index)) for index in (*range(SETS), *range(SETS))]
    found = {f"{name}.differing": max(each[name] for each in shares) for name in shares[0]}
    return {**found, "counters_left": arrived.count_nonzero().item()}


def _quantised(x: Tensor) -> Quantised:
    values, scale = quantise_rows(x)
    return values, scale.flatten()


class _Dense:
    """Rows and gate and up matrices [2F, D], with their scales in fp8."""

    def __init__(self, s: Setting, dtype: torch.dtype) -> None:
        hidden = triton.cdiv(s.dense, 16) * 16
        x = torch.randn(SETS, s.rows, s.size, device=s.device).to(BF16)
        weights = torch.randn(SETS, 2 * hidden, s.size, device=s.device).to(BF16) / s.size**0.5
        self._is_fp8 = dtype == FP8
        pairs = zip(x, weights, strict=True)
        self._operands: list[tuple[Tensor, ...]] = [
            (*_quantised(rows), *_quantised(weight)) if self._is_fp8 else (rows, weight)
            for rows, weight in pairs
        ]
        self._arrived = torch.zeros(s.rows, dtype=torch.int32, device=s.device)
        values = (2 * hidden + s.rows) * s.size + s.rows * hidden
        self._megabytes = values * dtype.itemsize / 1e6

    def case(self, tiles: GatedTiles) -> Case:
        def one(index: int) -> tuple[Tensor, ...]:
            operands = self._operands[index]
            if self._is_fp8:
                return gated.gated_product_fp8(*operands, tiles, self._arrived)
            return (gated.gated_product(*operands, tiles),)

        def two(index: int) -> tuple[Tensor, ...]:
            operands = self._operands[index]
            if self._is_fp8:
                return glue.gated_gelu_quantised(dense.linear_fp8(*operands))
            return (glue.gated_gelu(F.linear(*operands)),)

        name = f"gated {'fp8' if self._is_fp8 else 'bf16'} {tiles.rows} {tiles.inner}"
        name = f"{name} w{tiles.warps} s{tiles.stages}"
        return Case(name, one, two, lambda: _checked(one, two, self._arrived), self._megabytes)


class _Experts:
    """Routed rows and all experts' gate and up matrices, [E, 2F, D]."""

    def __init__(self, s: Setting) -> None:
        hidden = s.routed
        x = torch.randn(SETS, s.rows, s.size, device=s.device).to(BF16)
        self._rows = [_quantised(each) for each in x]
        self._gate_up = torch.empty(_EXPERTS, 2 * hidden, s.size, dtype=FP8, device=s.device)
        self._scale = torch.empty(_EXPERTS, 2 * hidden, device=s.device)
        for expert in range(_EXPERTS):
            one = torch.randn(2 * hidden, s.size, device=s.device) / s.size**0.5
            self._gate_up[expert], self._scale[expert] = _quantised(one)
        scores = torch.rand(s.rows, _EXPERTS, device=s.device)
        self._expert_TK = scores.topk(TOP_K).indices.int()
        self._arrived = torch.zeros(s.rows * TOP_K, dtype=torch.int32, device=s.device)
        touched = self._expert_TK.unique().numel()
        self._megabytes = 2 * hidden * s.size * touched / 1e6

    def case(self, up: Tiles) -> Case:
        sorted_rows = routing.sort_rows(self._expert_TK, _EXPERTS, up.rows)
        rest = self._gate_up, self._scale, sorted_rows, TOP_K, replace(up, quantise=True)

        def one(index: int) -> Quantised:
            return experts.gate_up_rows_quantised(*self._rows[index], *rest, self._arrived)

        def two(index: int) -> Quantised:
            return glue.quantise_rows(experts.gate_up_rows(*self._rows[index], *rest))

        name = f"gate_up quantised {up.rows} {up.inner}{' by_tile' if up.by_tile else ''}"
        name = f"{name} s{up.stages}"
        return Case(name, one, two, lambda: _checked(one, two, self._arrived), self._megabytes, 6)
