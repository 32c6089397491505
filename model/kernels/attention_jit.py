"""Device code of `model.kernels.attention`.

How many positions are cached before the L new ones is read on the device. Keys are slots of a ring:
position p lies in slot p mod K, and slots that hold none yet are never looked at.

Legend: B seqs, L positions, N heads, G KV heads, R = N / G, M = L * R rows of a KV head (token by
token), K keys, H head dim, P splits of the keys, T tiles of keys.
"""

import triton
import triton.language as tl

from model.kernels.glue_jit import divided, row_scale
from model.kernels.overlap_jit import begin

LOG2E: tl.constexpr = tl.constexpr(1.4426950408889634)
# A masked score: finite, so that no row becomes NaN, and a power of two, so that its product with
# LOG2E is exact: a fused multiply-add of it and of a row's maximum, both HIDDEN, must give 0.
HIDDEN: tl.constexpr = tl.constexpr(-(2.0**100))
EMPTY: tl.constexpr = tl.constexpr(-(2.0**101))  # the weight of a split without keys


@triton.jit
def _keys_tile(
    x, batch, group, start, end, column, stride_b, stride_g, stride_k,
    KEYS: tl.constexpr, COLUMNS: tl.constexpr, TMA: tl.constexpr,
):  # fmt: skip
    """[KEYS, COLUMNS] of keys or values from `start` on; no slot past the last one is read."""
    if TMA:
        tile = x.load([batch, group, start, column]).reshape([KEYS, COLUMNS])
    else:
        first = x + batch.to(tl.int64) * stride_b + group.to(tl.int64) * stride_g
        keys = start + tl.arange(0, KEYS)
        columns = column + tl.arange(0, COLUMNS)
        pointers = first + keys.to(tl.int64)[:, None] * stride_k + columns[None, :]
        tile = tl.load(pointers, mask=(keys < end)[:, None], other=0.0)
    return tile


@triton.jit
def _turn(after, num_keys, KEYS: tl.constexpr):
    """How a ring of slots lies after so many positions, in tiles of KEYS slots.

    Slots before the cursor hold this turn's positions, the first of which is `turn`; once the ring
    is full, those from it on hold the last turn's. No tile holds both: they come one after the
    other.

    Returns:
        cursor, turn, tiles before the cursor, tiles in all.
    """
    full = after > num_keys
    cursor = tl.where(full, after % num_keys, after)
    new_tiles = tl.cdiv(cursor, KEYS)
    old_tiles = tl.where(full, tl.cdiv(num_keys - cursor, KEYS), 0)
    return cursor, after - cursor, new_tiles, new_tiles + old_tiles


@triton.jit
def _visible(
    cached, start, first_token, last_token, turn, num_tiles,
    KEYS: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
):  # fmt: skip
    """First tile that any of these tokens may see, and one past the last one."""
    first, end = start // KEYS, num_tiles
    if CAUSAL:
        end = tl.minimum(end, (cached + last_token) // KEYS + 1)
        if WINDOW > 0:
            first = tl.maximum(start, cached + first_token - WINDOW + 1) // KEYS
    # Slots are positions in the first turn alone.
    first, end = tl.where(turn > 0, 0, first), tl.where(turn > 0, num_tiles, end)
    return tl.minimum(first, end), end


@triton.jit
def _slots(tile, cursor, turn, new_tiles, num_keys, KEYS: tl.constexpr):
    """A tile's first slot, one past its last one, and how far positions are ahead of slots."""
    is_new = tile < new_tiles
    place = tl.where(is_new, tile * KEYS, cursor + (tile - new_tiles) * KEYS)
    return place, tl.where(is_new, cursor, num_keys), tl.where(is_new, turn, turn - num_keys)


@triton.jit
def _hide(
    scores, slot, end, ahead, start, query,
    CAUSAL: tl.constexpr, WINDOW: tl.constexpr, PADDED: tl.constexpr,
):  # fmt: skip
    """Scores of tokens at `query` with a tile's slots, HIDDEN where one does not see the other."""
    if CAUSAL:
        seen = slot[None, :] <= tl.minimum(query - ahead, end - 1)[:, None]
        if WINDOW > 0:
            seen = seen & (slot[None, :] > (query - ahead - WINDOW)[:, None])
        if PADDED:
            seen = seen & (slot >= start - ahead)[None, :]
    else:
        real = slot < end
        if PADDED:
            real = real & (slot >= start - ahead)
        seen = real[None, :]
    return tl.where(seen, scores, HIDDEN)


@triton.jit(do_not_specialize=["length", "num_keys"])
def attend(
    q, k, v, cached_1, start_B, out, lse_PBGM,
    length, num_keys, q_stride_b, q_stride_n, q_stride_l,
    k_stride_b, k_stride_g, k_stride_k, v_stride_b, v_stride_g, v_stride_k,
    G: tl.constexpr, R: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    COLUMNS: tl.constexpr, SPLIT: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    PADDED: tl.constexpr, TMA: tl.constexpr, STAGES: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows of a KV head, a split of the keys, COLUMNS of the head.

    Writes the result [B, L, N, H], or with SPLIT a part of it [P, B, G, M, H], normalised, and the
    base-2 logarithm of its weight.

    The positions cached before these tokens are counted on the device: only slots that hold one
    are read, cut evenly into the splits.
    """
    begin(OVERLAP)
    HALVES: tl.constexpr = H // COLUMNS
    block, column = tl.program_id(0) // HALVES, tl.program_id(0) % HALVES * COLUMNS
    split = tl.program_id(1)
    batch, group = tl.program_id(2) // G, tl.program_id(2) % G
    row = block * ROWS + tl.arange(0, ROWS)
    real = row < length * R
    token, head = row // R, group * R + row % R
    cached = tl.load(cached_1).to(tl.int32)
    start = tl.load(start_B + batch).to(tl.int32) if PADDED else 0
    cursor, turn, new_tiles, num_tiles = _turn(cached + length, num_keys, KEYS)
    first, end = _visible(
        cached, start, block * ROWS // R, tl.minimum((block * ROWS + ROWS - 1) // R, length - 1),
        turn, num_tiles, KEYS, CAUSAL, WINDOW,
    )  # fmt: skip
    if SPLIT:
        split_tiles = tl.cdiv(num_tiles, tl.num_programs(1))
        first = tl.maximum(first, split * split_tiles)
        end = tl.minimum(end, split * split_tiles + split_tiles)

    inner = tl.arange(0, H)
    q_row = q + batch.to(tl.int64) * q_stride_b + head.to(tl.int64) * q_stride_n
    q_row += token.to(tl.int64) * q_stride_l
    queries = tl.load(q_row[:, None] + inner[None, :], mask=real[:, None], other=0.0)
    highest = tl.full([ROWS], HIDDEN, tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, COLUMNS], tl.float32)
    for tile in tl.range(first, end, num_stages=STAGES):
        place, limit, ahead = _slots(tile, cursor, turn, new_tiles, num_keys, KEYS)
        keys = _keys_tile(
            k, batch, group, place, limit, 0, k_stride_b, k_stride_g, k_stride_k, KEYS, H, TMA
        )
        scores = _hide(
            tl.dot(queries, tl.trans(keys)), place + tl.arange(0, KEYS), limit, ahead, start,
            cached + token, CAUSAL, WINDOW, PADDED,
        )  # fmt: skip
        higher = tl.maximum(highest, tl.max(scores, 1))
        weights = tl.exp2(scores * LOG2E - (higher * LOG2E)[:, None])
        shrink = tl.exp2((highest - higher) * LOG2E)
        total = total * shrink + tl.sum(weights, 1)
        mixed = mixed * shrink[:, None]
        values = _keys_tile(
            v, batch, group, place, limit, column, v_stride_b, v_stride_g, v_stride_k,
            KEYS, COLUMNS, TMA,
        )  # fmt: skip
        mixed = tl.dot(weights.to(values.dtype), values, mixed)
        highest = higher

    mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
    if SPLIT:
        at = (split * tl.num_programs(2) + tl.program_id(2)).to(tl.int64) * (length * R) + row
        if column == 0:
            log = highest * LOG2E + tl.log2(tl.where(total > 0, total, 1.0))
            tl.store(lse_PBGM + at, tl.where(total > 0, log, EMPTY), mask=real)
        real = real & (total > 0)
    else:
        at = (batch.to(tl.int64) * length + token) * (G * R) + head
    columns = column + tl.arange(0, COLUMNS)
    written = out + at[:, None] * H + columns[None, :]
    tl.store(written, mixed.to(out.dtype.element_ty), mask=real[:, None])


@triton.jit
def _mean(
    part_PBGMH, lse_PBGM, place, per_split, column, real, H: tl.constexpr, SPLITS: tl.constexpr
):  # fmt: skip
    """Weighted mean over the splits of the rows at `place`, `per_split` rows apart, in order.

    Parts do not wait for their weights: one without keys holds anything, and is loaded too.
    """
    logs, inside = (), place[:, None] * H + column[None, :]
    highest = tl.full(place.shape, 3 * HIDDEN, tl.float32)
    for split in tl.static_range(SPLITS):
        logs += (tl.load(lse_PBGM + split * per_split + place, mask=real),)
        highest = tl.maximum(highest, logs[split])
    total = tl.zeros(place.shape, tl.float32)
    mixed = tl.zeros([place.shape[0], column.shape[0]], tl.float32)
    for split in tl.static_range(SPLITS):
        at = part_PBGMH + split * per_split * H + inside
        part = tl.load(at, mask=None if real is None else real[:, None]).to(tl.float32)
        weight = tl.exp2(logs[split] - highest)
        total += weight
        mixed += tl.where((logs[split] > EMPTY)[:, None], part, 0.0) * weight[:, None]
    return mixed / total[:, None]


@triton.jit(do_not_specialize=["length"])
def combine(
    part_PBGMH, lse_PBGM, out_BLNH, length,
    G: tl.constexpr, R: tl.constexpr, H: tl.constexpr, SPLITS: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """Weighted mean over the splits of ROWS rows and COLUMNS of the head."""
    begin(OVERLAP)
    batch, group = tl.program_id(1) // G, tl.program_id(1) % G
    row = tl.program_id(0) // (H // COLUMNS) * ROWS + tl.arange(0, ROWS)
    column = tl.program_id(0) % (H // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    real = row < length * R
    per_split = tl.num_programs(1).to(tl.int64) * (length * R)
    place = tl.program_id(1).to(tl.int64) * (length * R) + row
    mixed = _mean(part_PBGMH, lse_PBGM, place, per_split, column, real, H, SPLITS)
    token, head = row // R, group * R + row % R
    written = (batch.to(tl.int64) * length + token) * (G * R) + head
    out = out_BLNH + written[:, None] * H + column[None, :]
    tl.store(out, mixed.to(out_BLNH.dtype.element_ty), mask=real[:, None])


@triton.jit(do_not_specialize=["length"])
def combine_quantised(
    part_PBGMH, lse_PBGM, values_BLNH, scale_BL, length,
    G: tl.constexpr, R: tl.constexpr, H: tl.constexpr, SPLITS: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """`combine` of all heads of one token, rounded to bf16, then e4m3 with the token's scale."""
    begin(OVERLAP)
    token, batch = tl.program_id(0), tl.program_id(1)
    head, column = tl.arange(0, G * R), tl.arange(0, H)
    place = (batch * G + head // R).to(tl.int64) * (length * R) + token * R + head % R
    per_split = (tl.num_programs(1) * G).to(tl.int64) * (length * R)
    mixed = _mean(part_PBGMH, lse_PBGM, place, per_split, column, None, H, SPLITS)
    mixed = mixed.to(tl.bfloat16).to(tl.float32)
    scale = row_scale(tl.max(tl.abs(mixed)))
    written = batch.to(tl.int64) * length + token
    tl.store(scale_BL + written, scale)
    # Four values a thread, as fp32 parts are best loaded; sixteen, as e4m3 is best stored, would
    # spread a warp's loads over four times as many lines.
    at = tl.max_contiguous(head[:, None] * H + column[None, :], [1, 4])
    values = values_BLNH + written * (G * R * H) + at
    tl.store(values, divided(mixed, scale).to(values_BLNH.dtype.element_ty))


@triton.jit(do_not_specialize=["length", "num_splits"])
def combine_row(
    part_PBGMH, lse_PBGM, out_BLNH, length, num_splits,
    G: tl.constexpr, R: tl.constexpr, H: tl.constexpr, SPLITS: tl.constexpr, COLUMNS: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """`combine` of one row and many splits, at most SPLITS."""
    begin(OVERLAP)
    batch, group = tl.program_id(1) // G, tl.program_id(1) % G
    row = tl.program_id(0) // (H // COLUMNS)
    column = tl.program_id(0) % (H // COLUMNS) * COLUMNS + tl.arange(0, COLUMNS)
    split = tl.arange(0, SPLITS)
    real = split < num_splits
    per_split = tl.num_programs(1).to(tl.int64) * (length * R)
    at = split * per_split + tl.program_id(1) * (length * R) + row
    log = tl.load(lse_PBGM + at, mask=real, other=3 * HIDDEN)
    some = (log > EMPTY)[:, None]
    parts = tl.load(part_PBGMH + at[:, None] * H + column[None, :], mask=some, other=0.0)
    weight = tl.where(real, tl.exp2(log - tl.max(log, 0)), 0.0)
    mixed = tl.sum(parts.to(tl.float32) * weight[:, None], 0) / tl.sum(weight, 0)
    written = (batch.to(tl.int64) * length + row // R) * (G * R) + group * R + row % R
    tl.store(out_BLNH + written * H + column, mixed.to(out_BLNH.dtype.element_ty))


@triton.jit(do_not_specialize=["length", "num_keys"])
def score_tiles(
    q, k, cached_1, start_B, weights_BGMK, peak_BGTM, total_BGTM,
    length, num_keys, q_stride_b, q_stride_n, q_stride_l, k_stride_b, k_stride_g, k_stride_k,
    G: tl.constexpr, R: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    INNER: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr, PADDED: tl.constexpr,
    TMA: tl.constexpr, STAGES: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """One tile of weights exp(score - peak), bf16, with each row's peak and total in the tile."""
    begin(OVERLAP)
    tile, num_tiles = tl.program_id(0), tl.num_programs(0)
    batch, group = tl.program_id(2) // G, tl.program_id(2) % G
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    real = row < length * R
    token, head = row // R, group * R + row % R
    at = (tl.program_id(2) * num_tiles + tile) * (length * R) + row
    cached = tl.load(cached_1).to(tl.int32)
    start = tl.load(start_B + batch).to(tl.int32) if PADDED else 0
    cursor, turn, new_tiles, held_tiles = _turn(cached + length, num_keys, KEYS)
    first, end = _visible(
        cached, start, tl.program_id(1) * ROWS // R,
        tl.minimum((tl.program_id(1) * ROWS + ROWS - 1) // R, length - 1),
        turn, held_tiles, KEYS, CAUSAL, WINDOW,
    )  # fmt: skip
    if (tile >= end) | (tile < first):
        tl.store(peak_BGTM + at, tl.full([ROWS], EMPTY, tl.float32), mask=real)
        tl.store(total_BGTM + at, tl.zeros([ROWS], tl.float32), mask=real)
    else:
        q_row = q + batch.to(tl.int64) * q_stride_b + head.to(tl.int64) * q_stride_n
        q_row += token.to(tl.int64) * q_stride_l
        place, limit, ahead = _slots(tile, cursor, turn, new_tiles, num_keys, KEYS)
        scores = tl.zeros([ROWS, KEYS], tl.float32)
        for inner in tl.range(0, H, INNER, num_stages=STAGES):
            columns = inner + tl.arange(0, INNER)
            queries = tl.load(q_row[:, None] + columns[None, :], mask=real[:, None], other=0.0)
            keys = _keys_tile(
                k, batch, group, place, limit, inner, k_stride_b, k_stride_g, k_stride_k,
                KEYS, INNER, TMA,
            )  # fmt: skip
            scores = tl.dot(queries, tl.trans(keys), scores)
        scores = _hide(
            scores, place + tl.arange(0, KEYS), limit, ahead, start, cached + token,
            CAUSAL, WINDOW, PADDED,
        )  # fmt: skip
        peak = tl.max(scores, 1)
        weights = tl.exp2(scores * LOG2E - (peak * LOG2E)[:, None])
        tl.store(peak_BGTM + at, peak, mask=real)
        tl.store(total_BGTM + at, tl.sum(weights, 1), mask=real)
        line = (tl.program_id(2).to(tl.int64) * (length * R) + row) * (num_tiles * KEYS)
        out = weights_BGMK + line[:, None] + (tile * KEYS + tl.arange(0, KEYS))[None, :]
        tl.store(out, weights.to(weights_BGMK.dtype.element_ty), mask=real[:, None])


@triton.jit(do_not_specialize=["length", "num_keys", "num_tiles"])
def mix_tiles(
    weights_BGMK, peak_BGTM, total_BGTM, v, cached_1, start_B, out_BLNH,
    length, num_keys, num_tiles, v_stride_b, v_stride_g, v_stride_k,
    G: tl.constexpr, R: tl.constexpr, H: tl.constexpr, TILE: tl.constexpr, ROWS: tl.constexpr,
    KEYS: tl.constexpr, COLUMNS: tl.constexpr, CAUSAL: tl.constexpr, WINDOW: tl.constexpr,
    PADDED: tl.constexpr, TMA: tl.constexpr, STAGES: tl.constexpr,
    OVERLAP: tl.constexpr,
):  # fmt: skip
    """ROWS rows and COLUMNS of the head of weights @ v, tiles of TILE keys brought to one peak."""
    begin(OVERLAP)
    block, column = tl.program_id(0) // (H // COLUMNS), tl.program_id(0) % (H // COLUMNS) * COLUMNS
    batch, group = tl.program_id(1) // G, tl.program_id(1) % G
    row = block * ROWS + tl.arange(0, ROWS)
    real = row < length * R
    token, head = row // R, group * R + row % R
    at = tl.program_id(1) * num_tiles * (length * R) + row
    cached = tl.load(cached_1).to(tl.int32)
    start = tl.load(start_B + batch).to(tl.int32) if PADDED else 0
    cursor, turn, new_tiles, held_tiles = _turn(cached + length, num_keys, TILE)
    first, end = _visible(
        cached, start, block * ROWS // R, tl.minimum((block * ROWS + ROWS - 1) // R, length - 1),
        turn, held_tiles, TILE, CAUSAL, WINDOW,
    )  # fmt: skip
    highest = tl.full([ROWS], EMPTY, tl.float32)
    for tile in range(first, end):
        peak = tl.load(peak_BGTM + at + tile * (length * R), mask=real, other=0.0)
        highest = tl.maximum(highest, peak)
    total = tl.zeros([ROWS], tl.float32)
    mixed = tl.zeros([ROWS, COLUMNS], tl.float32)
    line = (tl.program_id(1).to(tl.int64) * (length * R) + row) * (num_tiles * TILE)
    for part in tl.range(first * TILE, end * TILE, KEYS, num_stages=STAGES):
        tile = part // TILE
        place, limit, _ = _slots(tile, cursor, turn, new_tiles, num_keys, TILE)
        peak = tl.load(peak_BGTM + at + tile * (length * R), mask=real, other=0.0)
        count = tl.load(total_BGTM + at + tile * (length * R), mask=real, other=0.0)
        shrink = tl.exp2((peak - highest) * LOG2E)
        total += tl.where(part % TILE == 0, count * shrink, 0.0)
        pointers = weights_BGMK + line[:, None] + (part + tl.arange(0, KEYS))[None, :]
        weights = tl.load(pointers, mask=real[:, None], other=0.0).to(tl.float32)
        weights = tl.where((count > 0)[:, None], weights * shrink[:, None], 0.0)
        values = _keys_tile(
            v, batch, group, place + part % TILE, limit, column, v_stride_b, v_stride_g,
            v_stride_k, KEYS, COLUMNS, TMA,
        )  # fmt: skip
        mixed = tl.dot(weights.to(values.dtype), values, mixed)
    mixed = mixed / tl.where(total > 0, total, 1.0)[:, None]
    written = (batch.to(tl.int64) * length + token) * (G * R) + head
    columns = column + tl.arange(0, COLUMNS)
    out = out_BLNH + written[:, None] * H + columns[None, :]
    tl.store(out, mixed.to(out_BLNH.dtype.element_ty), mask=real[:, None])
