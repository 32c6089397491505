"""Device code of `model.kernels.heads_fused`.

Legend: T tokens, D depth, B seqs, L positions, N heads, G KV heads, P = N + G (+ G) projected
heads, H head dim.
"""

import triton
import triton.language as tl

from model.kernels.heads_jit import rotated
from model.kernels.overlap_jit import begin


@triton.jit
def _projected(acc, row_scale, channel_scale, channel):
    """The product as the unfused chain stores it: scaled, rounded to bf16."""
    acc = acc * row_scale[None, :] * tl.load(channel_scale + channel)[:, None]
    return acc.to(tl.bfloat16).to(tl.float32)


@triton.jit
def _store(a, b, start, channel, inside, HALF: tl.constexpr):
    """Both halves [HALF, rows] of a head; `start` points to each token's first channel."""
    out = start[None, :] + channel[:, None]
    tl.store(out, a.to(tl.bfloat16), mask=inside[None, :])
    tl.store(out + HALF, b.to(tl.bfloat16), mask=inside[None, :])


@triton.jit
def _finish(
    a, b, first_token, head, row, row_scale_T, channel_scale_P,
    q_weight_ptr, k_weight_ptr, cos_ptr, sin_ptr, q_ptr, key_ptr, value_ptr, cached,
    tokens, length, num_slots, cos_stride, sin_stride,
    key_stride_b, key_stride_g, key_stride_l,
    value_stride_b, value_stride_g, value_stride_l, eps,
    N: tl.constexpr, G: tl.constexpr, VALUE_AT: tl.constexpr,
    HALF: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Norm, rotation and store of a head's products a, b [HALF, ROWS] of the tokens from the first.

    One half of each table is read: the other is the same, but for the sign of its sines.
    """
    SIZE: tl.constexpr = 2 * HALF
    token = first_token + tl.arange(0, ROWS)
    channel = tl.arange(0, HALF)
    inside = token < tokens
    row_scale = tl.load(row_scale_T + token, mask=inside, other=0.0)
    a = _projected(a, row_scale, channel_scale_P + row, channel)
    b = _projected(b, row_scale, channel_scale_P + row + HALF, channel)
    inverse = tl.rsqrt((tl.sum(a * a, 0) + tl.sum(b * b, 0)) / SIZE + eps)[None, :]
    a, b = a * inverse, b * inverse

    batch, position = (token // length).to(tl.int64), cached + token % length
    slot = (position % num_slots).to(tl.int64)
    if head >= VALUE_AT:
        group = (head - VALUE_AT).to(tl.int64) * value_stride_g
        start = value_ptr + group + batch * value_stride_b + slot * value_stride_l
        _store(a, b, start, channel, inside, HALF)
    if head < N + G:
        weight = q_weight_ptr if head < N else k_weight_ptr
        a = (a * tl.load(weight + channel).to(tl.float32)[:, None]).to(tl.bfloat16).to(tl.float32)
        b = b * tl.load(weight + HALF + channel).to(tl.float32)[:, None]
        b = b.to(tl.bfloat16).to(tl.float32)
        place = position[None, :] * cos_stride + channel[:, None]
        cos = tl.load(cos_ptr + place, mask=inside[None, :], other=0.0).to(tl.float32)
        place = position[None, :] * sin_stride + HALF + channel[:, None]
        sin = tl.load(sin_ptr + place, mask=inside[None, :], other=0.0).to(tl.float32)
        a, b = rotated(a, b, cos, -sin, tl.bfloat16), rotated(b, a, cos, sin, tl.bfloat16)
        if head < N:
            start = q_ptr + (token.to(tl.int64) * N + head) * SIZE
        else:
            group = (head - N).to(tl.int64) * key_stride_g
            start = key_ptr + group + batch * key_stride_b + slot * key_stride_l
        _store(a, b, start, channel, inside, HALF)


@triton.jit
def _tokens_halved(x, HALF: tl.constexpr, ROWS: tl.constexpr):
    """[HALF, ROWS] as two of half as many tokens; moves nothing."""
    return tl.split(tl.permute(tl.reshape(x, [HALF, 2, ROWS // 2]), 0, 2, 1))


@triton.jit(do_not_specialize=["length", "num_slots"])
def qkv_kernel(
    values_TD, row_scale_T, weights_PD, channel_scale_P,
    q_weight_ptr, k_weight_ptr, cos_ptr, sin_ptr, q_ptr, key_ptr, value_ptr, cached_ptr,
    tokens, length, num_slots, depth, cos_stride, sin_stride,
    key_stride_b, key_stride_g, key_stride_l,
    value_stride_b, value_stride_g, value_stride_l, eps,
    N: tl.constexpr, G: tl.constexpr, VALUE_AT: tl.constexpr, BEGUN: tl.constexpr,
    SIZE: tl.constexpr, BLOCK_ROWS: tl.constexpr, BLOCK_INNER: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """One projected head of BLOCK_ROWS tokens, in halves of its channels; weights on the left.

    VALUE_AT is the head that values are made of, as far as it is no key: N + G, or N where keys
    serve.
    """
    begin(OVERLAP)
    tiles = tl.cdiv(tokens, BLOCK_ROWS)
    program = tl.program_id(0)
    first_token, head = program % tiles * BLOCK_ROWS, program // tiles  # neighbours share weights
    row = head * SIZE
    HALF: tl.constexpr = SIZE // 2
    a = tl.zeros([HALF, BLOCK_ROWS], tl.float32)
    b = tl.zeros([HALF, BLOCK_ROWS], tl.float32)
    for inner in range(0, depth, BLOCK_INNER):
        values = tl.trans(values_TD.load([first_token, inner]))
        a = tl.dot(weights_PD.load([row, inner]), values, a)
        b = tl.dot(weights_PD.load([row + HALF, inner]), values, b)
    cached = 0
    if BEGUN:
        cached = tl.load(cached_ptr).to(tl.int32)
    # One half of the tokens after the other: both at once need more registers than there are.
    HALF_ROWS: tl.constexpr = BLOCK_ROWS // 2
    first_a, second_a = _tokens_halved(a, HALF, BLOCK_ROWS)
    first_b, second_b = _tokens_halved(b, HALF, BLOCK_ROWS)
    _finish(
        first_a, first_b, first_token, head, row, row_scale_T, channel_scale_P,
        q_weight_ptr, k_weight_ptr, cos_ptr, sin_ptr, q_ptr, key_ptr, value_ptr, cached,
        tokens, length, num_slots, cos_stride, sin_stride,
        key_stride_b, key_stride_g, key_stride_l, value_stride_b, value_stride_g, value_stride_l,
        eps, N, G, VALUE_AT, HALF, HALF_ROWS,
    )  # fmt: skip
    _finish(
        second_a, second_b, first_token + HALF_ROWS, head, row, row_scale_T, channel_scale_P,
        q_weight_ptr, k_weight_ptr, cos_ptr, sin_ptr, q_ptr, key_ptr, value_ptr, cached,
        tokens, length, num_slots, cos_stride, sin_stride,
        key_stride_b, key_stride_g, key_stride_l, value_stride_b, value_stride_g, value_stride_l,
        eps, N, G, VALUE_AT, HALF, HALF_ROWS,
    )  # fmt: skip
