"""Dense products of quantised rows in Triton's interpreter against plain torch.

Legend: T tokens, D depth, N out channels, F hidden.
"""

import pytest
import torch
from torch import Tensor

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels import dense, glue  # noqa: E402
from model.kernels.dense import DenseTiles  # noqa: E402
from model.kernels.experts import FP8  # noqa: E402

_SHAPES = [(1, 128, 96), (20, 112, 80), (33, 272, 64)]  # tokens, depth, channels


def _quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.float().abs().amax(-1, keepdim=True) / 448
    return (x.float() / scale).to(FP8), scale.squeeze(-1)


def _operands(tokens: int, depth: int, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = torch.randn(tokens, depth)
    return *_quantised(rows), *_quantised(torch.randn(channels, depth) / depth**0.5)


def _product(values: Tensor, scale: Tensor, weight: Tensor, weight_scale: Tensor) -> Tensor:
    return values.float() @ weight.float().t() * (scale[:, None] * weight_scale)


@pytest.mark.parametrize("split", [1, 2, 3])
@pytest.mark.parametrize("shape", _SHAPES)
def test_linear(shape: tuple[int, int, int], split: int) -> None:
    torch.manual_seed(0)
    operands = _operands(*shape)
    tiles = DenseTiles(16, 32, 64, split=split)
    got = dense.linear_fp8(*operands, tiles)
    want = _product(*operands)
    assert got.dtype is torch.bfloat16
    torch.testing.assert_close(got.float(), want, rtol=2**-8, atol=1e-5)
    parts = dense.linear_fp8_parts(*operands, tiles)
    if split > 1:
        parts = sum(parts[1:], parts[0]).bfloat16()
    assert torch.equal(parts, got)


def test_a_part_is_never_empty() -> None:
    operands = _operands(3, 320, 32)  # five steps in four parts: 2, 2, 1
    parts = dense.linear_fp8_parts(*operands, DenseTiles(16, 32, 64, split=4))
    assert parts.shape == (3, 3, 32)
    torch.testing.assert_close(parts.sum(0), _product(*operands), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 20, 70])
def test_defaults_on_tiny_weights(tokens: int) -> None:
    torch.manual_seed(2)
    operands = _operands(tokens, 64, 32)
    torch.testing.assert_close(
        dense.linear_fp8(*operands).float(), _product(*operands), rtol=2**-8, atol=1e-5
    )


def test_a_norm_sums_the_parts() -> None:
    torch.manual_seed(3)
    operands = _operands(5, 128, 48)
    residual, weight = torch.randn(5, 48).bfloat16(), torch.randn(48).bfloat16()
    tiles = DenseTiles(16, 32, 32, split=3)
    whole = dense.linear_fp8(*operands, tiles)
    parts = dense.linear_fp8_parts(*operands, tiles)
    branches = [glue.Branch(weight)]
    want = glue.add_rms_norm_then_norms(residual, whole, weight, 1e-6, None, branches)
    got = glue.add_rms_norm_then_norms(residual, parts, weight, 1e-6, None, branches)
    assert torch.equal(got[0], want[0])
    assert torch.equal(got[1][0], want[1][0])
