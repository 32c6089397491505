"""Device code of `model.kernels.experts`.

Legend: T tokens, D model, E experts, G = 2F gate and up rows, F expert hidden, N assignments, M row
tiles, P places of the sorted assignments.
"""

import triton
import triton.language as tl

from model.kernels.last_jit import is_last, quantise_at
from model.kernels.overlap_jit import begin


@triton.jit
def _weight_tile(
    weights,
    row,
    rows_end,
    inner,
    DEPTH: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    WHOLE: tl.constexpr,
    TMA: tl.constexpr,
):
    """[BLOCK_OUT, BLOCK_INNER] of a weight matrix [.., DEPTH]; zeros beyond its edges."""
    if TMA:
        tile = weights.load([row, inner])
    else:
        rows = row + tl.arange(0, BLOCK_OUT)
        depth = inner + tl.arange(0, BLOCK_INNER)
        pointers = weights + rows.to(tl.int64)[:, None] * DEPTH + depth[None, :]
        if WHOLE:
            tile = tl.load(pointers, eviction_policy="evict_first")
        else:
            mask = (rows < rows_end)[:, None] & (depth < DEPTH)[None, :]
            tile = tl.load(pointers, mask=mask, other=0.0, eviction_policy="evict_first")
    return tile


@triton.jit
def _row_tile(
    matrix, rows, valid, inner, DEPTH: tl.constexpr, BLOCK_INNER: tl.constexpr, WHOLE: tl.constexpr
):
    """Gathered rows [rows, BLOCK_INNER] of a matrix [.., DEPTH]; zeros where there is none."""
    depth = inner + tl.arange(0, BLOCK_INNER)
    mask = valid[:, None]
    if not WHOLE:
        mask = mask & (depth < DEPTH)[None, :]
    return tl.load(matrix + rows[:, None] * DEPTH + depth[None, :], mask=mask, other=0.0)


@triton.jit
def gated_gelu(gate, up):
    """gelu_tanh(gate) * up with torch's bf16 roundings; x * sigmoid(2u) is x/2 * (1 + tanh(u))."""
    gate = gate.to(tl.bfloat16).to(tl.float32)
    up = up.to(tl.bfloat16).to(tl.float32)
    inner = 0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)
    gelu = gate / (1.0 + tl.exp(-2.0 * inner))
    return (gelu.to(tl.bfloat16).to(tl.float32) * up).to(tl.bfloat16)


@triton.jit
def _gate_up_tile(
    tile,
    block,
    x_TD,
    row_scale_T,
    weights,
    scale_EG,
    assignment_P,
    tile_expert_M,
    hidden_NF,
    assignments,
    NUM_EXPERTS: tl.constexpr,
    D: tl.constexpr,
    F: tl.constexpr,
    TOP_K: tl.constexpr,
    FP8: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    TMA: tl.constexpr,
    PROMOTE: tl.constexpr,
):
    expert = tl.load(tile_expert_M + tile)
    assignment = tl.load(assignment_P + tile * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS))
    valid = assignment < assignments
    token = tl.where(valid, assignment // TOP_K, 0)
    first = block * BLOCK_OUT
    gate_row = expert * (2 * F) + first
    WHOLE: tl.constexpr = D % BLOCK_INNER == 0
    WHOLE_WEIGHTS: tl.constexpr = WHOLE and F % BLOCK_OUT == 0
    gate = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
    up = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
    rows_end = NUM_EXPERTS * 2 * F
    for inner in range(0, D, BLOCK_INNER):
        x = tl.trans(_row_tile(x_TD, token, valid, inner, D, BLOCK_INNER, WHOLE))
        gate_weight = _weight_tile(
            weights, gate_row, rows_end, inner, D, BLOCK_OUT, BLOCK_INNER, WHOLE_WEIGHTS, TMA
        )
        up_weight = _weight_tile(
            weights, gate_row + F, rows_end, inner, D, BLOCK_OUT, BLOCK_INNER, WHOLE_WEIGHTS, TMA
        )
        gate = tl.dot(gate_weight, x, gate, max_num_imprecise_acc=PROMOTE)
        up = tl.dot(up_weight, x, up, max_num_imprecise_acc=PROMOTE)
    out = first + tl.arange(0, BLOCK_OUT)
    inside = out < F
    if FP8:
        scale_R = tl.load(row_scale_T + token, mask=valid, other=0.0)[None, :]
        scales = scale_EG + gate_row + tl.arange(0, BLOCK_OUT)
        gate *= scale_R * tl.load(scales, mask=inside, other=0.0)[:, None]
        up *= scale_R * tl.load(scales + F, mask=inside, other=0.0)[:, None]
    pointers = hidden_NF + assignment[None, :] * F + out[:, None]
    hidden = gated_gelu(gate, up)
    tl.store(pointers, hidden, mask=inside[:, None] & valid[None, :])


@triton.jit
def _quantise_if_last(
    tile,
    assignment_P,
    hidden_NF,
    values_NF,
    scale_N,
    arrived_M,
    assignments,
    F: tl.constexpr,
    F_POW2: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    """Quantises a tile's hidden rows, AT_ONCE of them, if its other programs are done.

    Its real rows come before its padding.
    """
    if is_last(arrived_M + tile, BLOCKS):
        places = assignment_P + tile * BLOCK_ROWS
        real = (tl.load(places + tl.arange(0, BLOCK_ROWS)) < assignments).to(tl.int32)
        for start in range(0, tl.sum(real, 0), AT_ONCE):
            row = tl.load(places + start + tl.arange(0, AT_ONCE))[:, None]
            quantise_at(hidden_NF, values_NF, scale_N, row, row < assignments, F, F_POW2)


@triton.jit
def gate_up_kernel(
    x_TD,
    row_scale_T,
    weights,
    scale_EG,
    assignment_P,
    tile_expert_M,
    num_tiles_1,
    hidden_NF,
    values_NF,
    scale_N,
    arrived_M,
    assignments,
    NUM_EXPERTS: tl.constexpr,
    D: tl.constexpr,
    F: tl.constexpr,
    F_POW2: tl.constexpr,
    TOP_K: tl.constexpr,
    FP8: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    TMA: tl.constexpr,
    PROMOTE: tl.constexpr,
    BY_TILE: tl.constexpr,
    PERSISTENT: tl.constexpr,
    QUANTISE: tl.constexpr,
    AT_ONCE: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """BLOCK_ROWS of an expert's rows by BLOCK_OUT gate rows and the same up rows at a time.

    With QUANTISE the last program of a row tile quantises its hidden rows, AT_ONCE of them.
    """
    begin(OVERLAP)
    num_tiles = tl.load(num_tiles_1)
    BLOCKS: tl.constexpr = (F + BLOCK_OUT - 1) // BLOCK_OUT
    if PERSISTENT:
        for place in tl.range(
            tl.program_id(0), num_tiles * BLOCKS, tl.num_programs(0), flatten=True
        ):
            _gate_up_tile(
                place // BLOCKS, place % BLOCKS, x_TD, row_scale_T, weights, scale_EG,
                assignment_P, tile_expert_M, hidden_NF, assignments, NUM_EXPERTS, D, F, TOP_K,
                FP8, BLOCK_ROWS, BLOCK_OUT, BLOCK_INNER, TMA, PROMOTE,
            )  # fmt: skip
    else:
        tile, block = _tile_and_block(num_tiles, BLOCKS, BY_TILE)
        if tile < num_tiles and block < BLOCKS:
            _gate_up_tile(
                tile, block, x_TD, row_scale_T, weights, scale_EG,
                assignment_P, tile_expert_M, hidden_NF, assignments, NUM_EXPERTS, D, F, TOP_K,
                FP8, BLOCK_ROWS, BLOCK_OUT, BLOCK_INNER, TMA, PROMOTE,
            )  # fmt: skip
            if QUANTISE:
                _quantise_if_last(
                    tile, assignment_P, hidden_NF, values_NF, scale_N, arrived_M, assignments,
                    F, F_POW2, BLOCKS, BLOCK_ROWS, AT_ONCE,
                )  # fmt: skip


@triton.jit
def _tile_and_block(num_tiles, BLOCKS: tl.constexpr, BY_TILE: tl.constexpr):
    """Which row tile and which block of channels a program has; one beyond the end has none."""
    place = tl.program_id(0)
    if BY_TILE:
        tile, block = place // BLOCKS, place % BLOCKS
    else:
        tile, block = place % num_tiles, place // num_tiles
    return tile, block


@triton.jit
def _down_tile(
    tile,
    block,
    hidden_NF,
    row_scale_N,
    weights,
    scale_ED,
    assignment_P,
    tile_expert_M,
    out_ND,
    assignments,
    NUM_EXPERTS: tl.constexpr,
    D: tl.constexpr,
    F: tl.constexpr,
    FP8: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    TMA: tl.constexpr,
    PROMOTE: tl.constexpr,
):
    expert = tl.load(tile_expert_M + tile)
    assignment = tl.load(assignment_P + tile * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS))
    valid = assignment < assignments
    first = block * BLOCK_OUT
    row = expert * D + first
    WHOLE: tl.constexpr = F % BLOCK_INNER == 0
    WHOLE_WEIGHTS: tl.constexpr = WHOLE and D % BLOCK_OUT == 0
    acc = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
    if FP8:
        scale_R = tl.load(row_scale_N + assignment, mask=valid, other=0.0)
    for inner in range(0, F, BLOCK_INNER):
        hidden = _row_tile(hidden_NF, assignment, valid, inner, F, BLOCK_INNER, WHOLE)
        weight = _weight_tile(
            weights, row, NUM_EXPERTS * D, inner, F, BLOCK_OUT, BLOCK_INNER, WHOLE_WEIGHTS, TMA
        )
        acc = tl.dot(weight, tl.trans(hidden), acc, max_num_imprecise_acc=PROMOTE)
    out = first + tl.arange(0, BLOCK_OUT)
    inside = out < D
    if FP8:
        scale = tl.load(scale_ED + row + tl.arange(0, BLOCK_OUT), mask=inside, other=0.0)
        acc *= scale_R[None, :] * scale[:, None]
    pointers = out_ND + assignment[None, :] * D + out[:, None]
    tl.store(pointers, acc.to(tl.bfloat16), mask=inside[:, None] & valid[None, :])


@triton.jit
def down_kernel(
    hidden_NF,
    row_scale_N,
    weights,
    scale_ED,
    assignment_P,
    tile_expert_M,
    num_tiles_1,
    out_ND,
    assignments,
    NUM_EXPERTS: tl.constexpr,
    D: tl.constexpr,
    F: tl.constexpr,
    FP8: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    TMA: tl.constexpr,
    PROMOTE: tl.constexpr,
    BY_TILE: tl.constexpr,
    PERSISTENT: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """BLOCK_ROWS of an expert's hidden rows by BLOCK_OUT of the model's width at a time."""
    begin(OVERLAP)
    num_tiles = tl.load(num_tiles_1)
    BLOCKS: tl.constexpr = (D + BLOCK_OUT - 1) // BLOCK_OUT
    if PERSISTENT:
        for place in tl.range(
            tl.program_id(0), num_tiles * BLOCKS, tl.num_programs(0), flatten=True
        ):
            _down_tile(
                place // BLOCKS, place % BLOCKS, hidden_NF, row_scale_N, weights, scale_ED,
                assignment_P, tile_expert_M, out_ND, assignments, NUM_EXPERTS, D, F, FP8,
                BLOCK_ROWS, BLOCK_OUT, BLOCK_INNER, TMA, PROMOTE,
            )  # fmt: skip
    else:
        tile, block = _tile_and_block(num_tiles, BLOCKS, BY_TILE)
        if tile < num_tiles and block < BLOCKS:
            _down_tile(
                tile, block, hidden_NF, row_scale_N, weights, scale_ED,
                assignment_P, tile_expert_M, out_ND, assignments, NUM_EXPERTS, D, F, FP8,
                BLOCK_ROWS, BLOCK_OUT, BLOCK_INNER, TMA, PROMOTE,
            )  # fmt: skip


@triton.jit
def combine_kernel(
    out_ND,
    weight_TK,
    out_TD,
    D: tl.constexpr,
    TOP_K: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One program: BLOCK columns of a token."""
    token = tl.program_id(0)
    lane = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    mask = lane < D
    acc = tl.zeros([BLOCK], tl.float32)
    for k in tl.static_range(TOP_K):
        row = token * TOP_K + k
        answer = tl.load(out_ND + row * D + lane, mask=mask, other=0.0).to(tl.float32)
        acc += answer * tl.load(weight_TK + row).to(tl.float32)
    tl.store(out_TD + token * D + lane, acc.to(tl.bfloat16), mask=mask)
