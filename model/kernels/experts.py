"""Routed experts at decode sizes: a few rows for each of many experts, so weights are the traffic.

Weights are the left operand of every product (64 or more rows of them fill the tensor core's rows,
which the handful of tokens would not) and arrive through the bulk copy engine where asked.

Legend: T tokens, D model, E experts, K experts a token, F expert hidden, N = T * K assignments,
M row tiles, P parts of a hidden row.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from model.kernels import experts_jit as jit
from model.kernels.glue import quantise_rows
from model.kernels.routing import SortedRows, sort_rows

FP8 = torch.float8_e4m3fn


@dataclass(frozen=True, slots=True)
class Tiles:
    """Shape and schedule of one product kernel.

    Args:
        rows: token rows a program; gate_up and down share one sort when theirs are equal.
        out: weight rows a program (gate_up takes as many gate as up rows).
        inner: depth of a step.
        tma: weights through tensor descriptors, else through plain pointers.
        promote: fp8 only: leave the tensor core's ~14-bit accumulator after as many products
            (0: never).
        quantise: down in fp8 only: take bf16 rows and quantise them on the way to each product.
    """

    rows: int = 32
    out: int = 64
    inner: int = 128
    warps: int = 4
    stages: int = 4
    tma: bool = True
    promote: int = 0
    quantise: bool = False


def default_tiles(dtype: torch.dtype, tokens: int) -> tuple[Tiles, Tiles]:
    """Tiles of gate_up and down for a weight dtype and number of tokens."""
    fp8 = dtype == FP8
    if tokens < 16:
        if fp8:
            return Tiles(16, 64, 256, stages=4), Tiles(16, 128, 128, stages=4)
        return Tiles(16, 64, 128, stages=5), Tiles(16, 128, 64, stages=5)
    rows = 16 if tokens < 64 else 32 if tokens <= 256 else 64
    up = Tiles(rows, 64, 128, stages=3)
    return up, Tiles(rows, 64, 128, stages=5) if fp8 else Tiles(rows, 64, 64, stages=6)


class ExpertWeights(NamedTuple):
    """All experts' matrices, contiguous: bf16, or e4m3 with an fp32 scale an output channel."""

    gate_up: Tensor
    """[E, 2F, D]"""
    down: Tensor
    """[E, D, F]"""
    gate_up_scale: Tensor | None = None
    """[E, 2F]"""
    down_scale: Tensor | None = None
    """[E, D]"""


def expert_rows(
    x_TD: Tensor,
    row_scale_T: Tensor | None,
    expert_TK: Tensor,
    weights: ExpertWeights,
    tiles_up: Tiles | None = None,
    tiles_down: Tiles | None = None,
) -> Tensor:
    """down(gelu(gate(x)) * up(x)) of every assignment, unweighted, rounded as torch does.

    Args:
        x_TD: bf16, or e4m3 with row_scale_T fp32: then hidden rows are quantised here.
        expert_TK: int32, contiguous.
        tiles_up, tiles_down: None for the defaults.

    Returns:
        [N, D] bf16, for `combine` or a norm that mixes them.
    """
    tiles_up, tiles_down = _tiles(x_TD, tiles_up, tiles_down)
    num_experts, top_k = weights.gate_up.shape[0], expert_TK.shape[1]
    sorted_up = sort_rows(expert_TK, num_experts, tiles_up.rows)
    largest_NP = None
    if tiles_down.quantise and row_scale_T is not None:
        parts = triton.cdiv(weights.down.shape[2], tiles_up.out)
        largest_NP = row_scale_T.new_empty((expert_TK.numel(), parts))
    hidden_NF = gate_up_rows(
        x_TD,
        row_scale_T,
        weights.gate_up,
        weights.gate_up_scale,
        sorted_up,
        top_k,
        tiles_up,
        largest_NP,
    )
    sorted_down = _resorted(expert_TK, num_experts, sorted_up, tiles_up, tiles_down)
    scale_N = largest_NP
    if row_scale_T is not None and largest_NP is None:
        hidden_NF, scale_N = quantise_rows(hidden_NF)
    return down_rows(hidden_NF, scale_N, weights.down, weights.down_scale, sorted_down, tiles_down)


def mixed_experts(
    x_TD: Tensor,
    row_scale_T: Tensor | None,
    expert_TK: Tensor,
    weight_TK: Tensor,
    weights: ExpertWeights,
    tiles_up: Tiles | None = None,
    tiles_down: Tiles | None = None,
) -> Tensor:
    """`expert_rows`, weighted by weight_TK (fp32, contiguous) and summed token by token: [T, D]."""
    rows_ND = expert_rows(x_TD, row_scale_T, expert_TK, weights, tiles_up, tiles_down)
    return combine(rows_ND, weight_TK)


def gate_up_rows(
    x_TD: Tensor,
    row_scale_T: Tensor | None,
    gate_up: Tensor,
    scale_EG: Tensor | None,
    sorted_rows: SortedRows,
    top_k: int,
    tiles: Tiles,
    largest_NP: Tensor | None = None,
) -> Tensor:
    """gelu(gate(x)) * up(x) of every assignment: [N, F] bf16. Scales go with e4m3 operands.

    largest_NP takes the largest magnitude of each row in each of its P = F / tiles.out parts.
    """
    num_experts, hidden, width = gate_up.shape[0], gate_up.shape[1] // 2, gate_up.shape[2]
    assignments = x_TD.shape[0] * top_k
    hidden_NF = x_TD.new_empty((assignments, hidden), dtype=torch.bfloat16)
    jit.gate_up_kernel[(sorted_rows.tile_expert_M.shape[0] * triton.cdiv(hidden, tiles.out),)](
        x_TD,
        row_scale_T,
        _weights(gate_up, tiles),
        scale_EG,
        *sorted_rows,
        hidden_NF,
        largest_NP,
        assignments,
        NUM_EXPERTS=num_experts,
        D=width,
        F=hidden,
        TOP_K=top_k,
        FP8=gate_up.dtype == FP8,
        **_meta(tiles),
    )
    return hidden_NF


def down_rows(
    hidden_NF: Tensor,
    row_scale: Tensor | None,
    down: Tensor,
    scale_ED: Tensor | None,
    sorted_rows: SortedRows,
    tiles: Tiles,
) -> Tensor:
    """down(hidden) of every assignment: [N, D] bf16. Scales go with e4m3 operands.

    Args:
        row_scale: [N] of e4m3 rows; with `tiles.quantise`, `gate_up_rows`' largest_NP of bf16 rows.
    """
    num_experts, width, hidden = down.shape
    assignments = hidden_NF.shape[0]
    out_ND = hidden_NF.new_empty((assignments, width), dtype=torch.bfloat16)
    largest_NP = row_scale if tiles.quantise else None
    jit.down_kernel[(sorted_rows.tile_expert_M.shape[0] * triton.cdiv(width, tiles.out),)](
        hidden_NF,
        None if tiles.quantise else row_scale,
        largest_NP,
        _weights(down, tiles),
        scale_ED,
        *sorted_rows,
        out_ND,
        assignments,
        NUM_EXPERTS=num_experts,
        D=width,
        F=hidden,
        PARTS=1 if largest_NP is None else largest_NP.shape[1],
        FP8=down.dtype == FP8,
        **_meta(tiles),
    )
    return out_ND


def combine(out_ND: Tensor, weight_TK: Tensor) -> Tensor:
    """Each token's weighted sum over its K assignments, in fp32 and always in order: [T, D]."""
    tokens, top_k = weight_TK.shape
    width = out_ND.shape[1]
    out_TD = out_ND.new_empty((tokens, width))
    block = min(triton.next_power_of_2(width), 1024)
    jit.combine_kernel[(tokens, triton.cdiv(width, block))](
        out_ND,
        weight_TK,
        out_TD,
        D=width,
        TOP_K=top_k,
        BLOCK=block,
        num_warps=4,
    )
    return out_TD


def _tiles(x_TD: Tensor, tiles_up: Tiles | None, tiles_down: Tiles | None) -> tuple[Tiles, Tiles]:
    default_up, default_down = default_tiles(x_TD.dtype, x_TD.shape[0])
    return tiles_up or default_up, tiles_down or default_down


def _resorted(
    expert_TK: Tensor, num_experts: int, sorted_up: SortedRows, tiles_up: Tiles, tiles_down: Tiles
) -> SortedRows:
    if tiles_up.rows == tiles_down.rows:
        return sorted_up
    return sort_rows(expert_TK, num_experts, tiles_down.rows)


def _weights(weight: Tensor, tiles: Tiles) -> Tensor | TensorDescriptor:
    """[E, rows, depth] as one matrix [E * rows, depth] in the form the kernel reads it."""
    flat = weight.view(-1, weight.shape[2])
    return TensorDescriptor.from_tensor(flat, [tiles.out, tiles.inner]) if tiles.tma else flat


def _meta(tiles: Tiles) -> dict[str, int | bool | None]:
    return {
        "BLOCK_ROWS": tiles.rows,
        "BLOCK_OUT": tiles.out,
        "BLOCK_INNER": tiles.inner,
        "TMA": tiles.tma,
        "PROMOTE": tiles.promote or None,
        "num_warps": tiles.warps,
        "num_stages": tiles.stages,
    }
