"""Device code of `model.kernels.routing.route_and_sort`.

Legend: T tokens, D model, E experts, K experts a token, N = T * K assignments, M row tiles, P
places, S parts of the depth, U token tiles.
"""

import triton
import triton.language as tl

from model.kernels.last_jit import is_last
from model.kernels.overlap_jit import begin
from model.kernels.routing_jit import route, score_part


@triton.jit
def route_and_sort_kernel(
    x_TD,
    weight_ED,
    parts_STE,
    arrived,
    per_expert_scale_E,
    expert_TK,
    weight_TK,
    chosen_EU,
    assignment_P,
    tile_expert_M,
    num_tiles_1,
    tokens,
    places,
    max_tiles,
    top_k,
    D: tl.constexpr,
    PARTS: tl.constexpr,
    NUM_EXPERTS: tl.constexpr,
    EXPERTS_POW2: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_K_POW2: tl.constexpr,
    PART: tl.constexpr,
    TOKEN_ROWS: tl.constexpr,
    MOST_TOKEN_TILES: tl.constexpr,
    TOKEN_TILES_POW2: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    FILL: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """`score_parts_kernel`; the last program of a token tile routes it, the last of those sorts.

    Before, all of them together write what the answer has where it has no row. Which tokens chose
    an expert is left to the sort as bits, a word for each of the U token tiles.

    Args:
        arrived: MOST_TOKEN_TILES + 1 zeros, before and after.
        chosen_EU: [E, MOST_TOKEN_TILES], undefined before.
        top_k: TOP_K, but unknown to the compiler, see `_sort`.
    """
    begin(OVERLAP)
    token_tile, token_tiles = tl.program_id(0), tl.num_programs(0)
    fill = (token_tile * PARTS + tl.program_id(1)) * FILL + tl.arange(0, FILL)
    tl.store(assignment_P + fill, tokens * TOP_K, mask=fill < places)
    tl.store(tile_expert_M + fill, -1, mask=fill < max_tiles)
    if tl.program_id(1) == 0:
        expert = tl.arange(0, EXPERTS_POW2)
        none = chosen_EU + expert * MOST_TOKEN_TILES + token_tile
        tl.store(none, 0, mask=expert < NUM_EXPERTS)
    score_part(
        x_TD, weight_ED, parts_STE, tokens,
        D, NUM_EXPERTS, EXPERTS_POW2, PART, TOKEN_ROWS, BLOCK_INNER,
    )  # fmt: skip
    if is_last(arrived + token_tile, PARTS):
        row = tl.arange(0, TOKEN_ROWS)[:, None]
        token = token_tile * TOKEN_ROWS + row
        expert = tl.arange(0, EXPERTS_POW2)[None, :]
        inside = token < tokens
        real = inside & (expert < NUM_EXPERTS)
        scores = parts_STE + token * NUM_EXPERTS + expert
        score = tl.load(scores, mask=real, other=0.0, cache_modifier=".cg")
        for part in tl.static_range(1, PARTS):
            later = scores + part * tokens * NUM_EXPERTS
            score += tl.load(later, mask=real, other=0.0, cache_modifier=".cg")
        score = tl.where(expert < NUM_EXPERTS, score.to(tl.bfloat16).to(tl.float32), float("-inf"))
        chosen = route(
            score, expert, token, inside, per_expert_scale_E, expert_TK, weight_TK,
            NUM_EXPERTS, TOP_K, TOP_K_POW2,
        )  # fmt: skip
        mine = chosen_EU + expert * MOST_TOKEN_TILES + token_tile + 0 * row
        tl.atomic_or(mine, 1 << row, mask=chosen & real, sem="relaxed")
        if is_last(arrived + MOST_TOKEN_TILES, token_tiles):
            _sort(
                chosen_EU, expert_TK, assignment_P, tile_expert_M, num_tiles_1,
                tokens, token_tiles, top_k, NUM_EXPERTS, EXPERTS_POW2, TOP_K, TOP_K_POW2,
                TOKEN_ROWS, MOST_TOKEN_TILES, TOKEN_TILES_POW2, BLOCK_ROWS,
            )  # fmt: skip


@triton.jit
def _sort(
    chosen_EU,
    expert_N,
    assignment_P,
    tile_expert_M,
    num_tiles_1,
    tokens,
    token_tiles,
    top_k,
    NUM_EXPERTS: tl.constexpr,
    EXPERTS_POW2: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_K_POW2: tl.constexpr,
    TOKEN_ROWS: tl.constexpr,
    MOST_TOKEN_TILES: tl.constexpr,
    TOKEN_TILES_POW2: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
):
    """`sort_kernel` by one program, of what others routed; padding and unused tiles are written.

    Nothing is compared: no token chooses an expert twice, so an expert's row of a token comes after
    those of earlier token tiles and of the earlier tokens of its own, and bits count both.
    """
    lane = tl.arange(0, TOKEN_TILES_POW2 * TOKEN_ROWS * TOP_K_POW2)
    token, slot = lane // TOP_K_POW2, lane % TOP_K_POW2
    inside = (token < tokens) & (slot < TOP_K)
    # With TOP_K each thread would load four at once, but they are stored one by one.
    here = expert_N + token * top_k + slot
    own = tl.load(here, mask=inside, other=0, cache_modifier=".cg")
    expert = tl.arange(0, EXPERTS_POW2)
    token_tile = tl.arange(0, TOKEN_TILES_POW2)[None, :]
    chosen = tl.load(
        chosen_EU + expert[:, None] * MOST_TOKEN_TILES + token_tile,
        mask=(expert < NUM_EXPERTS)[:, None],
        other=0,
        cache_modifier=".cg",
    )
    chosen = tl.where(token_tile < token_tiles, chosen, 0)

    counts = _ones(chosen)
    tiles = (tl.sum(counts, 1) + (BLOCK_ROWS - 1)) // BLOCK_ROWS
    end = tl.cumsum(tiles, 0)
    first = end - tiles
    start = first[:, None] * BLOCK_ROWS + tl.cumsum(counts, 1) - counts
    words = tl.reshape((start << TOKEN_ROWS) | chosen, [EXPERTS_POW2 * TOKEN_TILES_POW2])
    word = tl.gather(words, own * TOKEN_TILES_POW2 + token // TOKEN_ROWS, 0)
    earlier = word & ((1 << (token % TOKEN_ROWS)) - 1)
    place = (word >> TOKEN_ROWS) + _ones(earlier)
    tl.store(assignment_P + place, token * TOP_K + slot, mask=inside)

    for tile in range(tl.cdiv(tokens, BLOCK_ROWS)):  # the most that an expert can have
        tl.store(tile_expert_M + first + tile, expert, mask=tile < tiles)
    tl.store(num_tiles_1 + 0 * expert, end, mask=expert == EXPERTS_POW2 - 1)


@triton.jit
def _ones(bits):
    """How many bits of int32 are ones; one instruction."""
    bits = bits.to(tl.uint32)
    bits = bits - ((bits >> 1) & 0x55555555)
    bits = (bits & 0x33333333) + ((bits >> 2) & 0x33333333)
    bits = (bits + (bits >> 4)) & 0x0F0F0F0F
    return ((bits * 0x01010101) >> 24).to(tl.int32)
