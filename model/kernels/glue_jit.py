"""Device code of `model.kernels.glue`.

Legend: T rows, D model, F hidden.
"""

import triton
import triton.language as tl

from model.kernels.overlap_jit import begin
from model.kernels.prefetch_jit import ask_for


@triton.jit
def row_scale(largest):
    """The e4m3 scale of rows with these largest magnitudes."""
    return tl.div_rn(tl.maximum(largest, 1.1754943508222875e-38), 448.0)


@triton.jit
def divided(x, scale):
    """x / scale, rounded as IEEE division does; scales broadcast and cost one division each.

    A product with the reciprocal and Markstein's correction: its residue is exact in one fma. Tiny
    scales are lifted, else their reciprocal would be infinite.
    """
    lift = tl.where(scale < 5.421010862427522e-20, 1.8446744073709552e19, 1.0)  # 2^-64, 2^64
    x, scale = x * lift, scale * lift
    inverse = tl.div_rn(1.0, scale)
    quotient = x * inverse
    return tl.fma(tl.fma(-quotient, scale, x), inverse, quotient)


@triton.jit
def _inverse_rms(x, eps, SIZE: tl.constexpr):
    return tl.rsqrt(tl.sum(x * x, 1, keep_dims=True) / SIZE + eps)


@triton.jit
def _load(pointer, column, real):
    """fp32 values; one for no pointer."""
    if pointer is None:
        return 1.0
    else:
        return tl.load(pointer + column, mask=real, other=0.0).to(tl.float32)


@triton.jit
def _times(x, weight, DTYPE: tl.constexpr):
    """x * weight rounded to DTYPE, as fp32."""
    return (x * weight).to(DTYPE).to(tl.float32)


@triton.jit
def gated_gelu(gate, up, DTYPE: tl.constexpr):
    """gelu_tanh(g) = g sigmoid(2 sqrt(2 / pi) (g + 0.044715 g^3)), rounded before the product."""
    inner = 1.5957691216057308 * gate * (1.0 + 0.044715 * gate * gate)
    gelu = _times(gate / (1.0 + tl.exp(-inner)), 1.0, DTYPE)
    return _times(gelu, up, DTYPE)


@triton.jit
def _store(x, out_ptr, scale_ptr, row, column, inside, SIZE: tl.constexpr):
    """Stores rows as they are, or in e4m3 with their scales."""
    if scale_ptr is not None:
        scale = row_scale(tl.max(tl.abs(x), 1, keep_dims=True))
        tl.store(scale_ptr + row, scale, mask=inside)
        x = divided(x, scale)
    out = out_ptr + row.to(tl.int64) * SIZE + column
    tl.store(out, x.to(out_ptr.dtype.element_ty), mask=inside & (column < SIZE))


@triton.jit
def _branch(
    normed, weight, out_ptr, scale_ptr, row, column, inside,
    root, ROUTER: tl.constexpr, DTYPE: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    if out_ptr is not None:
        if ROUTER:
            y = _times(_times(_times(normed, 1.0, DTYPE), weight, DTYPE), root, DTYPE)
        else:
            y = _times(normed, weight, DTYPE)
        _store(y, out_ptr, scale_ptr, row, column, inside, SIZE)


@triton.jit
def _weighted_rows(
    rows_ptr, weight_ptr, token, column, real, TOP_K: tl.constexpr, SIZE: tl.constexpr
):
    """A token's weighted sum over its experts' answers, in order; loads do not wait for sums."""
    first = token.to(tl.int64) * TOP_K
    total = tl.zeros(real.shape, tl.float32)
    for k in tl.static_range(TOP_K):
        answer = tl.load(rows_ptr + (first + k) * SIZE + column, mask=real, other=0.0)
        total += answer.to(tl.float32) * tl.load(weight_ptr + first + k).to(tl.float32)
    return total


@triton.jit(do_not_specialize=["scalar_rows"], do_not_specialize_on_alignment=["scalar_ptr"])
def norm_rows(
    residual_ptr, x_ptr, pair_ptr, pair_share_ptr,
    weight_ptr, x_weight_ptr, pair_weight_ptr, scalar_ptr, new_ptr,
    weight0_ptr, out0_ptr, scale0_ptr,
    weight1_ptr, out1_ptr, scale1_ptr,
    weight2_ptr, out2_ptr, scale2_ptr, soon_ptr,
    eps, root, part_stride, scalar_rows,
    ROUTER0: tl.constexpr, ROUTER1: tl.constexpr, ROUTER2: tl.constexpr,
    TOP_K: tl.constexpr, PARTS: tl.constexpr, SIZE: tl.constexpr, BLOCK: tl.constexpr,
    PIECE_BYTES: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """One row; everything is loaded first, so that no reduction waits for memory.

    PARTS of x are fp32 and sum to it; pair is TOP_K rows where their shares are given; a scalar
    serves scalar_rows rows. What soon_ptr points to is constant, so it is asked for at once.
    """
    if PIECE_BYTES > 0:
        ask_for(soon_ptr, tl.program_id(0), PIECE_BYTES)
    begin(OVERLAP)
    DTYPE: tl.constexpr = (
        x_ptr.dtype.element_ty if residual_ptr is None else residual_ptr.dtype.element_ty
    )
    token = tl.program_id(0)
    row = token + tl.arange(0, 1)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = row >= 0
    real = column < SIZE
    start = token.to(tl.int64) * SIZE
    x = tl.load(x_ptr + start + column, mask=real, other=0.0).to(tl.float32)
    if PARTS > 1:
        for part in tl.static_range(1, PARTS):
            x += tl.load(x_ptr + part * part_stride + start + column, mask=real, other=0.0)
        x = x.to(DTYPE).to(tl.float32)
    if residual_ptr is not None:
        residual = tl.load(residual_ptr + start + column, mask=real, other=0.0).to(tl.float32)
    if pair_ptr is not None:
        if pair_share_ptr is None:
            pair = tl.load(pair_ptr + start + column, mask=real, other=0.0).to(tl.float32)
        else:
            pair = _weighted_rows(pair_ptr, pair_share_ptr, token, column, real, TOP_K, SIZE)
            pair = pair.to(DTYPE).to(tl.float32)
    x_weight = _load(x_weight_ptr, column, real)
    pair_weight = _load(pair_weight_ptr, column, real)
    weight = _load(weight_ptr, column, real)
    weight0 = _load(weight0_ptr, column, real)
    weight1 = _load(weight1_ptr, column, real)
    weight2 = _load(weight2_ptr, column, real)

    if pair_ptr is not None:
        first = _times(x * _inverse_rms(x, eps, SIZE), x_weight, DTYPE)
        second = _times(pair * _inverse_rms(pair, eps, SIZE), pair_weight, DTYPE)
        x = (first + second).to(DTYPE).to(tl.float32)
    if residual_ptr is not None:
        added = _times(x * _inverse_rms(x, eps, SIZE), weight, DTYPE)
        x = (residual + added).to(DTYPE).to(tl.float32)
        if scalar_ptr is not None:
            scalar = tl.load(scalar_ptr + token // scalar_rows).to(tl.float32)
            x = (x * scalar).to(DTYPE).to(tl.float32)
        tl.store(new_ptr + start + column, x.to(DTYPE), mask=real)
    if out0_ptr is not None:
        normed = x * _inverse_rms(x, eps, SIZE)
        _branch(
            normed, weight0, out0_ptr, scale0_ptr, row, column, inside, root, ROUTER0, DTYPE, SIZE
        )
        _branch(
            normed, weight1, out1_ptr, scale1_ptr, row, column, inside, root, ROUTER1, DTYPE, SIZE
        )
        _branch(
            normed, weight2, out2_ptr, scale2_ptr, row, column, inside, root, ROUTER2, DTYPE, SIZE
        )


@triton.jit
def quantise_rows_kernel(
    x_ptr, out_ptr, scale_ptr, rows,
    SIZE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """ROWS rows a program."""
    begin(OVERLAP)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = row < rows
    x = _load(x_ptr + row.to(tl.int64) * SIZE, column, inside & (column < SIZE))
    _store(x, out_ptr, scale_ptr, row, column, inside, SIZE)


@triton.jit
def gate_rows(
    gate_up_ptr, out_ptr, scale_ptr, rows,
    SIZE: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, OVERLAP: tl.constexpr,
):  # fmt: skip
    """ROWS rows a program."""
    begin(OVERLAP)
    DTYPE: tl.constexpr = gate_up_ptr.dtype.element_ty
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = row < rows
    real = inside & (column < SIZE)
    start = gate_up_ptr + row.to(tl.int64) * (2 * SIZE)
    gate = _load(start, column, real)
    up = _load(start + SIZE, column, real)
    _store(gated_gelu(gate, up, DTYPE), out_ptr, scale_ptr, row, column, inside, SIZE)
