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
from model.kernels.glue import Quantised, quantise_rows
from model.kernels.overlap import overlapped
from model.kernels.routing import SortedRows, sort_rows
from model.kernels.tile_files import table_for
from model.kernels.tiles import FP8, Tiles

_VALUES_A_THREAD = 32  # of rows quantised at once: with 64 fewer programs fit a multiprocessor


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
    *,
    sorted_rows: SortedRows | None = None,
    arrived_M: Tensor | None = None,
) -> Tensor:
    """down(gelu(gate(x)) * up(x)) of every assignment, unweighted, rounded as torch does.

    Args:
        x_TD: bf16, or e4m3 with row_scale_T fp32: then hidden rows are quantised here.
        expert_TK: int32, contiguous.
        tiles: of gate_up and down; None for the device's.
        sorted_rows: of expert_TK by gate_up's tiles; None to sort here.
        arrived_M: int32 zeros, which stay zeros; of no other launch at the same time. With one for
            each row tile, tiles that quantise do so; without, rows are quantised by their own
            launch.

    Returns:
        [N, D] bf16, for `combine` or a norm that mixes them.
    """
    up, down = tiles or table_for(x_TD.device).for_experts(x_TD.dtype, x_TD.shape[0])
    num_experts, top_k = weights.gate_up.shape[0], expert_TK.shape[1]
    sorted_up = sorted_rows or sort_rows(expert_TK, num_experts, up.rows)
    matrix = weights.gate_up, weights.gate_up_scale, sorted_up, top_k, up
    most_tiles = len(sorted_up.tile_expert_M)
    scale_N = None
    if row_scale_T is None:
        hidden_NF = gate_up_rows(x_TD, None, *matrix)
    elif up.quantise and arrived_M is not None and len(arrived_M) >= most_tiles:
        hidden_NF, scale_N = gate_up_rows_quantised(x_TD, row_scale_T, *matrix, arrived_M)
    else:
        hidden_NF, scale_N = quantise_rows(gate_up_rows(x_TD, row_scale_T, *matrix))
    same = up.rows == down.rows
    sorted_down = sorted_up if same else sort_rows(expert_TK, num_experts, down.rows)
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


def gate_up_rows_quantised(
    x_TD: Tensor,
    row_scale_T: Tensor,
    gate_up: Tensor,
    scale_EG: Tensor | None,
    sorted_rows: SortedRows,
    top_k: int,
    tiles: Tiles,
    arrived_M: Tensor,
) -> Quantised:
    """`glue.quantise_rows` of `gate_up_rows` in one launch; arrived_M as in `expert_rows`."""
    assert not tiles.persistent, "persistent programs do not quantise"
    assignments, hidden = x_TD.shape[0] * top_k, gate_up.shape[1] // 2
    values_NF = x_TD.new_empty((assignments, hidden), dtype=FP8)
    scale_N = row_scale_T.new_empty(assignments)
    x = x_TD, row_scale_T, gate_up, scale_EG, sorted_rows, top_k, tiles
    gate_up_rows(*x, quantised=(values_NF, scale_N, arrived_M))
    return values_NF, scale_N


def gate_up_rows(
    x_TD: Tensor,
    row_scale_T: Tensor | None,
    gate_up: Tensor,
    scale_EG: Tensor | None,
    sorted_rows: SortedRows,
    top_k: int,
    tiles: Tiles,
    *,
    quantised: tuple[Tensor, Tensor, Tensor] | tuple[None, None, None] = (None, None, None),
) -> Tensor:
    """gelu(gate(x)) * up(x) of every assignment: [N, F] bf16. Scales go with e4m3 operands.

    quantised: e4m3 values [N, F], their scales [N] and counters, where rows are quantised as well.
    """
    num_experts, hidden, width = gate_up.shape[0], gate_up.shape[1] // 2, gate_up.shape[2]
    assignments = x_TD.shape[0] * top_k
    hidden_NF = x_TD.new_empty((assignments, hidden), dtype=torch.bfloat16)
    padded = triton.next_power_of_2(hidden)
    at_once = max(_VALUES_A_THREAD * 32 * tiles.warps // padded, 1)
    jit.gate_up_kernel[_grid(sorted_rows, hidden, tiles)](
        x_TD,
        row_scale_T,
        _weights(gate_up, tiles),
        scale_EG,
        *sorted_rows,
        hidden_NF,
        *quantised,
        assignments,
        NUM_EXPERTS=num_experts,
        D=width,
        F=hidden,
        F_POW2=padded,
        TOP_K=top_k,
        FP8=gate_up.dtype == FP8,
        QUANTISE=quantised[0] is not None,
        AT_ONCE=min(at_once, tiles.rows),
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
