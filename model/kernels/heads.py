"""Triton kernel from the merged q/k/v projection to attention: norms, rotation, cache write.

Legend: B seqs, L positions, N heads, G KV heads, K slots, P = N + G (+ G) projected heads, H head
dim, M positions of a table.
"""

import math

import triton
from torch import Tensor

from model.kernels.heads_jit import qkv_rows
from model.kernels.overlap import overlapped


def qkv_norm_rope_write(
    qkv: Tensor,
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
) -> Tensor:
    """`torch_native.qkv_norm_rope`, writing keys and values into the cache's slots.

    Without value projections (P = N + G) the value is the raw key, normed without weight.

    Args:
        qkv: merged projection of B * L tokens, [..., P * H] or [B, L, P, H], contiguous.
        cos_MH, sin_MH: `model.layers.rope_table`, from position 0 on, for every sequence.
        keys_BGKH, values_BGKH: rings, which hold position p in slot p mod K; the last dimension is
            contiguous.
        cached_1: the position of the first token, int64 [1]; 0 without it.

    Returns:
        q [B, N, L, H], a view of contiguous [B, L, N, H].
    """
    batch, _, num_slots, size = keys_BGKH.shape
    qkv = (qkv.flatten(2) if qkv.dim() == 4 else qkv).flatten(0, -2)
    length = qkv.shape[0] // batch
    q_BLNH = qkv.new_empty((batch, length, num_heads, size))
    heads = math.gcd(num_heads, num_kv_heads, 4)
    half = triton.next_power_of_2(size // 2)
    qkv_rows[(batch * length, (num_heads + 2 * num_kv_heads) // heads)](
        qkv, q_weight, k_weight, cos_MH, sin_MH, q_BLNH, keys_BGKH, values_BGKH,
        qkv if cached_1 is None else cached_1,
        length, num_slots, qkv.shape[1], cos_MH.stride(0), sin_MH.stride(0),
        *keys_BGKH.stride()[:3], *values_BGKH.stride()[:3], eps, BEGUN=cached_1 is not None,
        N=num_heads, G=num_kv_heads, VALUE_AT=qkv.shape[1] // size - num_kv_heads,
        SIZE=size, HALF=half, HEADS=heads, num_warps=min(max(heads * half // 256, 1), 4),
        **overlapped(qkv),
    )  # fmt: skip
    return q_BLNH.transpose(1, 2)
