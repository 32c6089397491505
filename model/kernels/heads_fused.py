"""The q/k/v product of quantised rows with everything up to attention behind it, in one launch.

A program has one projected head of a block of tokens: its two halves are two accumulators, so that
a rotation stays inside a thread. Weights are the left operand and both operands arrive through the
bulk copy engine, as in `model.kernels.dense`.

Legend: T tokens, D depth, B seqs, L positions, N heads, G KV heads, K slots, P = N + G (+ G)
projected heads, H head dim, M positions of a table.
"""

import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from model.kernels import heads_fused_jit as jit
from model.kernels.overlap import overlapped
from model.kernels.tiles import HeadTiles


def qkv_fp8_norm_rope_write(
    values_TD: Tensor,
    scale_T: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos_MH: Tensor,
    sin_MH: Tensor,
    num_heads: int,
    num_kv_heads: int,
    eps: float,
    keys_BGKH: Tensor,
    values_BGKH: Tensor,
    cached_1: Tensor | None = None,
    *,
    tiles: HeadTiles,
    overlap: bool = False,
) -> Tensor:
    """`heads.qkv_norm_rope_write` of `dense.linear_fp8`, rounded where the two round.

    Args:
        values_TD: e4m3 and contiguous, with scale_T fp32.
        weight: [P * H, D] e4m3 and contiguous, with weight_scale fp32 of P * H elements; H is a
            power of two.
        overlap: the rows were written by the kernel just before (`model.kernels.overlap`).

    Returns:
        q [B, N, L, H], a view of contiguous [B, L, N, H], bf16.
    """
    batch, _, num_slots, size = keys_BGKH.shape
    tokens, depth = values_TD.shape
    length, projected, half = tokens // batch, weight.shape[0] // size, size // 2
    assert half == triton.next_power_of_2(half), f"heads of {size} channels"
    q_BLNH = keys_BGKH.new_empty((batch, length, num_heads, size))
    jit.qkv_kernel[(triton.cdiv(tokens, tiles.rows) * projected,)](
        TensorDescriptor.from_tensor(values_TD, [tiles.rows, tiles.inner]), scale_T,
        TensorDescriptor.from_tensor(weight, [half, tiles.inner]), weight_scale,
        q_weight, k_weight, cos_MH, sin_MH, q_BLNH, keys_BGKH, values_BGKH,
        scale_T if cached_1 is None else cached_1,
        tokens, length, num_slots, depth, cos_MH.stride(0), sin_MH.stride(0),
        *keys_BGKH.stride()[:3], *values_BGKH.stride()[:3], eps,
        N=num_heads, G=num_kv_heads, VALUE_AT=projected - num_kv_heads,
        BEGUN=cached_1 is not None, SIZE=size, **_meta(tiles),
        **(overlapped(values_TD) if overlap else {"OVERLAP": False}),
    )  # fmt: skip
    return q_BLNH.transpose(1, 2)


def _meta(tiles: HeadTiles) -> dict[str, int]:
    return {
        "BLOCK_ROWS": tiles.rows,
        "BLOCK_INNER": tiles.inner,
        "num_warps": tiles.warps,
        "num_stages": tiles.stages,
    }
