"""Glue kernels in Triton's interpreter against the unfused torch chains.

Legend: T tokens, D model, F hidden, B seqs, L positions, N heads, G KV heads, S slots, H head dim.
"""

import pytest
import torch
from torch import Tensor

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels import experts, glue, heads  # noqa: E402
from model.kernels.glue import Branch  # noqa: E402
from model.ops import reference, torch_native  # noqa: E402
from model.precision import quantise_rows  # noqa: E402

EPS = 1e-6
BF16, FP32 = torch.bfloat16, torch.float32
DTYPES = pytest.mark.parametrize("dtype", [BF16, FP32])
ROWS = pytest.mark.parametrize(("rows", "size"), [(1, 1), (3, 37), (2, 704)])


def _close(got: Tensor, want: Tensor) -> None:
    """At most one bf16 ulp apart, 2^-7 relative (fp32: a few ulp)."""
    assert got.dtype is want.dtype
    rtol, atol = (2**-7, 1e-6) if want.dtype is BF16 else (1e-5, 1e-6)
    torch.testing.assert_close(got.float(), want.float(), rtol=rtol, atol=atol)


def _close_fp8(got: glue.Quantised, want: Tensor) -> None:
    """`want` quantised: scales within a bf16 ulp, dequantised values within one e4m3 step."""
    values, scale = got
    want_values, want_scale = quantise_rows(want)
    assert values.dtype is torch.float8_e4m3fn
    assert scale.shape == want.shape[:-1]
    torch.testing.assert_close(scale, want_scale.squeeze(-1), rtol=2**-7, atol=0)
    step = want_scale * 2**-9
    error = (values.float() * scale[..., None] - want_values.float() * want_scale).abs()
    assert (error <= want_values.float().abs() * want_scale * 2**-3 + step).all()
    assert (values.float() != want_values.float()).float().mean() < 0.02


def _router(x: Tensor, scale: Tensor) -> Tensor:
    return reference.rms_norm(x, None, EPS) * scale * x.shape[-1] ** -0.5


@ROWS
@DTYPES
def test_norms(rows: int, size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(size)
    x = (torch.randn(rows, 1, size) * 3).to(dtype)
    weight, scale = torch.randn(2, size).to(dtype)
    _close(glue.rms_norm(x, weight, EPS), reference.rms_norm(x, weight, EPS))
    _close(glue.rms_norm(x, None, EPS), reference.rms_norm(x, None, EPS))
    branches = [Branch(scale, "router"), Branch(weight, "fp8"), Branch(None)]
    router, quantised, plain = glue.norms(x, EPS, branches)
    _close(router, _router(x, scale))
    _close_fp8(quantised, reference.rms_norm(x, weight, EPS))
    _close(plain, reference.rms_norm(x, None, EPS))


def test_zero_rows_stay_zero() -> None:
    x = torch.zeros(2, 37, dtype=BF16)
    assert (glue.rms_norm(x, None, EPS) == 0).all()
    values, scale = glue.quantise_rows(x)
    assert (values.float() == 0).all()
    assert torch.isfinite(scale).all()


def test_nan_stays_visible() -> None:
    x = torch.ones(2, 37, dtype=BF16)
    x[1, 3] = float("nan")
    assert glue.rms_norm(x, None, EPS).isnan().any(-1).tolist() == [False, True]
    assert glue.quantise_rows(x)[0].float().isnan().any(-1).tolist() == [False, True]


@ROWS
@DTYPES
@pytest.mark.parametrize("with_scalar", [False, True])
def test_add_rms_norm(rows: int, size: int, dtype: torch.dtype, with_scalar: bool) -> None:
    torch.manual_seed(size)
    residual, x = torch.randn(2, rows, size).to(dtype)
    weights = torch.randn(4, size).to(dtype)
    scalar = torch.tensor([0.37]).to(dtype) if with_scalar else None
    want = reference.add_rms_norm(residual, x, weights[0], EPS)
    want = want if scalar is None else want * scalar
    got = glue.add_rms_norm(residual, x, weights[0], EPS, scalar)
    _close(got, want)
    branches = [Branch(weights[1]), Branch(weights[2], "fp8"), Branch(weights[3], "router")]
    again, (plain, quantised, router) = glue.add_rms_norm_then_norms(
        residual, x, weights[0], EPS, scalar, branches
    )
    assert torch.equal(again, got)
    _close(plain, reference.rms_norm(got, weights[1], EPS))
    _close_fp8(quantised, reference.rms_norm(got, weights[2], EPS))
    _close(router, _router(got, weights[3]))


@ROWS
@DTYPES
def test_end_block(rows: int, size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(size)
    residual, dense, routed = torch.randn(3, rows, size).to(dtype)
    weights, scalar = torch.randn(4, size).to(dtype), torch.tensor([0.6]).to(dtype)
    both = reference.rms_norm(dense, weights[0], EPS)
    both = reference.add_rms_norm(both, routed, weights[1], EPS)
    want = reference.add_rms_norm(residual, both, weights[2], EPS) * scalar
    got, (plain, quantised) = glue.end_block(
        residual, dense, routed, *weights[:3], EPS, scalar,
        [Branch(weights[3]), Branch(weights[3], "fp8")],
    )  # fmt: skip
    # A flipped rounding of `both` passes through one more norm: two ulp of the larger addend.
    tolerance = 2**-6 if dtype is BF16 else 1e-5
    torch.testing.assert_close(got.float(), want.float(), rtol=tolerance, atol=tolerance)
    assert (got == want).float().mean() > 0.98 or dtype is FP32
    _close(plain, reference.rms_norm(got, weights[3], EPS))
    _close_fp8(quantised, reference.rms_norm(got, weights[3], EPS))


@ROWS
def test_end_block_mixes_the_experts_rows(rows: int, size: int) -> None:
    torch.manual_seed(size)
    residual, dense = torch.randn(2, rows, size).to(BF16)
    answers, share = torch.randn(rows * 3, size).to(BF16), torch.rand(rows, 3)
    weights, scalar = torch.randn(4, size).to(BF16), torch.tensor([0.6]).to(BF16)
    rest = (*weights[:3], EPS, scalar, [Branch(weights[3], "fp8")])
    want, (next_want,) = glue.end_block(residual, dense, experts.combine(answers, share), *rest)
    got, (next_got,) = glue.end_block(residual, dense, answers, *rest, weight_TK=share)
    assert torch.equal(got, want)
    assert torch.equal(next_got[0].float(), next_want[0].float())
    parts = torch.randn(2, rows, size)
    whole = (parts[0] + parts[1]).to(BF16)
    want, _ = glue.end_block(residual, whole, answers, *rest, weight_TK=share)
    got, _ = glue.end_block(residual, parts, answers, *rest, weight_TK=share)
    assert torch.equal(got, want)


@pytest.mark.parametrize("largest", [1e-38, 1e-30, 1.0, 168.0, 3e38])
def test_a_quotient_is_rounded_as_by_division(largest: float) -> None:
    """e4m3 ties included: 168 / 448 is exact and odd multiples of 3 are halfway."""
    x = torch.arange(-168, 169).float()[None] * (largest / 168)
    values, scale = glue.quantise_rows(x)
    want_values, want_scale = quantise_rows(x)
    assert torch.equal(scale, want_scale.squeeze(-1))
    assert torch.equal(values.float(), want_values.float())


def test_too_many_branches() -> None:
    with pytest.raises(ValueError, match="at most 3"):
        glue.norms(torch.ones(1, 4), EPS, [Branch(None)] * 4)


@ROWS
def test_quantise_rows(rows: int, size: int) -> None:
    torch.manual_seed(size)
    x = (
        torch.randn(rows, 1, size) * torch.tensor([1e-3, 1.0, 100.0])[:rows, None, None]
    ).bfloat16()
    values, scale = glue.quantise_rows(x)
    want_values, want_scale = quantise_rows(x)
    torch.testing.assert_close(scale, want_scale.squeeze(-1), rtol=1e-6, atol=0)
    assert torch.equal(values.float(), want_values.float())


@ROWS
@DTYPES
def test_gated_gelu(rows: int, size: int, dtype: torch.dtype) -> None:
    torch.manual_seed(size)
    x = (torch.randn(rows, 2 * size) * 3).to(dtype)
    want = reference.gated_gelu(x)
    _close(glue.gated_gelu(x), want)
    _close_fp8(glue.gated_gelu_quantised(x), want)


@DTYPES
@pytest.mark.parametrize("value_is_key", [False, True])
@pytest.mark.parametrize(
    ("batch", "length", "num_heads", "num_kv_heads", "size"),
    [(1, 1, 4, 2, 8), (2, 3, 4, 4, 12), (1, 5, 3, 1, 64)],
)
def test_qkv_norm_rope_write(
    batch: int, length: int, num_heads: int, num_kv_heads: int, size: int, value_is_key: bool,
    dtype: torch.dtype,
) -> None:  # fmt: skip
    torch.manual_seed(size)
    projected = num_heads + num_kv_heads * (2 - value_is_key)
    qkv = torch.randn(batch, length, projected, size).to(dtype)
    weights = torch.randn(2, size).to(dtype)
    angle = torch.rand(length + 2, size // 2) * 6
    cos = torch.cat((angle.cos(), angle.cos()), -1).to(dtype)[2:]
    sin = torch.cat((-angle.sin(), angle.sin()), -1).to(dtype)[2:]
    cache = torch.zeros(2, batch, num_kv_heads, length + 4, size, dtype=dtype)
    slots = cache[:, :, :, 3:-1]
    q = heads.qkv_norm_rope_write(
        qkv, *weights, cos, sin, num_heads, num_kv_heads, EPS, slots[0], slots[1]
    )
    want = torch_native.qkv_norm_rope(qkv, *weights, cos, sin, num_heads, num_kv_heads, EPS)
    scale = 2**-7 * 4 if dtype is BF16 else 1e-5  # one ulp of the rotation's larger addend
    for got, wanted in zip((q, slots[0], slots[1]), want, strict=True):
        torch.testing.assert_close(got.float(), wanted.float(), rtol=2**-7, atol=scale)
        assert (got == wanted).float().mean() > 0.97 or dtype is FP32
    assert (cache[:, :, :, :3] == 0).all()
    assert (cache[:, :, :, -1] == 0).all()
    flat = heads.qkv_norm_rope_write(
        qkv.flatten(2), *weights, cos, sin, num_heads, num_kv_heads, EPS, slots[0], slots[1]
    )
    assert torch.equal(flat, q)
