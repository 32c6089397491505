"""Attention kernels in Triton's interpreter against the reference in fp32.

Legend: B seqs, L positions, N heads, G KV heads, K keys, S slots, H head dim.
"""

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels import attention as module  # noqa: E402
from model.kernels.attention import (  # noqa: E402
    Tiles,
    TwoProducts,
    attention,
    attention_quantised,
)
from model.kernels.attention_jit import EMPTY, HIDDEN  # noqa: E402
from model.kernels.glue import quantise_rows  # noqa: E402
from model.masks import Sight  # noqa: E402
from model.ops import reference  # noqa: E402

BF16 = torch.bfloat16
Cut = Tiles | TwoProducts | None
PLAIN = Tiles(16, 16, 16, 4, 1, programs=1, tma=False)
SPLIT = Tiles(16, 16, 16, 4, 1, programs=10)
TWO = TwoProducts(16, 32, 16, 4, 1, 32, 16, 16, 4, 1)
CUTS = pytest.mark.parametrize("tiles", [PLAIN, SPLIT, TWO], ids=["plain", "split", "two"])


def _inputs(
    batch: int, heads: int, groups: int, length: int, keys: int, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """q with positions before heads, k and v as views of a cache with slots around them."""
    torch.manual_seed(length * 1000 + keys)
    q = torch.randn(batch, length, heads, size).to(BF16).transpose(1, 2)
    cache = torch.randn(2, batch, groups, keys + 5, size).to(BF16)
    k, v = cache[:, :, :, 2 : keys + 2]
    return q * 2, k, v


def _sight(
    cached: int, window: int | None = None, start: list[int] | None = None, *, causal: bool = False
) -> Sight:
    start_B = None if start is None else torch.tensor(start)
    return Sight(causal, window, torch.tensor([cached]), start_B)


def _check(q: Tensor, k: Tensor, v: Tensor, sight: Sight, tiles: Cut) -> None:
    """Rows that see nothing but themselves are padding: finite, and nothing more."""
    mask = sight.mask(q.shape[2], k.shape[2])
    assert mask is not None
    want = reference.attention(q.float(), k.float(), v.float(), mask)
    got = attention(q, k, v, sight=sight, tiles=tiles)
    assert got.dtype is BF16
    assert got.shape == want.shape
    assert got.is_contiguous()
    assert got.isfinite().all()
    if sight.causal and sight.start_B is not None:
        query = sight.cached_1 + torch.arange(q.shape[2])
        real = query >= sight.start_B[:, None]
        got, want = got[real], want[real]
    assert (got.float() - want).norm() < 6e-3 * want.norm()
    torch.testing.assert_close(got.float(), want, rtol=2e-2, atol=2e-2)


@CUTS
@pytest.mark.parametrize(("heads", "groups"), [(2, 2), (8, 1)])
@pytest.mark.parametrize(("batch", "length", "keys", "size"), [(1, 5, 37, 16), (2, 3, 32, 32)])
def test_everything_seen(
    batch: int, heads: int, groups: int, length: int, keys: int, size: int, tiles: Cut
) -> None:
    inputs = _inputs(batch, heads, groups, length, keys, size)
    _check(*inputs, _sight(keys - length), tiles)


@CUTS
@pytest.mark.parametrize(("window", "start"), [(None, None), (4, [0, 13]), (20, [0, 13])])
def test_causal(window: int | None, start: list[int] | None, tiles: Cut) -> None:
    """With padding some rows see only themselves."""
    cached, length = 10, 17
    sight = _sight(cached, window, start, causal=True)
    _check(*_inputs(2, 4, 2, length, cached + length, 16), sight, tiles)


@CUTS
@pytest.mark.parametrize("cached", [0, 17, 18, 61])
def test_commit_into_a_ring(cached: int, tiles: Cut) -> None:
    """Window 18 and a canvas of 7: empty, filling, full to the slot, wrapped, turn after turn."""
    sight = _sight(cached, 18, [0, min(cached, 20)], causal=True)
    q, k, v = _inputs(2, 4, 2, 7, 24, 16)
    k[:, :, cached + 7 :] = 1e4
    v[:, :, cached + 7 :] = 1e4
    _check(q, k, v, sight, tiles)


@CUTS
@pytest.mark.parametrize("cached", [5, 50])
@pytest.mark.parametrize("start", [None, [0, 28]])
def test_canvas_over_a_ring(cached: int, start: list[int] | None, tiles: Cut) -> None:
    """Padding may still lie in it."""
    start = start and [min(one, cached) for one in start]
    _check(*_inputs(2, 4, 1, 6, 30, 16), _sight(cached, 25, start), tiles)


@CUTS
@pytest.mark.parametrize("cached", [0, 21, 100])
@pytest.mark.parametrize("start", [None, [0, 3]])
def test_decode(cached: int, start: list[int] | None, tiles: Cut) -> None:
    """Slots that hold nothing yet hold anything finite."""
    start = start and [min(one, cached) for one in start]
    q, k, v = _inputs(2, 8, 2, 1, 57, 16)
    k[:, :, cached + 1 :] = 1e4
    v[:, :, cached + 1 :] = 1e4
    _check(q, k, v, _sight(cached, 57, start), tiles)


@pytest.mark.parametrize("tiles", [SPLIT, TWO], ids=["split", "two"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_larger_cache_gives_the_same_bits(causal: bool, tiles: Cut) -> None:
    q, k, v = _inputs(1, 2, 1, 5, 90, 16)
    sight = _sight(29, causal=causal)
    want = attention(q, k[:, :, :34], v[:, :, :34], sight=sight, tiles=tiles)
    assert torch.equal(attention(q, k, v, sight=sight, tiles=tiles), want)


def test_slots_past_the_last_tile_are_not_read() -> None:
    q, k, v = _inputs(1, 4, 2, 5, 90, 16)
    k[:, :, 48:], v[:, :, 48:] = torch.nan, torch.nan
    for tiles in (PLAIN, SPLIT):
        assert attention(q, k, v, sight=_sight(29), tiles=tiles).isfinite().all()


def test_a_row_of_padding_alone_stays_finite() -> None:
    q, k, v = _inputs(2, 4, 2, 6, 20, 16)
    for tiles in (SPLIT, TWO):
        for causal in (False, True):
            sight = _sight(14, 8, [0, 20], causal=causal)
            assert attention(q, k, v, sight=sight, tiles=tiles).isfinite().all()


def test_hidden_score_is_a_power_of_two() -> None:
    """Else a fused multiply-add on the device turns rows that see nothing of a tile into NaN."""
    assert math.frexp(HIDDEN.value)[0] == -0.5
    assert EMPTY.value == 2 * HIDDEN.value


def test_splits_in_fp16() -> None:
    tiles = Tiles(32, 16, 32, 4, 1, programs=9, part=torch.float16)
    _check(*_inputs(1, 4, 1, 5, 37, 32), _sight(32), tiles)


def test_large_scores() -> None:
    """Weights underflow without a NaN, within a tile and across splits."""
    q, k, v = _inputs(1, 2, 1, 5, 70, 16)
    for tiles in (PLAIN, SPLIT, TWO):
        _check(q * 64, k, v, _sight(65), tiles)


@pytest.mark.parametrize("columns", [256, 512])
def test_wide_heads(columns: int) -> None:
    tiles = Tiles(16, 16, columns, 4, 1, programs=2)
    q, k, v = _inputs(1, 8, 1, 3, 21, 512)
    _check(q / 8, k, v, _sight(18), tiles)
    _check(q / 8, k, v, _sight(18, 9, causal=True), tiles)


def test_other_dtypes_go_to_torch() -> None:
    q, k, v = (x.float() for x in _inputs(1, 4, 2, 3, 9, 16))
    got = attention(q, k, v, sight=_sight(6))
    torch.testing.assert_close(got, reference.attention(q, k, v, None))


@pytest.fixture
def fresh_memory_holds_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)  # fills what torch.empty gives
    yield
    torch.use_deterministic_algorithms(False)


def _check_quantised(q: Tensor, k: Tensor, v: Tensor, sight: Sight, tiles: Cut) -> None:
    """Bit for bit."""
    batch, heads, length, size = q.shape
    attended = attention(q, k, v, sight=sight, tiles=tiles)
    want_values, want_scale = quantise_rows(attended.flatten(0, 1))
    values, scale = attention_quantised(q, k, v, sight=sight, tiles=tiles)
    assert values.shape == (batch * length, heads * size)
    assert values.float().isfinite().all()
    assert values.float().any()
    assert torch.equal(values.view(torch.uint8), want_values.view(torch.uint8))
    assert torch.equal(scale, want_scale)


def _no_launch(*_: object, **__: object) -> None:
    raise AssertionError("a launch of its own")


@pytest.mark.usefixtures("fresh_memory_holds_nan")
@pytest.mark.parametrize(
    ("batch", "heads", "groups", "size", "splits", "part"),
    [
        (1, 4, 2, 16, 2, torch.float32),
        (2, 8, 2, 16, 8, torch.float32),
        (2, 4, 4, 32, 3, torch.float32),
        (1, 8, 1, 16, 4, torch.float16),
    ],
)
def test_few_splits_are_quantised_where_they_are_merged(
    batch: int, heads: int, groups: int, size: int, splits: int, part: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Some splits have no keys, and padding sees nothing."""
    monkeypatch.setattr(module, "quantise_rows", _no_launch)
    inputs = _inputs(batch, heads, groups, 3, 61, size)
    programs = splits * batch * groups * -(-3 * heads // groups // 16)
    tiles = Tiles(16, 16, size, 4, 1, programs=programs, tma=False, part=part)
    _check_quantised(*inputs, _sight(20), tiles)
    _check_quantised(*inputs, _sight(56, 9, [58, 0][:batch], causal=True), tiles)


@pytest.mark.parametrize(
    ("heads", "tiles"),
    [
        (4, PLAIN),
        (4, TWO),
        (4, Tiles(16, 16, 16, 4, 1, programs=20, tma=False)),
        (6, Tiles(16, 16, 16, 4, 1, programs=6, tma=False)),
    ],
    ids=["one split", "two products", "many splits", "heads no power of two"],
)
def test_any_cut_is_quantised(heads: int, tiles: Cut) -> None:
    _check_quantised(*_inputs(1, heads, 2, 5, 61, 16), _sight(56), tiles)


def test_other_dtypes_are_quantised() -> None:
    q, k, v = (x.float() for x in _inputs(2, 4, 2, 3, 9, 16))
    _check_quantised(q, k, v, _sight(6), None)
