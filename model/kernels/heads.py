"""Triton kernel from the merged q/k/v projection to attention: norms, rotation, cache write.

Legend: B seqs, L positions, N heads, G KV heads, P = N + G (+ G) projected heads, H head dim.
"""

import math

import triton
from torch import Tensor

from model.kernels.heads_jit import qkv_rows


def qkv_norm_rope_write(
    qkv: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos_LH: Tensor,
    sin_LH: Tensor,
    num_heads: int,
    num_kv_heads: int,
    eps: float,
    key_slots_BGLH: Tensor,
    value_slots_BGLH: Tensor,
) -> Tensor:
    """`torch_native.qkv_norm_rope`, writing keys and values into the cache's slots.

    Without value projections (P = N + G) the value is the raw key, normed without weight.

    Args:
        qkv: merged projection of B * L tokens, [..., P * H] or [B, L, P, H], contiguous.
        cos_LH, sin_LH: `model.layers.rope_table`, the same positions for every sequence.
        key_slots_BGLH, value_slots_BGLH: views of the cache; the last dimension is contiguous.

    Returns:
        q [B, N, L, H], a view of contiguous [B, L, N, H].
    """
    batch, _, length, size = key_slots_BGLH.shape
    qkv = qkv.reshape(batch * length, -1)
    q_BLNH = qkv.new_empty((batch, length, num_heads, size))
    heads = math.gcd(num_heads, num_kv_heads, 4)
    half = triton.next_power_of_2(size // 2)
    qkv_rows[(batch * length, (num_heads + 2 * num_kv_heads) // heads)](
        qkv, q_weight, k_weight, cos_LH, sin_LH, q_BLNH, key_slots_BGLH, value_slots_BGLH,
        length, qkv.shape[1], cos_LH.stride(0), sin_LH.stride(0),
        *key_slots_BGLH.stride()[:3], *value_slots_BGLH.stride()[:3], eps,
        N=num_heads, G=num_kv_heads, VALUE_AT=qkv.shape[1] // size - num_kv_heads,
        SIZE=size, HALF=half, HEADS=heads, num_warps=min(max(heads * half // 256, 1), 4),
    )  # fmt: skip
    return q_BLNH.transpose(1, 2)
