"""Products of quantised rows with e4m3 matrices that every token takes (not the routed experts).

Weights are the left operand (64 rows of them fill the tensor core's rows at one token as at many)
and both operands arrive through the bulk copy engine: depths must be multiples of 16. At few
channels the depth is split, else most of the chip would idle; the fp32 parts are summed in order,
here or in the norm that reads them.

Legend: T tokens, D depth, N out channels, S parts.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from model.kernels import dense_jit as jit

# From so many channels on one part of the depth fills the chip, and torch's product is as quick.
_WIDE, _TORCH_FROM = 4096, 6144


@dataclass(frozen=True, slots=True)
class DenseTiles:
    """Shape and schedule of a product.

    Args:
        rows: tokens a program.
        out: channels a program.
        inner: depth of a step.
        split: parts of the depth.
    """

    rows: int = 128
    out: int = 128
    inner: int = 128
    warps: int = 4
    stages: int = 4
    split: int = 1


def linear_tiles(tokens: int, channels: int) -> DenseTiles:
    """The quickest of those timed on an H100 at 1 and at 256 tokens."""
    if tokens <= 16:
        return DenseTiles(16, 64, 256, 4, 4, 1 if channels >= _WIDE else 4)
    if tokens <= 64:
        return DenseTiles(64, 64, 128, 4, 5)
    if channels >= _WIDE:
        return DenseTiles(128, 64, 128, 4, 6)
    return DenseTiles(64, 128, 128, 4, 6)


def linear_fp8(
    values_TD: Tensor,
    scale_T: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    tiles: DenseTiles | None = None,
) -> Tensor:
    """rows @ weight.T of quantised rows: what `ScaledLinear.product` answers.

    Args:
        values_TD: e4m3 and contiguous, with scale_T fp32.
        weight: [N, D] e4m3 and contiguous, with weight_scale fp32 of N elements.

    Returns:
        [T, N] bf16.
    """
    tokens, channels = values_TD.shape[0], weight.shape[0]
    if tiles is None and tokens > 64 and channels >= _TORCH_FROM:
        scales = scale_T.view(-1, 1), weight_scale.view(1, -1)
        return torch._scaled_mm(
            values_TD, weight.t(), *scales, out_dtype=torch.bfloat16, use_fast_accum=True
        )
    parts_STN = _parts(values_TD, scale_T, weight, weight_scale, tiles)
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
) -> Tensor:
    """`linear_fp8` before its sum, for `glue.add_rms_norm_then_norms` and `glue.end_block`.

    Returns:
        fp32 parts [S, T, N]; bf16 [T, N] where the depth is not split.
    """
    parts_STN = _parts(values_TD, scale_T, weight, weight_scale, tiles)
    return parts_STN[0] if parts_STN.shape[0] == 1 else parts_STN


def _parts(
    values_TD: Tensor,
    scale_T: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    tiles: DenseTiles | None,
) -> Tensor:
    """[S, T, N], bf16 if there is one part and fp32 if there are several."""
    tokens, depth = values_TD.shape
    channels = weight.shape[0]
    tiles = tiles or linear_tiles(tokens, channels)
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
