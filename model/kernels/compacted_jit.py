"""Device code of `model.kernels.compacted`.

Legend: T positions, V vocab, D model, N blocks of V, U tokens in play, S parts of them.
"""

import triton
import triton.language as tl


@triton.jit
def mark_tokens(
    p_TV,
    min_belief_1,
    kept_V,
    count_N,
    rows,
    vocab,
    BLOCK: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
):
    """One program: which of BLOCK tokens any position believes in, and how many they are."""
    block = tl.program_id(0)
    token = block * BLOCK + tl.arange(0, BLOCK)
    inside = token < vocab
    least = tl.load(min_belief_1)
    kept = tl.zeros([BLOCK], tl.int32)
    for start in range(0, rows, BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        mask = (row < rows)[:, None] & inside[None, :]
        p = tl.load(p_TV + row.to(tl.int64)[:, None] * vocab + token[None, :], mask=mask, other=0.0)
        # So asked, a NaN keeps its token.
        kept |= tl.max(tl.where(mask & ((p.to(tl.float32) < least) == 0), 1, 0), 0)
    tl.store(kept_V + token, kept.to(tl.int8), mask=inside)
    tl.store(count_N + block, tl.sum(kept, 0))


@triton.jit
def pack_tokens(
    p_TV,
    kept_V,
    count_N,
    token_U,
    packed_TU,
    total_1,
    rows,
    vocab,
    stride,
    num_blocks,
    BLOCK: tl.constexpr,
    BLOCKS_POW2: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    PAD: tl.constexpr,
):
    """One program: lists its block's tokens after those of all blocks before, and their columns.

    The first one fills up to the next multiple of PAD with token 0 at probability zero.
    """
    block = tl.program_id(0)
    other = tl.arange(0, BLOCKS_POW2)
    counts = tl.load(count_N + other, mask=other < num_blocks, other=0)
    before = tl.sum(tl.where(other < block, counts, 0), 0)
    own = tl.sum(tl.where(other == block, counts, 0), 0)
    token = block * BLOCK + tl.arange(0, BLOCK)
    kept = tl.load(kept_V + token, mask=token < vocab, other=0).to(tl.int32)
    place = before + tl.cumsum(kept, 0) - 1
    mine = kept != 0
    tl.store(token_U + place, token, mask=mine)
    for start in range(0, tl.where(own > 0, rows, 0), BLOCK_ROWS):
        row = start + tl.arange(0, BLOCK_ROWS)
        mask = (row < rows)[:, None] & mine[None, :]
        wide = row.to(tl.int64)[:, None]
        p = tl.load(p_TV + wide * vocab + token[None, :], mask=mask)
        tl.store(packed_TU + wide * stride + place[None, :], p, mask=mask)
    if block == 0:
        total = tl.sum(counts, 0)
        tl.store(total_1, total)
        pad = total + tl.arange(0, PAD)
        empty = pad < tl.cdiv(total, PAD) * PAD
        tl.store(token_U + pad, 0, mask=empty)
        for start in range(0, rows, BLOCK_ROWS):
            row = start + tl.arange(0, BLOCK_ROWS)
            place_2d = packed_TU + row.to(tl.int64)[:, None] * stride + pad[None, :]
            tl.store(place_2d, 0.0, mask=(row < rows)[:, None] & empty[None, :])


@triton.jit
def packed_product(
    packed_TU,
    token_U,
    total_1,
    weight_VD,
    part_STD,
    rows,
    stride,
    size,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    PARTS: tl.constexpr,
):
    """One program: BLOCK_ROWS positions by BLOCK_OUT channels over a part of the list.

    How long the list is stands on the device; a part beyond its end writes zeros.
    """
    tiles = tl.cdiv(rows, BLOCK_ROWS)
    program, part = tl.program_id(0), tl.program_id(1)
    row = program % tiles * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    out = program // tiles * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    valid, inside = row < rows, out < size
    steps = tl.cdiv(tl.load(total_1), BLOCK_INNER)
    part_steps = tl.cdiv(steps, PARTS)
    first = part * part_steps
    listed = packed_TU + row.to(tl.int64)[:, None] * stride
    acc = tl.zeros([BLOCK_ROWS, BLOCK_OUT], tl.float32)
    for step in range(first, tl.minimum(first + part_steps, steps)):
        place = step * BLOCK_INNER + tl.arange(0, BLOCK_INNER)
        token = tl.load(token_U + place).to(tl.int64)
        p = tl.load(listed + place[None, :], mask=valid[:, None], other=0.0)
        rows_of = weight_VD + token[:, None] * size + out[None, :]
        acc = tl.dot(p, tl.load(rows_of, mask=inside[None, :], other=0.0), acc)
    pointers = part_STD + (part * rows + row).to(tl.int64)[:, None] * size + out[None, :]
    tl.store(pointers, acc, mask=valid[:, None] & inside[None, :])
