"""Device code of `model.kernels.routing`.

Legend: T tokens, D model, E experts, K experts a token, N = T * K assignments, M row tiles, P
places, S parts of the depth, R rows.
"""

import triton
import triton.language as tl

from model.kernels.overlap_jit import begin

_TAKEN = tl.constexpr(-(2**31))  # less than the bits of any probability, nan or not


@triton.jit
def score_part(
    x_TD,
    weight_ED,
    parts_STE,
    tokens,
    D: tl.constexpr,
    NUM_EXPERTS: tl.constexpr,
    EXPERTS_POW2: tl.constexpr,
    PART: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
):
    """BLOCK_ROWS tokens by all experts over PART of the depth; weights on the left."""
    token = tl.program_id(0) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    expert = tl.arange(0, EXPERTS_POW2)
    part = tl.program_id(1)
    acc = tl.zeros([EXPERTS_POW2, BLOCK_ROWS], tl.float32)
    for inner in range(0, PART, BLOCK_INNER):
        depth = part * PART + inner + tl.arange(0, BLOCK_INNER)
        inside = depth < D
        weight = tl.load(
            weight_ED + expert[:, None] * D + depth[None, :],
            mask=(expert < NUM_EXPERTS)[:, None] & inside[None, :],
            other=0.0,
        )
        x = tl.load(
            x_TD + token[None, :] * D + depth[:, None],
            mask=(token < tokens)[None, :] & inside[:, None],
            other=0.0,
        )
        acc = tl.dot(weight, x, acc)
    out = parts_STE + (part * tokens + token)[None, :] * NUM_EXPERTS + expert[:, None]
    tl.store(out, acc, mask=(expert < NUM_EXPERTS)[:, None] & (token < tokens)[None, :])


@triton.jit
def route(
    score,
    expert,
    token,
    inside,
    per_expert_scale_E,
    expert_TK,
    weight_TK,
    NUM_EXPERTS: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_K_POW2: tl.constexpr,
):
    """Routes rows of scores [R, E] of tokens [R, 1]; experts [1, E] beyond the last have -inf.

    Probabilities are compared by their bits, which order as they do: integers of a whole warp have
    their largest in one instruction. Of equal ones the first expert is taken, never one twice.

    Returns:
        [R, E], whether an expert is chosen; of those beyond the last, true.
    """
    scale_E = tl.load(per_expert_scale_E + expert, mask=expert < NUM_EXPERTS, other=0.0)
    exp = tl.exp(score - tl.max(score, 1, keep_dims=True))
    bits = (exp / tl.sum(exp, 1, keep_dims=True)).to(tl.int32, bitcast=True)
    left = tl.where(expert < NUM_EXPERTS, bits, _TAKEN)
    slot = tl.arange(0, TOP_K_POW2)[None, :]
    chosen = tl.zeros([score.shape[0], TOP_K_POW2], tl.int32)
    probability = tl.zeros([score.shape[0], TOP_K_POW2], tl.float32)
    for k in tl.static_range(TOP_K):
        best = tl.max(left, 1, keep_dims=True)
        index = tl.min(tl.where(left == best, expert, NUM_EXPERTS), 1, keep_dims=True)
        chosen = tl.where(slot == k, index, chosen)
        probability = tl.where(slot == k, best.to(tl.float32, bitcast=True), probability)
        left = tl.where(expert == index, _TAKEN, left)
    scale = tl.gather(tl.broadcast_to(scale_E, score.shape), chosen, 1).to(tl.float32)
    weight = probability / tl.sum(probability, 1, keep_dims=True) * scale
    mask = inside & (slot < TOP_K)
    tl.store(expert_TK + token * TOP_K + slot, chosen, mask=mask)
    tl.store(weight_TK + token * TOP_K + slot, weight, mask=mask)
    return left == _TAKEN


@triton.jit
def score_parts_kernel(
    x_TD,
    weight_ED,
    parts_STE,
    tokens,
    D: tl.constexpr,
    NUM_EXPERTS: tl.constexpr,
    EXPERTS_POW2: tl.constexpr,
    PART: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: a part of the scores of BLOCK_ROWS tokens."""
    begin(OVERLAP)
    score_part(
        x_TD, weight_ED, parts_STE, tokens,
        D, NUM_EXPERTS, EXPERTS_POW2, PART, BLOCK_ROWS, BLOCK_INNER,
    )  # fmt: skip


@triton.jit
def route_kernel(
    scores_STE,
    per_expert_scale_E,
    expert_TK,
    weight_TK,
    stride_S,
    stride_T,
    PARTS: tl.constexpr,
    NUM_EXPERTS: tl.constexpr,
    EXPERTS_POW2: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_K_POW2: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program a token. PARTS of a score, if any, are summed in order and rounded to bf16."""
    begin(OVERLAP)
    token = tl.program_id(0) + tl.arange(0, 1)[:, None]
    expert = tl.arange(0, EXPERTS_POW2)[None, :]
    real = expert < NUM_EXPERTS
    scores = scores_STE + token * stride_T + expert
    score = tl.load(scores, mask=real, other=float("-inf")).to(tl.float32)
    if PARTS > 0:
        for part in tl.static_range(1, PARTS):
            score += tl.load(scores + part * stride_S, mask=real, other=0.0)
        score = score.to(tl.bfloat16).to(tl.float32)
    route(
        score, expert, token, True, per_expert_scale_E, expert_TK, weight_TK,
        NUM_EXPERTS, TOP_K, TOP_K_POW2,
    )  # fmt: skip


@triton.jit
def sort_kernel(
    expert_N,
    assignment_P,
    tile_expert_M,
    num_tiles_1,
    assignments,
    max_tiles,
    EXPERTS_POW2: tl.constexpr,
    TILES_POW2: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program an expert: each counts all of them, so none waits for another."""
    begin(OVERLAP)
    mine = tl.program_id(0)
    lane = tl.arange(0, CHUNK)
    bins = tl.arange(0, EXPERTS_POW2)
    counts = tl.zeros([EXPERTS_POW2], tl.int32)
    for start in range(0, assignments, CHUNK):
        inside = start + lane < assignments
        expert = tl.load(expert_N + start + lane, mask=inside, other=0)
        counts += tl.histogram(expert, EXPERTS_POW2, mask=inside)
    tiles = (counts + (BLOCK_ROWS - 1)) // BLOCK_ROWS
    first = tl.sum(tl.where(bins < mine, tiles, 0), axis=0)
    own_tiles = tl.sum(tl.where(bins == mine, tiles, 0), axis=0)
    own_rows = tl.sum(tl.where(bins == mine, counts, 0), axis=0)
    base = first * BLOCK_ROWS

    done = 0
    for start in range(0, assignments, CHUNK):
        inside = start + lane < assignments
        expert = tl.load(expert_N + start + lane, mask=inside, other=-1)
        hit = (expert == mine).to(tl.int32)
        place = base + done + tl.cumsum(hit, axis=0) - 1
        tl.store(assignment_P + place, start + lane, mask=hit != 0)
        done += tl.sum(hit, axis=0)
    padding = own_rows + tl.arange(0, BLOCK_ROWS)
    tl.store(assignment_P + base + padding, assignments, mask=padding < own_tiles * BLOCK_ROWS)

    tile = tl.arange(0, TILES_POW2)
    tl.store(tile_expert_M + tile, mine, mask=(tile >= first) & (tile < first + own_tiles))
    if mine == 0:
        total = tl.sum(tiles, axis=0)
        tl.store(tile_expert_M + tile, -1, mask=(tile >= total) & (tile < max_tiles))
        tl.store(num_tiles_1, total)
