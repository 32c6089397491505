"""Device code of `model.kernels.gated`.

Legend: T tokens, D depth, G = 2F gate and up channels, F hidden, B blocks of hidden channels.
"""

import triton
import triton.language as tl

from model.kernels.glue_jit import divided, gated_gelu, row_scale
from model.kernels.last_jit import is_last
from model.kernels.overlap_jit import begin


@triton.jit
def _stored(acc):
    """A product as the separate launch stores it."""
    return acc.to(tl.bfloat16).to(tl.float32)


@triton.jit
def _quantise_tile(
    first_token,
    tokens,
    hidden_TF,
    largest_BT,
    values_TF,
    scale_T,
    F: tl.constexpr,
    BLOCKS: tl.constexpr,
    BLOCKS_POW2: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    PIECE: tl.constexpr,
    AT_ONCE: tl.constexpr,
):
    """`glue.quantise_rows` of the rows of some tokens, whose programs are done.

    Scales first, of what every program found the largest; then there is nothing more to wait for
    but memory. Rows lie one behind the other, so whole PIECEs of all of them are shared out.
    """
    token = first_token + tl.arange(0, BLOCK_ROWS)[None, :]
    block = tl.arange(0, BLOCKS_POW2)[:, None]
    found = (block < BLOCKS) & (token < tokens)
    largest = tl.load(
        largest_BT + block * tokens + token, mask=found, other=0.0, cache_modifier=".cg"
    )
    scales = row_scale(tl.max(largest, 0, keep_dims=True))
    tl.store(scale_T + token, scales, mask=token < tokens)
    tl.debug_barrier()
    PIECES: tl.constexpr = F // PIECE
    end = tl.minimum(first_token + BLOCK_ROWS, tokens) * PIECES
    for start in range(first_token * PIECES, end, AT_ONCE):
        piece = start + tl.arange(0, AT_ONCE)[:, None]
        inside = piece < end
        scale = tl.load(scale_T + piece // PIECES, mask=inside, other=1.0, cache_modifier=".cg")
        place = piece.to(tl.int64) * PIECE + tl.arange(0, PIECE)[None, :]
        x = tl.load(hidden_TF + place, mask=inside, other=0.0, cache_modifier=".cg")
        values = divided(x.to(tl.float32), scale)
        tl.store(values_TF + place, values.to(values_TF.dtype.element_ty), mask=inside)


@triton.jit
def gated_kernel(
    values_TD,
    row_scale_T,
    weights_GD,
    channel_scale_G,
    hidden_TF,
    largest_BT,
    values_TF,
    scale_T,
    arrived,
    tokens,
    depth,
    F: tl.constexpr,
    BLOCKS_POW2: tl.constexpr,
    PIECE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_OUT: tl.constexpr,
    BLOCK_INNER: tl.constexpr,
    FP8: tl.constexpr,
    AT_ONCE: tl.constexpr,
    OVERLAP: tl.constexpr,
):
    """One program: BLOCK_ROWS tokens by BLOCK_OUT gate channels and the same up channels.

    With FP8 the last program of BLOCK_ROWS tokens quantises their hidden rows, AT_ONCE PIECEs of
    them.
    """
    begin(OVERLAP)
    tiles = tl.cdiv(tokens, BLOCK_ROWS)
    program = tl.program_id(0)
    tile, block = program % tiles, program // tiles  # neighbours share weights
    first_token, first = tile * BLOCK_ROWS, block * BLOCK_OUT
    gate = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
    up = tl.zeros([BLOCK_OUT, BLOCK_ROWS], tl.float32)
    for inner in range(0, depth, BLOCK_INNER):
        values = tl.trans(values_TD.load([first_token, inner]))
        gate = tl.dot(weights_GD.load([first, inner]), values, gate)
        up = tl.dot(weights_GD.load([F + first, inner]), values, up)
    token = first_token + tl.arange(0, BLOCK_ROWS)
    out = first + tl.arange(0, BLOCK_OUT)
    valid, inside = token < tokens, out < F
    if FP8:
        row_scale = tl.load(row_scale_T + token, mask=valid, other=0.0)[None, :]
        gate_scale = tl.load(channel_scale_G + out, mask=inside, other=0.0)[:, None]
        up_scale = tl.load(channel_scale_G + F + out, mask=inside, other=0.0)[:, None]
        gate, up = gate * row_scale * gate_scale, up * row_scale * up_scale
    pointers = hidden_TF + token[None, :] * F + out[:, None]
    hidden = gated_gelu(_stored(gate), _stored(up), tl.bfloat16)
    tl.store(pointers, hidden.to(tl.bfloat16), mask=inside[:, None] & valid[None, :])
    if FP8:
        BLOCKS: tl.constexpr = (F + BLOCK_OUT - 1) // BLOCK_OUT
        largest = tl.max(tl.abs(hidden), 0)  # none beyond F, where scales are zero
        tl.store(largest_BT + block * tokens + token, largest, mask=valid)
        if is_last(arrived + tile, BLOCKS):
            _quantise_tile(
                first_token, tokens, hidden_TF, largest_BT, values_TF, scale_T,
                F, BLOCKS, BLOCKS_POW2, BLOCK_ROWS, PIECE, AT_ONCE,
            )  # fmt: skip
