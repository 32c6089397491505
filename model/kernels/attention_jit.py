"""Device code of `model.kernels.attention`.

Legend: B seqs, L positions, N heads, G KV heads, R = N / G, M = L * R rows of a KV head (token by
token), K keys, H head dim, P splits of the keys, T tiles of keys.
"""

import triton
import triton.language as tl

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
NO_KEY: tl.constexpr = tl.constexpr(2147483647)
# A masked score: finite, so that no row becomes NaN, and a power of two, so that its product with
# LOG2E is exact: a fused multiply-add of it and of a row's maximum, both HIDDEN, must give 0.
HIDDEN: tl.constexpr = tl.constexpr(-(2.0**100))


@triton.jit
def _keys_tile(
    x, batch, group, start, end, column, stride_b, stride_g, stride_k,
    KEYS: tl.constexpr, COLUMNS: tl.constexpr, TMA: tl.constexpr, WHOLE: tl.constexpr,
):  # fmt: skip
    """[KEYS, COLUMNS] of keys or values from `start` on; zeros past the last key."""
    if TMA:
        tile = x.load([batch, group, start, column]).reshape([KEYS, COLUMNS])
    else:
        first = x + batch.to(tl.int64) * stride_b + group.to(tl.int64) * stride_g
        keys = start + tl.arange(0, KEYS)
        columns = column + tl.arange(0, COLUMNS)
        pointers = first + keys.to(tl.int64)[:, None] * stride_k + columns[None, :]
        if WHOLE:
            tile = tl.load(pointers)
        else:
            tile = tl.load(pointers, mask=(keys < end)[:, None], other=0.0)
    return tile


@triton.jit(do_not_specialize=["num_keys"])
def find_ranges(mask, range_BL2, num_keys, mask_stride_b, mask_stride_l, KEYS: tl.constexpr):
    """First visible key and one past the last one, of one position."""
    token, batch = tl.program_id(0), tl.program_id(1)
    row = mask + batch.to(tl.int64) * mask_stride_b + token.to(tl.int64) * mask_stride_l
    first = tl.full([KEYS], NO_KEY, tl.int32)
    last = tl.zeros([KEYS], tl.int32)
    for start in range(0, num_keys, KEYS):
        key = start + tl.arange(0, KEYS)
        seen = tl.load(row + key, mask=key < num_keys, other=0) != 0
        first = tl.minimum(first, tl.where(seen, key, NO_KEY))
        last = tl.maximum(last, tl.where(seen, key + 1, 0))
    out = range_BL2 + (batch * tl.num_programs(0) + token) * 2
    tl.store(out, tl.min(first, 0))
    tl.store(out + 1, tl.max(last, 0))


@triton.jit(do_not_specialize=["length", "num_keys", "split_keys"])
def attend(
    q, k, v, mask, range_BL2, out, lse_PBGM,
    length, num_keys, split_keys, q_stride_b, q_stride_n, q_stride_l,
    k_stride_b, k_stride_g, k_stride_k, v_stride_b, v_stride_g, v_stride_k,
    mask_stride_b, range_stride_b, range_stride_l,
    G: tl.constexpr, R: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    COLUMNS: tl.constexpr, SPLIT: tl.constexpr, RANGES: tl.constexpr,
    SCAN: tl.constexpr, WHOLE: tl.constexpr, TMA: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows of a KV head, a split of the keys, COLUMNS of the head.

    Writes the result [B, L, N, H], or with SPLIT a part of it [P, B, G, M, H], normalised, and the
    base-2 logarithm of its weight.

    RANGES: every position sees a range of keys, first and end. SCAN: not 0 where the range of the
    only position is read off its mask here, SCAN keys at once. WHOLE: all tiles are full.
    """
    HALVES: tl.constexpr = H // COLUMNS
    block, column = tl.program_id(0) // HALVES, tl.program_id(0) % HALVES * COLUMNS
    split = tl.program_id(1)
    batch, group = tl.program_id(2) // G, tl.program_id(2) % G
    row = block * ROWS + tl.arange(0, ROWS)
    real = row < length * R
    token, head = row // R, group * R + row % R
    first = split * split_keys
    end = tl.minimum(first + split_keys, num_keys)
    if RANGES:
        bounds = range_BL2 + batch * range_stride_b + token * range_stride_l
        row_first = tl.load(bounds, mask=real, other=NO_KEY)
        row_end = tl.minimum(tl.load(bounds + 1, mask=real, other=0), end)
        first = tl.maximum(first, tl.min(row_first, 0))
        end = tl.max(row_end, 0)
    if SCAN > 0:
        slot = first + tl.arange(0, SCAN)
        bits = mask + batch.to(tl.int64) * mask_stride_b + slot
        visible = tl.load(bits, mask=slot < end, other=0) != 0
        first = tl.min(tl.where(visible, slot, NO_KEY), 0)
        end = tl.max(tl.where(visible, slot + 1, 0), 0)
    # Nothing visible is an empty loop; a start near the largest integer would overflow in it.
    first = tl.minimum(first, end)

    inner = tl.arange(0, H)
    q_row = q + batch.to(tl.int64) * q_stride_b + head.to(tl.int64) * q_stride_n
    q_row += token.to(tl.int64) * q_stride_l
    queries = tl.load(q_row[:, None] + inner[None, :], mask=real[:, None], other=0.0)
    highest = tl.full([ROWS], HIDDEN, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, COLUMNS], tl.float32)
    for start in tl.range(first, end, KEYS, num_stages=STAGES):
        keys = _keys_tile(
            k, batch, group, start, end, 0, k_stride_b, k_stride_g, k_stride_k,
            KEYS, H, TMA, WHOLE,
        )  # fmt: skip
        scores = tl.dot(queries, tl.trans(keys))
        key = start + tl.arange(0, KEYS)
        if RANGES:
            seen = (key[None, :] >= row_first[:, None]) & (key[None, :] < row_end[:, None])
            scores = tl.where(seen, scores, HIDDEN)
        elif not WHOLE:
            scores = tl.where((key < end)[None, :], scores, float("-inf"))
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores * LOG2E - (higher * LOG2E)[:, None])
        shrink = tl.exp2((highest - higher) * LOG2E)
        total = total * shrink + tl.sum(weights, 1)
        mixed = mixed * shrink[:, None]
        values = _keys_tile(
            v, batch, group, start, end, column, v_stride_b, v_stride_g, v_stride_k,
            KEYS, COLUMNS, TMA, WHOLE,
        )  # fmt: skip
        mixed = tl.dot(weights.to(values.dtype), values, mixed)
        highest = higher

    mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
    if SPLIT:
        place = (split * tl.num_programs(2) + tl.program_id(2)).to(tl.int64) * (length * R) + row
        if column == 0:
            log = highest * LOG2E + tl.log2(tl.where(total > 0, total, 1.0))
            tl.store(lse_PBGM + place, tl.where(total > 0, log, 2 * HIDDEN), mask=real)
    else:
        place = (batch.to(tl.int64) * length + token) * (G * R) + head
    columns = column + tl.arange(0, COLUMNS)
    written = out + place[:, None] * H + columns[None, :]
    tl.store(written, mixed.to(out.dtype.element_ty), mask=real[:, None])


@triton.jit(do_not_specialize=["length"])
def combine(
    part_PBGMH, lse_PBGM, out_BLNH, length,
    G: tl.constexpr, R: tl.constexpr, H: tl.constexpr, SPLITS: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):  # fmt: skip
    """Weighted mean over the splits of ROWS rows and COLUMNS of the head; all loads at once."""
    batch, group = tl.program_id(1) // G, tl.program_id(1) % G
    row = tl.program_id(0) // (H // COLUMNS) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % (H // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    real = row < length * R
    per_split = tl.num_programs(1).to(tl.int64) * (length * R)
    place = tl.program_id(1).to(tl.int64) * (length * R) + row
    highest = tl.full([ROWS], 3 * HIDDEN, tl.float32)
    for split in tl.static_range(SPLITS):
        log = tl.load(lse_PBGM + split * per_split + place, mask=real, other=0.0)
        highest = tl.maximum(highest, log)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, COLUMNS], tl.float32)
    for split in tl.static_range(SPLITS):
        at = split * per_split + place
        part = tl.load(
            part_PBGMH + at[:, None] * H + column[None, :], mask=real[:, None], other=0.0
        )
        weight = tl.exp2(tl.load(lse_PBGM + at, mask=real, other=0.0) - highest)
        total += weight
        mixed += part.to(tl.float32) * weight[:, None]
    mixed = mixed / total[:, None]
    token, head = row // R, group * R + row % R
    written = (batch.to(tl.int64) * length + token) * (G * R) + head
    out = out_BLNH + written[:, None] * H + column[None, :]
    tl.store(out, mixed.to(out_BLNH.dtype.element_ty), mask=real[:, None])


@triton.jit(do_not_specialize=["length", "num_splits"])
def combine_row(
    part_PBGMH, lse_PBGM, out_BLNH, length, num_splits,
    G: tl.constexpr, R: tl.constexpr, H: tl.constexpr, SPLITS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """`combine` of one row and many splits, at most SPLITS."""
    batch, group = tl.program_id(1) // G, tl.program_id(1) % G
    row = tl.program_id(0) // (H // COLUMNS)
    column = tl.program_id(0) % (H // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.arange(0, SPLITS)
    real = split < num_splits
    per_split = tl.num_programs(1).to(tl.int64) * (length * R)
    at = split * per_split + tl.program_id(1) * (length * R) + row
    log = tl.load(lse_PBGM + at, mask=real, other=3 * HIDDEN)
    parts = tl.load(part_PBGMH + at[:, None] * H + column[None, :], mask=real[:, None], other=0.0)
    weight = tl.where(real, tl.exp2(log - tl.max(log, 0)), 0.0)
    mixed = tl.sum(parts.to(tl.float32) * weight[:, None], 0) / tl.sum(weight, 0)
    written = (batch.to(tl.int64) * length + row // R) * (G * R) + group * R + row % R
    tl.store(out_BLNH + written * H + column, mixed.to(out_BLNH.dtype.element_ty))


@triton.jit(do_not_specialize=["length", "num_keys"])
def score_tiles(
    q, k, range_BL2, weights_BGMK, peak_BGTM, total_BGTM,
    length, num_keys, q_stride_b, q_stride_n, q_stride_l, k_stride_b, k_stride_g, k_stride_k,
    range_stride_b, range_stride_l,
    G: tl.constexpr, R: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    INNER: tl.constexpr, RANGES: tl.constexpr, TMA: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """One tile of weights exp(score - peak), bf16, with each row's peak and total in the tile."""
    tile, num_tiles = tl.program_id(0), tl.num_programs(0)
    batch, group = tl.program_id(2) // G, tl.program_id(2) % G
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    real = row < length * R
    token, head = row // R, group * R + row % R
    key = tile * KEYS + tl.arange(0, KEYS)
    place = (tl.program_id(2) * num_tiles + tile) * (length * R) + row
    first, end = tile * KEYS, num_keys
    if RANGES:
        bounds = range_BL2 + batch * range_stride_b + token * range_stride_l
        row_first = tl.load(bounds, mask=real, other=NO_KEY)
        row_end = tl.load(bounds + 1, mask=real, other=0)
        first, end = tl.min(row_first, 0), tl.max(row_end, 0)
    if (tile * KEYS >= end) | (tile * KEYS + KEYS <= first):
        tl.store(peak_BGTM + place, tl.full([ROWS], 2 * HIDDEN, tl.float32), mask=real)
        tl.store(total_BGTM + place, tl.zeros([ROWS], tl.float32), mask=real)
    else:
        q_row = q + batch.to(tl.int64) * q_stride_b + head.to(tl.int64) * q_stride_n
        q_row += token.to(tl.int64) * q_stride_l
        scores = tl.zeros([ROWS, KEYS], tl.float32)
        for inner in tl.range(0, H, INNER, num_stages=STAGES):
            columns = inner + tl.arange(0, INNER)
            queries = tl.load(q_row[:, None] + columns[None, :], mask=real[:, None], other=0.0)
            keys = _keys_tile(
                k, batch, group, tile * KEYS, num_keys, inner, k_stride_b, k_stride_g, k_stride_k,
                KEYS, INNER, TMA, False,
            )  # fmt: skip
            scores = tl.dot(queries, tl.trans(keys), scores)
        if RANGES:
            seen = (key[None, :] >= row_first[:, None]) & (key[None, :] < row_end[:, None])
            scores = tl.where(seen, scores, HIDDEN)
        scores = tl.where((key < num_keys)[None, :], scores, float("-inf"))
        peak = tl.max(scores, 1)
        weights = tl.exp2(scores * LOG2E - (peak * LOG2E)[:, None])
        tl.store(peak_BGTM + place, peak, mask=real)
        tl.store(total_BGTM + place, tl.sum(weights, 1), mask=real)
        at = (tl.program_id(2).to(tl.int64) * (length * R) + row) * (num_tiles * KEYS)
        out = weights_BGMK + at[:, None] + key[None, :]
        tl.store(out, weights.to(weights_BGMK.dtype.element_ty), mask=real[:, None])


@triton.jit(do_not_specialize=["length", "num_keys", "num_tiles"])
def mix_tiles(
    weights_BGMK, peak_BGTM, total_BGTM, v, range_BL2, out_BLNH,
    length, num_keys, num_tiles, v_stride_b, v_stride_g, v_stride_k, range_stride_b, range_stride_l,
    G: tl.constexpr, R: tl.constexpr, H: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr,
    KEYS: tl.constexpr, COLUMNS: tl.constexpr, RANGES: tl.constexpr, TMA: tl.constexpr,
    STAGES: tl.constexpr,
):  # fmt: skip
    """ROWS rows and COLUMNS of the head of weights @ v, tiles of TILE keys brought to one peak."""
    block, column = tl.program_id(0) // (H // COLUMNS), tl.program_id(0) % (H // COLUMNS) * COLUMNS
    batch, group = tl.program_id(1) // G, tl.program_id(1) % G
    row = block * ROWS + tl.arange(0, ROWS)
    real = row < length * R
    token, head = row // R, group * R + row % R
    place = tl.program_id(1) * num_tiles * (length * R) + row
    first, end = 0, num_keys
    if RANGES:
        bounds = range_BL2 + batch * range_stride_b + token * range_stride_l
        first = tl.min(tl.load(bounds, mask=real, other=NO_KEY), 0) // TILE * TILE
        end = tl.minimum(tl.max(tl.load(bounds + 1, mask=real, other=0), 0), num_keys)
        first = tl.minimum(first, end // TILE * TILE)
        first = tl.minimum(first, end // TILE * TILE)
    highest = tl.full([ROWS], 2 * HIDDEN, tl.float32)
    for tile in range(first // TILE, tl.cdiv(end, TILE)):
        peak = tl.load(peak_BGTM + place + tile * (length * R), mask=real, other=0.0)
        highest = tl.maximum(highest, peak)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, COLUMNS], tl.float32)
    at = (tl.program_id(1).to(tl.int64) * (length * R) + row) * (num_tiles * TILE)
    for start in tl.range(first, end, KEYS, num_stages=STAGES):
        tile = start // TILE
        peak = tl.load(peak_BGTM + place + tile * (length * R), mask=real, other=0.0)
        count = tl.load(total_BGTM + place + tile * (length * R), mask=real, other=0.0)
        shrink = tl.exp2((peak - highest) * LOG2E)
        total += tl.where(start % TILE == 0, count * shrink, 0.0)
        pointers = weights_BGMK + at[:, None] + (start + tl.arange(0, KEYS))[None, :]
        weights = tl.load(pointers, mask=real[:, None], other=0.0).to(tl.float32)
        weights = tl.where((count > 0)[:, None], weights * shrink[:, None], 0.0)
        values = _keys_tile(
            v, batch, group, start, num_keys, column, v_stride_b, v_stride_g, v_stride_k,
            KEYS, COLUMNS, TMA, False,
        )  # fmt: skip
        mixed = tl.dot(weights.to(values.dtype), values, mixed)
    mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
    written = (batch.to(tl.int64) * length + token) * (G * R) + head
    columns = column + tl.arange(0, COLUMNS)
    out = out_BLNH + written[:, None] * H + columns[None, :]
    tl.store(out, mixed.to(out_BLNH.dtype.element_ty), mask=real[:, None])
