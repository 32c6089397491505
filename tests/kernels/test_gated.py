"""The dense gate and up product with its gate in one launch against the separate ones, bit by bit.

In Triton's interpreter. Operands are small multiples of a power of two, whose sums are exact in
fp32 in any order; on a GPU those of real ones may differ by an ulp.

Legend: T tokens, D depth, F hidden, G = 2F gate and up channels.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels import dense, gated, glue  # noqa: E402
from model.kernels.tiles import FP8, DenseTiles, GatedTiles  # noqa: E402

TILES = GatedTiles(16, 32, 64)
SHAPES = [  # tokens, depth, hidden
    (1, 128, 96),
    (16, 64, 32),
    (20, 112, 80),
    (50, 272, 16),
]


def _matrices(tokens: int, depth: int, hidden: int) -> tuple[Tensor, Tensor]:
    """Rows and weights, all exact in e4m3."""
    x = torch.randint(-16, 17, (tokens, depth)) / 8
    return x, torch.randint(-16, 17, (2 * hidden, depth)) / 64


def _bf16(*shape: int) -> tuple[Tensor, Tensor]:
    x, weight = _matrices(*shape)
    return x.bfloat16(), weight.bfloat16()


def _fp8(*shape: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x, weight = _matrices(*shape)
    return x.to(FP8), torch.rand(len(x)), weight.to(FP8), torch.rand(len(weight))


def _separately(operands: tuple[Tensor, ...]) -> glue.Quantised:
    return glue.gated_gelu_quantised(dense.linear_fp8(*operands, DenseTiles(32, 64, 64)))


def _same(found: glue.Quantised, wanted: glue.Quantised) -> bool:
    values = (one.view(torch.uint8) for one in (found[0], wanted[0]))
    return torch.equal(*values) and torch.equal(found[1], wanted[1])


@pytest.mark.parametrize("shape", SHAPES)
def test_bf16_is_the_product_and_its_gate(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    x, weight = _bf16(*shape)
    found = gated.gated_product(x, weight, TILES)
    assert found.dtype is torch.bfloat16
    assert torch.equal(found, glue.gated_gelu(F.linear(x, weight)))


@pytest.mark.parametrize(
    ("shape", "order"),
    [*zip(SHAPES, ["in order", "backwards"] * 2, strict=True), (SHAPES[2], "mixed")],
)
def test_fp8_is_the_product_and_its_quantised_gate(
    shape: tuple[int, int, int], order: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Again with the same counters, as a graph replays it, whoever comes last."""
    torch.manual_seed(1)
    arrived = torch.zeros(-(-shape[0] // TILES.rows), dtype=torch.int32)
    for _ in range(2):
        operands = _fp8(*shape)
        with monkeypatch.context() as patch:
            interpreter.program_order(patch, order)
            found = gated.gated_product_fp8(*operands, TILES, arrived)
        assert not arrived.any()
        assert found[0].dtype is torch.float8_e4m3fn
        assert _same(found, _separately(operands))


@pytest.mark.parametrize("pieces", [1, 4])
def test_how_much_is_quantised_at_once_changes_nothing(
    pieces: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """33 pieces of 16 values a row, in steps of 128 or all at once: rows lie across steps."""
    torch.manual_seed(2)
    operands, arrived = _fp8(16, 64, 528), torch.zeros(1, dtype=torch.int32)
    monkeypatch.setattr(gated, "_PIECES_A_THREAD", pieces)
    found = gated.gated_product_fp8(*operands, TILES, arrived)
    assert _same(found, _separately(operands))


def test_rows_of_nothing_and_of_one_large_value() -> None:
    """Scales of zeros are as `quantise_rows` has them; padding beyond the last token has none."""
    torch.manual_seed(3)
    values, scale, weight, weight_scale = _fp8(18, 64, 48)
    scale[3], scale[16], scale[17] = 0, 1 / 64, 2
    operands = values, scale, weight, weight_scale
    arrived = torch.zeros(8, dtype=torch.int32)
    found = gated.gated_product_fp8(*operands, TILES, arrived)
    assert not found[0][3].float().any()
    assert found[1][17] > 10 * found[1][16]
    assert _same(found, _separately(operands))
    assert not arrived.any()


@pytest.mark.parametrize(
    "tiles", [GatedTiles(32, 32, 64), GatedTiles(16, 64, 64), GatedTiles(16, 32, 32)], ids=str
)
def test_tiles_change_nothing(tiles: GatedTiles) -> None:
    torch.manual_seed(4)
    operands, arrived = _fp8(20, 112, 48), torch.zeros(2, dtype=torch.int32)
    found, want = (gated.gated_product_fp8(*operands, each, arrived) for each in (tiles, TILES))
    assert _same(found, want)


def test_the_product_is_rounded_before_its_gate() -> None:
    """Else the comparisons above could not tell: some bit differs without that rounding."""
    torch.manual_seed(5)
    x, weight = _bf16(20, 112, 80)
    exact = F.linear(x.float(), weight.float())
    found = gated.gated_product(x, weight, TILES)
    assert not torch.equal(found, glue.gated_gelu(exact).bfloat16())


def test_every_row_tile_needs_a_counter() -> None:
    operands, arrived = _fp8(17, 64, 32), torch.zeros(1, dtype=torch.int32)
    with pytest.raises(AssertionError, match="1 counters"):
        gated.gated_product_fp8(*operands, TILES, arrived)


def test_rows_must_be_whole_pieces() -> None:
    arrived = torch.zeros(1, dtype=torch.int32)
    with pytest.raises(AssertionError, match="24 hidden channels"):
        gated.gated_product_fp8(*_fp8(2, 64, 24), TILES, arrived)
