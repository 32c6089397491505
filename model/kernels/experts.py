"""Routed experts at decode sizes: a few rows for each of many experts, so weights are the traffic.

Weights are the left operand of every product (64 or more rows of them fill the tensor core's rows,
which the handful of tokens would not) and arrive through the bulk copy engine where asked.

Legend: T tokens, D model, E experts, K experts a token, F expert hidden, N = T * K assignments.
"""

from typing import NamedTuple

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from model.kernels import experts_jit as jit
from model.kernels.glue import quantise_rows
from model.kernels.overlap import overlapped
from model.kernels.routing import SortedRows, sort_rows
from model.kernels.tiles import FP8, Tiles, table_for


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
    tiles: tuple[Tiles, Tiles] | None = None,
) -> Tensor:
    """down(gelu(gate(x)) * up(x)) of every assignment, unweighted, rounded as torch does.

    Args:
        x_TD: bf16, or e4m3 with row_scale_T fp32: then hidden rows are quantised here.
        expert_TK: int32, contiguous.
        tiles: of gate_up and down; None for the device's.

    Returns:
        [N, D] bf16, for `combine` or a norm that mixes them.
    """
    up, down = tiles or table_for(x_TD.device).for_experts(x_TD.dtype, x_TD.shape[0])
    num_experts, top_k = weights.gate_up.shape[0], expert_TK.shape[1]
    sorted_up = sort_rows(expert_TK, num_experts, up.rows)
    hidden_NF = gate_up_rows(
        x_TD, row_scale_T, weights.gate_up, weights.gate_up_scale, sorted_up, top_k, up
    )
    same = up.rows == down.rows
    sorted_down = sorted_up if same else sort_rows(expert_TK, num_experts, down.rows)
    scale_N = None
    if row_scale_T is not None:
        hidden_NF, scale_N = quantise_rows(hidden_NF)
    return down_rows(hidden_NF, scale_N, weights.down, weights.down_scale, sorted_down, down)


def mixed_experts(
    x_TD: Tensor,
    row_scale_T: Tensor | None,
    expert_TK: Tensor,
    weight_TK: Tensor,
    weights: ExpertWeights,
    tiles: tuple[Tiles, Tiles] | None = None,
) -> Tensor:
    """`expert_rows`, weighted by weight_TK (fp32, contiguous) and summed token by token: [T, D]."""
    return combine(expert_rows(x_TD, row_scale_T, expert_TK, weights, tiles), weight_TK)


def gate_up_rows(
    x_TD: Tensor,
    row_scale_T: Tensor | None,
    gate_up: Tensor,
    scale_EG: Tensor | None,
    sorted_rows: SortedRows,
    top_k: int,
    tiles: Tiles,
) -> Tensor:
    """gelu(gate(x)) * up(x) of every assignment: [N, F] bf16. Scales go with e4m3 operands."""
    num_experts, hidden, width = gate_up.shape[0], gate_up.shape[1] // 2, gate_up.shape[2]
    assignments = x_TD.shape[0] * top_k
    hidden_NF = x_TD.new_empty((assignments, hidden), dtype=torch.bfloat16)
    jit.gate_up_kernel[_grid(sorted_rows, hidden, tiles)](
        x_TD,
        row_scale_T,
        _weights(gate_up, tiles),
        scale_EG,
        *sorted_rows,
        hidden_NF,
        assignments,
        NUM_EXPERTS=num_experts,
        D=width,
        F=hidden,
        TOP_K=top_k,
        FP8=gate_up.dtype == FP8,
        **overlapped(x_TD),
        **_meta(tiles),
    )
    return hidden_NF


def down_rows(
    hidden_NF: Tensor,
    row_scale_N: Tensor | None,
    down: Tensor,
    scale_ED: Tensor | None,
    sorted_rows: SortedRows,
    tiles: Tiles,
) -> Tensor:
    """down(hidden) of every assignment: [N, D] bf16. Scales go with e4m3 operands."""
    num_experts, width, hidden = down.shape
    assignments = hidden_NF.shape[0]
    out_ND = hidden_NF.new_empty((assignments, width), dtype=torch.bfloat16)
    jit.down_kernel[_grid(sorted_rows, width, tiles)](
        hidden_NF,
        row_scale_N,
        _weights(down, tiles),
        scale_ED,
        *sorted_rows,
        out_ND,
        assignments,
        NUM_EXPERTS=num_experts,
        D=width,
        F=hidden,
        FP8=down.dtype == FP8,
        **overlapped(hidden_NF),
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


def _grid(sorted_rows: SortedRows, channels: int, tiles: Tiles) -> tuple[int]:
    most = sorted_rows.tile_expert_M.shape[0] * triton.cdiv(channels, tiles.out)
    return (min(most, tiles.persistent) if tiles.persistent else most,)


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
        "BY_TILE": tiles.by_tile,
        "PERSISTENT": tiles.persistent > 0,
        "num_warps": tiles.warps,
        "num_stages": tiles.stages,
    }
