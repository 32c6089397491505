"""Device code of `model.kernels.sampler`.

Legend: B seqs, L canvas, T = B * L positions, V vocab, N tiles of V.
"""

import os

import triton
import triton.language as tl

from model.kernels.glue_jit import divided, row_scale

_LOG2_E = tl.constexpr(1.4426950408889634)
_INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")


@triton.jit
def _exp2(x):
    """2^x in one instruction; results below 2^-126 become zero."""
    if _INTERPRETED:
        return tl.exp2(x)
    else:
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )


@triton.jit
def _reciprocal(x):
    """1 / x in one instruction, within an ulp."""
    if _INTERPRETED:
        return 1.0 / x
    else:
        return tl.inline_asm_elementwise(
            "rcp.approx.ftz.f32 $0, $1;", "=f,f", [x], dtype=tl.float32, is_pure=True, pack=1
        )


@triton.jit
def _scaled(wide, cap, temperature):
    """tanh(raw / cap) * cap / temperature in fp32: tanh(y) = 1 - 2 / (exp(2 y) + 1)."""
    scale = cap / temperature
    return scale - 2.0 * scale * _reciprocal(_exp2(wide * (2.0 * _LOG2_E / cap)) + 1.0)


@triton.jit
def _rounded(x, DTYPE: tl.constexpr):
    """x rounded to DTYPE, as fp32; bf16 by its bits, four cheap instructions (NaN may get lost)."""
    if DTYPE == tl.bfloat16:  # noqa: SIM300
        bits = x.to(tl.uint32, bitcast=True)
        bits = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return (bits << 16).to(tl.float32, bitcast=True)
    else:
        return x.to(DTYPE).to(tl.float32)


@triton.jit(do_not_specialize_on_alignment=["temperature_ptr"])
def tile_statistics(
    raw_ptr, temperature_ptr, part_ptr, index_ptr,
    stride, plane, cap, vocab, WHOLE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Of one tile of one row: largest raw and scaled logit, where it is, and three sums.

    The sums are of e = exp(x - max), of (x - max) e, and of exp(round(x) - max).
    """
    tile, row = tl.program_id(0), tl.program_id(1)
    column = tile * BLOCK + tl.arange(0, BLOCK)
    valid = column < vocab
    source = raw_ptr + row.to(tl.int64) * stride + column
    if WHOLE:
        wide = tl.load(source).to(tl.float32)
    else:
        wide = tl.load(source, mask=valid, other=float("-inf")).to(tl.float32)
    temperature = tl.load(temperature_ptr)
    x = _scaled(wide, cap, temperature)
    top = tl.max(wide, 0)
    peak = tl.max(x, 0)
    where = tl.min(tl.where(wide == top, column, vocab - 1), 0)
    below = x - peak
    e = _exp2(below * _LOG2_E)
    rounded = _exp2((_rounded(x, raw_ptr.dtype.element_ty) - peak) * _LOG2_E)
    if not WHOLE:
        e, rounded = tl.where(valid, e, 0.0), tl.where(valid, rounded, 0.0)
    out = row * tl.num_programs(0) + tile
    tl.store(part_ptr + out, top)
    tl.store(part_ptr + plane + out, peak)
    tl.store(part_ptr + 2 * plane + out, tl.sum(e, 0))
    tl.store(part_ptr + 3 * plane + out, tl.sum(below * e, 0))
    tl.store(part_ptr + 4 * plane + out, tl.sum(rounded, 0))
    tl.store(index_ptr + out, where)


@triton.jit(do_not_specialize_on_alignment=["temperature_ptr"])
def row_statistics(
    raw_ptr, temperature_ptr, uniform_ptr, part_ptr, index_ptr,
    candidate_ptr, argmax_ptr, entropy_ptr, lse_ptr,
    stride, plane, cap, vocab, num_tiles,
    BLOCK: tl.constexpr, TILES: tl.constexpr,
):  # fmt: skip
    """Combines a row's tiles; draws the tile and then the token inside it."""
    row = tl.program_id(0)
    temperature, uniform = tl.load(temperature_ptr), tl.load(uniform_ptr + row)
    tile = tl.arange(0, TILES)
    real = tile < num_tiles
    part = part_ptr + row * num_tiles + tile
    top = tl.load(part, mask=real, other=float("-inf"))
    peak = tl.load(part + plane, mask=real, other=float("-inf"))
    total = tl.load(part + 2 * plane, mask=real, other=0.0)
    moment = tl.load(part + 3 * plane, mask=real, other=0.0)
    rounded = tl.load(part + 4 * plane, mask=real, other=0.0)
    where = tl.load(index_ptr + row * num_tiles + tile, mask=real, other=0)

    best = tl.min(tl.where((top == tl.max(top, 0)) & real, where, vocab - 1), 0)
    highest = tl.max(peak, 0)
    shift = tl.where(real, peak - highest, 0.0)
    weight = tl.exp(shift)
    mass = tl.where(real, weight * total, 0.0)
    whole = tl.sum(mass, 0)
    entropy = tl.log(whole) - tl.sum(weight * moment + shift * mass, 0) / whole
    tl.store(argmax_ptr + row, best.to(tl.int64))
    tl.store(entropy_ptr + row, entropy)
    # Zero times the sum carries a NaN over.
    tl.store(lse_ptr + row, highest + tl.log(tl.sum(weight * rounded, 0)) + 0.0 * whole)

    # The first tile whose cumulative mass exceeds the target, then the target inside that tile.
    cumulative = tl.cumsum(mass, 0)
    last = tl.sum(tl.where(tile == num_tiles - 1, cumulative, 0.0), 0)
    target = uniform * last
    chosen = tl.min(tl.where((cumulative > target) & real, tile, num_tiles - 1), 0)
    before = tl.sum(tl.where(tile == chosen - 1, cumulative, 0.0), 0)
    inside = tl.sum(tl.where(tile == chosen, mass, 0.0), 0)
    fraction = (target - before) / tl.maximum(inside, 1e-37)

    offset = tl.arange(0, BLOCK)
    column = chosen * BLOCK + offset
    valid = column < vocab
    raw = tl.load(raw_ptr + row.to(tl.int64) * stride + column, mask=valid, other=float("-inf"))
    x = _scaled(raw.to(tl.float32), cap, temperature)
    e = tl.where(valid, _exp2((x - tl.max(x, 0)) * _LOG2_E), 0.0)
    cumulative = tl.cumsum(e, 0)
    target = fraction * tl.sum(tl.where(offset == BLOCK - 1, cumulative, 0.0), 0)
    # Rounding may leave no token above the target: then the last one that has any probability.
    fallback = tl.max(tl.where(e > 0, column, chosen * BLOCK), 0)
    token = tl.min(tl.where((cumulative > target) & (e > 0), column, fallback), 0)
    tl.store(candidate_ptr + row, token.to(tl.int64))


@triton.jit(do_not_specialize_on_alignment=["temperature_ptr"])
def probabilities(
    raw_ptr, temperature_ptr, lse_ptr, argmax_ptr, p_ptr, scale_ptr,
    stride, cap, vocab, BLOCK: tl.constexpr,
):  # fmt: skip
    """exp(round(x) - log sum exp) of one tile of one row.

    With a scale to write it is rounded to raw's type, then e4m3; the row's largest is its argmax's.
    """
    DTYPE: tl.constexpr = raw_ptr.dtype.element_ty
    row = tl.program_id(1)
    column = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    valid = column < vocab
    source = raw_ptr + row.to(tl.int64) * stride
    raw = tl.load(source + column, mask=valid)
    temperature, lse = tl.load(temperature_ptr), tl.load(lse_ptr + row)
    x = _rounded(_scaled(raw.to(tl.float32), cap, temperature), DTYPE)
    p = _exp2((x - lse) * _LOG2_E)
    if scale_ptr is not None:
        best = tl.load(source + tl.load(argmax_ptr + row) + tl.arange(0, 1))
        best = _rounded(_scaled(best.to(tl.float32), cap, temperature), DTYPE)
        scale = row_scale(_exp2((best - lse) * _LOG2_E).to(DTYPE).to(tl.float32))
        p = divided(p.to(DTYPE).to(tl.float32), scale)
        tl.store(scale_ptr + row + tl.arange(0, 1), scale, mask=tl.program_id(0) == 0)
    tl.store(p_ptr + row.to(tl.int64) * vocab + column, p.to(p_ptr.dtype.element_ty), mask=valid)


@triton.jit
def settle_rows(
    bound_ptr, stability_ptr, confidence_ptr,
    entropy_ptr, candidate_ptr, argmax_ptr, renoise_ptr, canvas_ptr, last_ptr,
    unchanged_ptr, steps_ptr, done_ptr,
    accepted_ptr, next_ptr, next_argmax_ptr, next_unchanged_ptr, next_steps_ptr, next_done_ptr,
    length, FREEZE: tl.constexpr, BLOCK: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A whole row; each position sums the entropies ranked before its own, without sorting."""
    row = tl.program_id(0)
    base = row * length
    mine = tl.arange(0, BLOCK)
    real = mine < length
    entropy = tl.load(entropy_ptr + base + mine, mask=real, other=0.0)
    before = tl.zeros([BLOCK], dtype=tl.float32)
    for start in range(0, length, COLUMNS):
        other = start + tl.arange(0, COLUMNS)
        theirs = tl.load(entropy_ptr + base + other, mask=other < length, other=float("inf"))
        lower = theirs[:, None] < entropy[None, :]
        tied = (theirs[:, None] == entropy[None, :]) & (other[:, None] < mine[None, :])
        before += tl.sum(tl.where(lower | tied, theirs[:, None], 0.0), 0)
    accepted = (before <= tl.load(bound_ptr)) & (tl.abs(entropy) < float("inf"))
    tl.store(accepted_ptr + base + mine, accepted, mask=real)

    done = tl.load(done_ptr + row)
    candidate = tl.load(candidate_ptr + base + mine, mask=real, other=0)
    renoise = tl.load(renoise_ptr + base + mine, mask=real, other=0)
    canvas = tl.where(accepted, candidate, renoise)
    argmax = tl.load(argmax_ptr + base + mine, mask=real, other=0)
    last = tl.load(last_ptr + base + mine, mask=real, other=0)
    if FREEZE:
        canvas = tl.where(done, tl.load(canvas_ptr + base + mine, mask=real, other=0), canvas)
        argmax = tl.where(done, last, argmax)
    tl.store(next_ptr + base + mine, canvas, mask=real)
    tl.store(next_argmax_ptr + base + mine, argmax, mask=real)

    same = tl.min((argmax == last).to(tl.int32), 0)
    unchanged = (tl.load(unchanged_ptr + row) + 1) * same
    tl.store(next_unchanged_ptr + row, unchanged)
    tl.store(next_steps_ptr + row, tl.load(steps_ptr + row) + (done == 0).to(tl.int32))
    if stability_ptr is not None:
        confident = tl.sum(entropy, 0) / length < tl.load(confidence_ptr)
        done = done | (confident & (unchanged >= tl.load(stability_ptr)))
    tl.store(next_done_ptr + row, done)
