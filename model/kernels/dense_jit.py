"""Device code of `model.kernels.dense`.

Legend: T tokens, D depth, N out channels, S parts.
"""

import triton
import triton.language as tl

from model.kernels.overlap_jit import begin


@triton.jit
def _place(tokens, BLOCK_ROWS: tl.constexpr, BLOCK_OUT: tl.constexpr):
    """First token and channel of a program; neighbours share weights."""
    tiles = tl.cdiv(tokens, BLOCK_ROWS)
    program = tl.program_id(0)
    return program % tiles * BLOCK_ROWS, program // tiles * BLOCK_OUT


@triton.jit
def linear_kernel(
    values_TD,
    row_scale_T,
    weights_ND,
    channel_scale_N,
    out_STN,
    tokens,
    channels,
    depth,
    part_depth,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: BLOCK_ROWS tokens by BLOCK_OUT channels over a part of the depth."""
    begin(OVERLAP)
    first_token, first = _place(tokens, BLOCK_ROWS, BLOCK_OUT)
    part = tl.program_id(1)
    start = part * part_depth
    acc = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
    for inner in range(start, tl.minimum(start + part_depth, depth), BLOCK_INNER):
        weight = weights_ND.load([first, inner])
        values = values_TD.load([first_token, inner])
        acc = tl.dot(weight, tl.trans(values), acc)
    token = first_token + tl.arange(0, BLOCK_ROWS)
    out = first + tl.arange(0, BLOCK_OUT)
    valid, inside = token < tokens, out < channels
    acc *= tl.load(row_scale_T + token, mask=valid, other=0.0)[None, :]
    acc *= tl.load(channel_scale_N + out, mask=inside, other=0.0)[:, None]
    pointers = out_STN + (part * tokens + token)[None, :] * channels + out[:, None]
    tl.store(pointers, acc.to(out_STN.dtype.element_ty), mask=inside[:, None] & valid[None, :])


@triton.jit
def sum_kernel(parts_SN, out_N, count, PARTS: tl.constexpr, BLOCK: tl.constexpr):
    """One program: BLOCK elements of the sum, always in order."""
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < count
    total = tl.load(parts_SN + place, mask=inside, other=0.0)
    for part in tl.static_range(1, PARTS):
        total += tl.load(parts_SN + part * count + place, mask=inside, other=0.0)
    tl.store(out_N + place, total.to(out_N.dtype.element_ty), mask=inside)
