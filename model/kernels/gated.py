"""The dense gate and up product with the gated GELU behind it, in one launch, for bf16 and fp8.

A program has the gate and the up channels of the same hidden ones, as two accumulators. Weights are
the left operand and both operands arrive through the bulk copy engine, as in `model.kernels.dense`.
In fp8 the last program of some tokens quantises their rows: one program's work at the end, so fewer
tokens a program make it shorter.

Legend: T tokens, D depth, F hidden, G = 2F gate rows, then up rows, B blocks of hidden channels.
"""

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from model.kernels import gated_jit as jit
from model.kernels.glue import Quantised
from model.kernels.overlap import overlapped
from model.kernels.tiles import FP8, GatedTiles

_PIECE = 16  # values of a row that one thread quantises; a row is whole ones
_PIECES_A_THREAD = 4  # at once


def gated_product(
    x_TD: Tensor, weight_GD: Tensor, tiles: GatedTiles, *, overlap: bool = False
) -> Tensor:
    """`glue.gated_gelu` of x @ weight.T, rounded where the two round.

    Args:
        x_TD, weight_GD: bf16 and contiguous; D is a multiple of 8.
        overlap: x was written by the kernel just before (`model.kernels.overlap`).

    Returns:
        [T, F] bf16.
    """
    hidden_TF = x_TD.new_empty((len(x_TD), len(weight_GD) // 2))
    scales, quantised = (None, None), (None, None, None, None)
    _launch(x_TD, weight_GD, scales, hidden_TF, quantised, tiles, overlap)
    return hidden_TF


def gated_product_fp8(
    values_TD: Tensor,
    scale_T: Tensor,
    weight_GD: Tensor,
    scale_G: Tensor,
    tiles: GatedTiles,
    arrived: Tensor,
    *,
    overlap: bool = False,
) -> Quantised:
    """`glue.gated_gelu_quantised` of `dense.linear_fp8`, rounded where the two round.

    Args:
        values_TD, weight_GD: e4m3 and contiguous, with scales fp32; D and F are multiples of 16.
        arrived: int32 zeros, at least one for every tiles.rows tokens, which stay zeros; of no
            other launch at the same time.
        overlap: values_TD was written by the kernel just before (`model.kernels.overlap`).
    """
    tokens, hidden = len(values_TD), len(weight_GD) // 2
    assert len(arrived) >= triton.cdiv(tokens, tiles.rows), f"{len(arrived)} counters"
    assert hidden % _PIECE == 0, f"{hidden} hidden channels"
    hidden_TF = values_TD.new_empty((tokens, hidden), dtype=torch.bfloat16)
    values_TF = values_TD.new_empty((tokens, hidden), dtype=FP8)
    hidden_scale_T = scale_T.new_empty(tokens)
    largest_BT = scale_T.new_empty((triton.cdiv(hidden, tiles.out), tokens))
    scales, quantised = (scale_T, scale_G), (largest_BT, values_TF, hidden_scale_T, arrived)
    _launch(values_TD, weight_GD, scales, hidden_TF, quantised, tiles, overlap)
    return values_TF, hidden_scale_T


def _launch(
    x_TD: Tensor,
    weight_GD: Tensor,
    scales: tuple[Tensor, Tensor] | tuple[None, None],
    hidden_TF: Tensor,
    quantised: tuple[Tensor, Tensor, Tensor, Tensor] | tuple[None, None, None, None],
    tiles: GatedTiles,
    overlap: bool,
) -> None:
    """Writes hidden_TF and, in fp8, what is quantised.

    Args:
        scales: of tokens and channels.
        quantised: each program's largest [B, T], values [T, F], scales [T] and counters.
    """
    tokens, depth = x_TD.shape
    hidden = hidden_TF.shape[1]
    blocks = triton.cdiv(hidden, tiles.out)
    jit.gated_kernel[(triton.cdiv(tokens, tiles.rows) * blocks,)](
        TensorDescriptor.from_tensor(x_TD, [tiles.rows, tiles.inner]),
        scales[0],
        TensorDescriptor.from_tensor(weight_GD, [tiles.out, tiles.inner]),
        scales[1],
        hidden_TF,
        *quantised,
        tokens,
        depth,
        F=hidden,
        BLOCKS_POW2=triton.next_power_of_2(blocks),
        PIECE=_PIECE,
        FP8=x_TD.dtype == FP8,
        AT_ONCE=32 * tiles.warps * _PIECES_A_THREAD,
        **(overlapped(x_TD) if overlap else {"OVERLAP": False}),
        **_meta(tiles),
    )


def _meta(tiles: GatedTiles) -> dict[str, int]:
    return {
        "BLOCK_ROWS": tiles.rows,
        "BLOCK_OUT": tiles.out,
        "BLOCK_INNER": tiles.inner,
        "num_warps": tiles.warps,
        "num_stages": tiles.stages,
    }
