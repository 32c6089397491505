"""The q/k/v product in one launch against its two launches, bit by bit in Triton's interpreter.

Sums are taken in fp64 (`interpreter.exact_sums`), so what could differ is the roundings that the
two launches have, and where rows go. On a GPU the sums of two orders may differ by an ulp of fp32.
"""

import pytest
import torch
from torch import Tensor

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.config import AttentionConfig  # noqa: E402
from model.kernels import dense, heads, heads_fused  # noqa: E402
from model.kernels.tiles import DenseTiles, HeadTiles  # noqa: E402
from model.layers import rope_table  # noqa: E402
from model.precision import quantise_rows  # noqa: E402

DEPTH, NUM_HEADS, SLOTS = 112, 4, 11
GEOMETRIES = {  # as sliding and full layers have them
    "values": AttentionConfig(num_kv_heads=2, head_dim=32, rope_theta=1e4),
    "keys are values": AttentionConfig(
        num_kv_heads=1, head_dim=64, rope_theta=1e6, rotary_fraction=0.25, value_is_key=True
    ),
}


@pytest.fixture(autouse=True)
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter.exact_sums(monkeypatch)


class Launched:
    """Operands of a product for B * L tokens, and what its launches leave."""

    def __init__(self, geometry: AttentionConfig, batch: int, length: int) -> None:
        torch.manual_seed(length)
        self.batch, self.groups, self.size = batch, geometry.num_kv_heads, geometry.head_dim
        heads_of_all = NUM_HEADS + self.groups * (1 if geometry.value_is_key else 2)
        values, scale = quantise_rows(torch.randn(batch * length, DEPTH).bfloat16())
        weight, weight_scale = quantise_rows(torch.randn(heads_of_all * self.size, DEPTH))
        self.operands = values, scale.flatten(), weight, weight_scale.flatten()
        norms = (1 + torch.randn(2, self.size) / 4).bfloat16().unbind()
        tables = (table.bfloat16() for table in rope_table(geometry, 32))
        self.rest = (*norms, *tables, NUM_HEADS, self.groups, 1e-6)

    def ring(self) -> Tensor:
        """Keys and values, with a spare slot that is not shown."""
        return torch.zeros(2, self.batch, self.groups, SLOTS + 1, self.size).bfloat16()

    def by_two(self, cached_1: Tensor | None) -> tuple[Tensor, Tensor]:
        ring = self.ring()
        qkv = dense.linear_fp8(*self.operands, DenseTiles(16, 32, 64))
        place = ring[:, :, :, :SLOTS].unbind()
        return heads.qkv_norm_rope_write(qkv, *self.rest, *place, cached_1), ring

    def by_one(self, cached_1: Tensor | None, rows: int = 16) -> tuple[Tensor, Tensor]:
        ring = self.ring()
        place = ring[:, :, :, :SLOTS].unbind()
        tiles = HeadTiles(rows, 64)
        q = heads_fused.qkv_fp8_norm_rope_write(
            *self.operands, *self.rest, *place, cached_1, tiles=tiles
        )
        return q, ring


@pytest.mark.parametrize(
    ("batch", "length", "cached"), [(1, 1, None), (1, 9, 20), (2, 5, None), (2, 5, 8)]
)
@pytest.mark.parametrize("kind", GEOMETRIES)
def test_one_launch_is_the_two(kind: str, batch: int, length: int, cached: int | None) -> None:
    """The ring's slots too, beyond its end and round again; the spare one stays empty."""
    both = Launched(GEOMETRIES[kind], batch, length)
    cached_1 = None if cached is None else torch.tensor([cached])
    want_q, want_ring = both.by_two(cached_1)
    q, ring = both.by_one(cached_1)
    assert q.shape == (batch, NUM_HEADS, length, both.size)
    assert q.any(-1).all()
    assert torch.equal(q, want_q)
    assert torch.equal(ring, want_ring)
    written = (torch.arange(length) + (cached or 0)) % SLOTS
    assert ring[:, :, :, written].any(-1).all()
    assert torch.equal(ring[:, :, :, written].count_nonzero(), ring.count_nonzero())


def test_tokens_a_program_change_nothing() -> None:
    both = Launched(GEOMETRIES["values"], 1, 9)
    for found, wanted in zip(both.by_one(None, rows=32), both.by_one(None), strict=True):
        assert torch.equal(found, wanted)


def test_the_product_is_rounded_before_it_is_normed() -> None:
    """Else the comparison above could not tell: some bit differs without that rounding."""
    both = Launched(GEOMETRIES["values"], 1, 9)
    values, scale, weight, weight_scale = both.operands
    exact = (values.double() @ weight.double().t() * scale[:, None] * weight_scale).float()
    ring = both.ring()
    q = heads.qkv_norm_rope_write(exact, *both.rest, *ring[:, :, :, :SLOTS].unbind())
    assert not torch.equal(q.bfloat16(), both.by_one(None)[0])


def test_a_head_must_be_a_power_of_two() -> None:
    geometry = AttentionConfig(num_kv_heads=1, head_dim=48, rope_theta=1e4)
    with pytest.raises(AssertionError, match="heads of 48 channels"):
        Launched(geometry, 1, 2).by_one(None)
