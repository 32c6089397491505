"""Device code of `model.kernels.glue`.

Legend: T rows, D model, F hidden.
"""

import triton
import triton.language as tl


@triton.jit
def _inverse_rms(x, eps, SIZE: tl.constexpr):
    return tl.rsqrt(tl.sum(x * x, 0) / SIZE + eps)


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
def _store(x, out_ptr, scale_ptr, row, column, real, SIZE: tl.constexpr):
    """Stores a row as it is, or in e4m3 with its scale."""
    if scale_ptr is not None:
        largest = tl.maximum(tl.max(tl.abs(x), 0), 1.1754943508222875e-38)
        scale = tl.div_rn(largest, tl.full((), 448.0, tl.float32))
        tl.store(scale_ptr + row, scale)
        x = tl.div_rn(x, tl.zeros_like(x) + scale)
    out = out_ptr + row.to(tl.int64) * SIZE + column
    tl.store(out, x.to(out_ptr.dtype.element_ty), mask=real)


@triton.jit
def _branch(
    normed, weight, out_ptr, scale_ptr, row, column, real,
    root, ROUTER: tl.constexpr, DTYPE: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    if out_ptr is not None:
        if ROUTER:
            y = _times(_times(_times(normed, 1.0, DTYPE), weight, DTYPE), root, DTYPE)
        else:
            y = _times(normed, weight, DTYPE)
        _store(y, out_ptr, scale_ptr, row, column, real, SIZE)


@triton.jit(do_not_specialize_on_alignment=["scalar_ptr"])
def norm_rows(
    residual_ptr, x_ptr, pair_ptr,
    weight_ptr, x_weight_ptr, pair_weight_ptr, scalar_ptr, new_ptr,
    weight0_ptr, out0_ptr, scale0_ptr,
    weight1_ptr, out1_ptr, scale1_ptr,
    weight2_ptr, out2_ptr, scale2_ptr,
    eps, root,
    ROUTER0: tl.constexpr, ROUTER1: tl.constexpr, ROUTER2: tl.constexpr,
    SIZE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One row; everything is loaded first, so that no reduction waits for memory."""
    DTYPE: tl.constexpr = x_ptr.dtype.element_ty
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    real = column < SIZE
    start = row.to(tl.int64) * SIZE
    x = tl.load(x_ptr + start + column, mask=real, other=0.0).to(tl.float32)
    if residual_ptr is not None:
        residual = tl.load(residual_ptr + start + column, mask=real, other=0.0).to(tl.float32)
    if pair_ptr is not None:
        pair = tl.load(pair_ptr + start + column, mask=real, other=0.0).to(tl.float32)
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
            x = (x * tl.load(scalar_ptr).to(tl.float32)).to(DTYPE).to(tl.float32)
        tl.store(new_ptr + start + column, x.to(DTYPE), mask=real)
    if out0_ptr is not None:
        normed = x * _inverse_rms(x, eps, SIZE)
        _branch(
            normed, weight0, out0_ptr, scale0_ptr, row, column, real, root, ROUTER0, DTYPE, SIZE
        )
        _branch(
            normed, weight1, out1_ptr, scale1_ptr, row, column, real, root, ROUTER1, DTYPE, SIZE
        )
        _branch(
            normed, weight2, out2_ptr, scale2_ptr, row, column, real, root, ROUTER2, DTYPE, SIZE
        )


@triton.jit
def quantise_rows_kernel(x_ptr, out_ptr, scale_ptr, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    real = column < SIZE
    x = _load(x_ptr + row.to(tl.int64) * SIZE, column, real)
    _store(x, out_ptr, scale_ptr, row, column, real, SIZE)


@triton.jit
def gate_rows(gate_up_ptr, out_ptr, scale_ptr, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """gelu_tanh(g) = g sigmoid(2 sqrt(2 / pi) (g + 0.044715 g^3)), rounded before the product."""
    DTYPE: tl.constexpr = gate_up_ptr.dtype.element_ty
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)
    real = column < SIZE
    start = gate_up_ptr + row.to(tl.int64) * (2 * SIZE)
    gate = _load(start, column, real)
    up = _load(start + SIZE, column, real)
    inner = 1.5957691216057308 * gate * (1.0 + 0.044715 * gate * gate)
    gelu = _times(gate / (1.0 + tl.exp(-inner)), 1.0, DTYPE)
    _store(_times(gelu, up, DTYPE), out_ptr, scale_ptr, row, column, real, SIZE)
