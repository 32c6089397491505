"""Products of quantised rows with e4m3 matrices that every token takes (not the routed experts).

Weights are the left operand (64 rows of them fill the tensor core's rows at one token as at many)
and both operands arrive through the bulk copy engine: depths must be multiples of 16. At few
channels the depth is split, else most of the chip would idle; the fp32 parts are summed in order,
here or in the norm that reads them.

Legend: T tokens, D depth, N out channels, S parts.
"""

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from model.kernels import dense_jit as jit
from model.kernels.overlap import overlapped
from model.kernels.tile_files import table_for
from model.kernels.tiles import DenseTiles, TileTable


def linear_fp8(
    values_TD: Tensor,
    scale_T: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    tiles: DenseTiles | None = None,
    *,
    table: TileTable | None = None,
    overlap: bool = False,
) -> Tensor:
    """rows @ weight.T of quantised rows: what `ScaledLinear.product` answers.

    Args:
        values_TD: e4m3 and contiguous, with scale_T fp32.
        weight: [N, D] e4m3 and contiguous, with weight_scale fp32 of N elements.
        tiles, table: None for those of the device.
        overlap: the rows were written by the kernel just before (`model.kernels.overlap`).

    Returns:
        [T, N] bf16.
    """
    tiles = tiles or _chosen(values_TD, weight, table)
    if tiles is None:
        scales = scale_T.view(-1, 1), weight_scale.view(1, -1)
        return torch._scaled_mm(
            values_TD, weight.t(), *scales, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    parts_STN = _parts(values_TD, scale_T, weight, weight_scale, tiles, overlap)
    if parts_STN.shape[0] == 1:
        return parts_STN[0]
    out_TN = parts_STN.new_empty(parts_STN.shape[1:], dtype=torch.bfloat16)
    count = out_TN.numel()
    jit.sum_kernel[(triton.cdiv(count, 1024),)](
        parts_STN, out_TN, count, PARTS=parts_STN.shape[0], BLOCK=1024, num_warps=4
    )
    return out_TN


def linear_fp8_parts(
    values_TD: Tensor,
    scale_T: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    tiles: DenseTiles | None = None,
    *,
    table: TileTable | None = None,
    overlap: bool = False,
) -> Tensor:
    """`linear_fp8` before its sum, for `glue.add_rms_norm_then_norms` and `glue.end_block`.

    Returns:
        fp32 parts [S, T, N]; bf16 [T, N] where the depth is not split.
    """
    tiles = tiles or _chosen(values_TD, weight, table)
    if tiles is None:
        return linear_fp8(values_TD, scale_T, weight, weight_scale, table=table)
    parts_STN = _parts(values_TD, scale_T, weight, weight_scale, tiles, overlap)
    return parts_STN[0] if parts_STN.shape[0] == 1 else parts_STN


def _chosen(values_TD: Tensor, weight: Tensor, table: TileTable | None) -> DenseTiles | None:
    table = table or table_for(values_TD.device)
    return table.for_dense(values_TD.shape[0], *weight.shape)


def _parts(
    values_TD: Tensor,
    scale_T: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    tiles: DenseTiles,
    overlap: bool,
) -> Tensor:
    """[S, T, N], bf16 if there is one part and fp32 if there are several."""
    tokens, depth = values_TD.shape
    channels = weight.shape[0]
    steps = triton.cdiv(depth, tiles.inner)
    part_steps = triton.cdiv(steps, tiles.split)
    split = triton.cdiv(steps, part_steps)
    parts_STN = values_TD.new_empty(
        (split, tokens, channels), dtype=torch.bfloat16 if split == 1 else torch.float32
    )
    grid = triton.cdiv(tokens, tiles.rows) * triton.cdiv(channels, tiles.out), split
    jit.linear_kernel[grid](
        TensorDescriptor.from_tensor(values_TD, [tiles.rows, tiles.inner]),
        scale_T,
        TensorDescriptor.from_tensor(weight, [tiles.out, tiles.inner]),
        weight_scale,
        parts_STN,
        tokens,
        channels,
        depth,
        part_steps * tiles.inner,
        **(overlapped(values_TD) if overlap else {"OVERLAP": False}),
        **_meta(tiles),
    )
    return parts_STN


def _meta(tiles: DenseTiles) -> dict[str, int]:
    return {
        "BLOCK_ROWS": tiles.rows,
        "BLOCK_OUT": tiles.out,
        "BLOCK_INNER": tiles.inner,
        "num_warps": tiles.warps,
        "num_stages": tiles.stages,
    }
