"""Attention kernels in Triton's interpreter against the reference in fp32.

Legend: B seqs, L positions, N heads, G KV heads, K keys, S slots, H head dim.
"""

import math

import pytest
import torch
from torch import Tensor

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels.attention import Tiles, TwoProducts, attention, key_ranges  # noqa: E402
from model.kernels.attention_jit import HIDDEN  # noqa: E402
from model.masks import canvas_mask, causal_mask, fixed_mask  # noqa: E402
from model.ops import reference  # noqa: E402

BF16 = torch.bfloat16
Cut = Tiles | TwoProducts | None
CPU = torch.device("cpu")
PLAIN = Tiles(16, 16, 16, 4, 1, programs=1, tma=False)
SPLIT = Tiles(16, 16, 16, 4, 1, programs=40)
TWO = TwoProducts(16, 32, 16, 4, 1, 32, 16, 16, 4, 1)
CUTS = pytest.mark.parametrize(
    "tiles",
    [None, PLAIN, SPLIT, Tiles(32, 16, 32, 4, 1, programs=9, part=torch.float16), TWO],
    ids=["default", "plain", "split", "fp16", "two"],
)


def _inputs(
    batch: int, heads: int, groups: int, length: int, keys: int, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """q with positions before heads, k and v as views of a cache with slots around them."""
    torch.manual_seed(length * 1000 + keys)
    q = torch.randn(batch, length, heads, size).to(BF16).transpose(1, 2)
    cache = torch.randn(2, batch, groups, keys + 5, size).to(BF16)
    k, v = cache[:, :, :, 2 : keys + 2]
    return q * 2, k, v


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, tiles: Cut) -> None:
    want = reference.attention(q.float(), k.float(), v.float(), mask)
    got = attention(q, k, v, mask=mask, tiles=tiles)
    assert got.dtype is BF16
    assert got.shape == want.shape
    assert got.is_contiguous()
    assert (got.float() - want).norm() < 6e-3 * want.norm()
    torch.testing.assert_close(got.float(), want, rtol=2e-2, atol=2e-2)


@CUTS
@pytest.mark.parametrize(("heads", "groups"), [(2, 2), (4, 2), (8, 1)])
@pytest.mark.parametrize(
    ("batch", "length", "keys", "size"), [(1, 5, 37, 16), (2, 3, 32, 32), (1, 1, 50, 32)]
)
def test_no_mask(
    batch: int, heads: int, groups: int, length: int, keys: int, size: int, tiles: Cut
) -> None:
    _check(*_inputs(batch, heads, groups, length, keys, size), None, tiles)


@CUTS
@pytest.mark.parametrize(("window", "start"), [(None, None), (4, [0, 13]), (20, [0, 13])])
def test_causal(window: int | None, start: list[int] | None, tiles: Cut) -> None:
    """With padding some rows see only themselves."""
    cached, length = 10, 17
    start_B = None if start is None else torch.tensor(start)
    mask = causal_mask(cached, length, window, start_B, CPU)
    _check(*_inputs(2, 4, 2, length, cached + length, 16), mask, tiles)


@CUTS
@pytest.mark.parametrize("length", [1, 6])
def test_padded_canvas(length: int, tiles: Cut) -> None:
    mask = canvas_mask(30, length, 20, torch.tensor([0, 18]), CPU)
    assert mask is not None
    _check(*_inputs(2, 4, 1, length, mask.shape[3], 16), mask, tiles)


@CUTS
@pytest.mark.parametrize("position", [0, 21, 56])
@pytest.mark.parametrize(("window", "start"), [(None, None), (None, [0, 3]), (5, [0, 3])])
def test_decode(position: int, window: int | None, start: list[int] | None, tiles: Cut) -> None:
    """Unwritten slots hold anything finite."""
    start_B = None if start is None else torch.tensor(start).clamp(max=position)
    mask = fixed_mask(torch.tensor([position]), 57, window, start_B)
    q, k, v = _inputs(2, 8, 2, 1, 57, 16)
    k[:, :, position + 1 :] = 1e4
    v[:, :, position + 1 :] = 1e4
    _check(q, k, v, mask, tiles)


def test_ranges_serve_as_mask() -> None:
    mask = causal_mask(9, 12, 6, torch.tensor([0, 11]), CPU)
    q, k, v = _inputs(2, 4, 2, 12, 21, 16)
    ranges = key_ranges(mask)
    assert ranges.shape == (2, 12, 2)
    assert ranges[0, 0].tolist() == [4, 10]
    got = attention(q, k, v, mask=ranges, tiles=SPLIT)
    assert torch.equal(got, attention(q, k, v, mask=mask, tiles=SPLIT))
    position = fixed_mask(torch.tensor([7]), 21, 4, None)
    assert key_ranges(position).tolist() == [[[4, 8]]]
    _check(q[:, :, :1], k, v, position, PLAIN)


@pytest.mark.parametrize("start", [None, [0, 3, 14]])
@pytest.mark.parametrize("window", [None, 1, 7])
def test_every_mask_is_a_range(window: int | None, start: list[int] | None) -> None:
    """What the kernel takes for granted."""
    start_B = None if start is None else torch.tensor(start)
    masks = [
        causal_mask(10, 8, window, start_B, CPU),
        canvas_mask(10, 8, window, start_B, CPU),
        fixed_mask(torch.tensor([15]), 20, window, start_B),
    ]
    for mask in masks:
        if mask is not None:
            ranges = key_ranges(mask)
            key = torch.arange(mask.shape[3])
            inside = (key >= ranges[..., :1]) & (key < ranges[..., 1:])
            assert torch.equal(inside[:, None], mask)


def test_row_without_keys_stays_finite() -> None:
    q, k, v = _inputs(1, 4, 2, 6, 20, 16)
    mask = torch.ones(1, 1, 6, 20, dtype=torch.bool)
    mask[:, :, 2] = False
    for tiles in (PLAIN, SPLIT, TWO):
        assert attention(q, k, v, mask=mask, tiles=tiles).isfinite().all()
        assert attention(q, k, v, mask=mask & False, tiles=tiles).isfinite().all()


def test_hidden_score_is_a_power_of_two() -> None:
    """Else a fused multiply-add on the device turns rows that see nothing of a tile into NaN."""
    assert math.frexp(HIDDEN.value)[0] == -0.5


def test_large_scores() -> None:
    """Weights underflow without a NaN, within a tile and across splits."""
    q, k, v = _inputs(1, 4, 2, 5, 70, 16)
    for tiles in (PLAIN, SPLIT, TWO):
        _check(q * 64, k, v, None, tiles)


@pytest.mark.parametrize("columns", [256, 512])
def test_wide_heads(columns: int) -> None:
    tiles = Tiles(16, 16, columns, 4, 1, programs=4)
    q, k, v = _inputs(1, 8, 1, 3, 21, 512)
    _check(q / 8, k, v, None, tiles)
    _check(q / 8, k, v, causal_mask(18, 3, 9, None, CPU), tiles)


def test_other_dtypes_go_to_torch() -> None:
    q, k, v = (x.float() for x in _inputs(1, 4, 2, 3, 9, 16))
    got = attention(q, k, v, mask=None)
    torch.testing.assert_close(got, reference.attention(q, k, v, None))


def test_mask_per_head_is_refused() -> None:
    q, k, v = _inputs(1, 4, 2, 3, 9, 16)
    with pytest.raises(ValueError, match="mask of shape"):
        attention(q, k, v, mask=torch.ones(1, 4, 3, 9, dtype=torch.bool))
