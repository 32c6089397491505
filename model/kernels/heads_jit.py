"""Device code of `model.kernels.heads`.

Legend: B seqs, L positions, N heads, G KV heads, P projected heads, H head dim.
"""

import triton
import triton.language as tl

from model.kernels.overlap_jit import begin


@triton.jit
def rotated(x, swapped, cos, sin, DTYPE: tl.constexpr):
    """x cos, rounded, plus swapped sin."""
    return (x * cos).to(DTYPE).to(tl.float32) + swapped * sin


@triton.jit(do_not_specialize=["num_slots"])
def qkv_rows(
    qkv_ptr, q_weight_ptr, k_weight_ptr, cos_ptr, sin_ptr,
    q_ptr, key_ptr, value_ptr, cached_ptr,
    length, num_slots, qkv_stride, cos_stride, sin_stride,
    key_stride_b, key_stride_g, key_stride_l,
    value_stride_b, value_stride_g, value_stride_l, eps,
    N: tl.constexpr, G: tl.constexpr, VALUE_AT: tl.constexpr,
    BEGUN: tl.constexpr, SIZE: tl.constexpr, HALF: tl.constexpr, HEADS: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """One token and HEADS heads of one kind (HEADS divides N and G), in halves of the head."""
    begin(OVERLAP)
    DTYPE: tl.constexpr = qkv_ptr.dtype.element_ty
    token, first = tl.program_id(0), tl.program_id(1) * HEADS
    batch, position = token // length, token % length
    place = position
    if BEGUN:
        place += tl.load(cached_ptr).to(tl.int32)
    slot = place % num_slots
    middle: tl.constexpr = SIZE // 2
    head = tl.arange(0, HEADS)[:, None]
    column = tl.arange(0, HALF)[None, :]
    real = (column < middle) & (head < HEADS)
    is_value = first >= N + G
    source = tl.where(is_value, first - (N + G) + VALUE_AT, first)
    x = qkv_ptr + token.to(tl.int64) * qkv_stride + (source + head) * SIZE + column
    a = tl.load(x, mask=real, other=0.0).to(tl.float32)
    b = tl.load(x + middle, mask=real, other=0.0).to(tl.float32)
    inverse = tl.rsqrt((tl.sum(a * a, 1) + tl.sum(b * b, 1)) / SIZE + eps)[:, None]
    a, b = a * inverse, b * inverse
    if is_value:
        start = value_ptr + batch.to(tl.int64) * value_stride_b + slot.to(tl.int64) * value_stride_l
        out = start + (first - (N + G) + head).to(tl.int64) * value_stride_g + column
        tl.store(out, a.to(DTYPE), mask=real)
        tl.store(out + middle, b.to(DTYPE), mask=real)
    else:
        weight = q_weight_ptr if first < N else k_weight_ptr
        half = column < middle
        cos, sin = (
            cos_ptr + place * cos_stride + column,
            sin_ptr + place * sin_stride + column,
        )
        a = a * tl.load(weight + column, mask=half, other=0.0).to(tl.float32)
        b = b * tl.load(weight + middle + column, mask=half, other=0.0).to(tl.float32)
        a, b = a.to(DTYPE).to(tl.float32), b.to(DTYPE).to(tl.float32)
        cos_a = tl.load(cos, mask=half, other=0.0).to(tl.float32)
        cos_b = tl.load(cos + middle, mask=half, other=0.0).to(tl.float32)
        sin_a = tl.load(sin, mask=half, other=0.0).to(tl.float32)
        sin_b = tl.load(sin + middle, mask=half, other=0.0).to(tl.float32)
        if first < N:
            out = q_ptr + (token.to(tl.int64) * N + first + head) * SIZE + column
        else:
            start = key_ptr + batch.to(tl.int64) * key_stride_b + slot.to(tl.int64) * key_stride_l
            out = start + (first - N + head).to(tl.int64) * key_stride_g + column
        tl.store(out, rotated(a, b, cos_a, sin_a, DTYPE).to(DTYPE), mask=real)
        tl.store(out + middle, rotated(b, a, cos_b, sin_b, DTYPE).to(DTYPE), mask=real)
