"""A fused block against the block it replaces, in bf16 and fp8, in a whole small model."""

import dataclasses
from unittest import mock

import pytest
import torch

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model import precision  # noqa: E402
from model.config import ModelConfig, preset  # noqa: E402
from model.diffusion import DiffusionTransformer, FinishedCanvas  # noqa: E402
from model.dummy import fill_with_random  # noqa: E402
from model.kernels import attention  # noqa: E402
from model.kernels import block as fused_block  # noqa: E402
from model.kernels.block import fuse, retile  # noqa: E402
from model.kernels.heads import qkv_norm_rope_write  # noqa: E402
from model.kernels.tile_files import table_for  # noqa: E402
from model.kernels.tiles import (  # noqa: E402
    FP8,
    DenseChoice,
    DenseTiles,
    GatedTiles,
    HeadTiles,
    TileTable,
)
from model.kv_cache import KVCache  # noqa: E402
from model.ops import make_ops  # noqa: E402
from model.transformer import Unwrapped  # noqa: E402

TINY = preset("tiny-diffusion")
CONFIG = dataclasses.replace(TINY, layer_types=("sliding", "full"), canvas_length=8)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_splits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the keys: the defaults' fill a chip, one after the other here."""
    tiles = attention.Tiles(32, 32, 32, 4, 1, programs=4, tma=False)
    monkeypatch.setattr(attention, "default_tiles", lambda *_, **__: tiles)


def built(kernels: str, config: ModelConfig, *, fp8: bool) -> DiffusionTransformer:
    model = DiffusionTransformer(config, make_ops(kernels))
    fill_with_random(model, 0)
    model.requires_grad_(False).bfloat16()
    if fp8:
        for block in model.layers():
            precision._quantise_matrices(block, None, native=kernels == "triton")
    if kernels == "triton":
        fuse(model)
    return model


@torch.inference_mode()
def outputs(model: DiffusionTransformer) -> list[torch.Tensor]:
    cache = KVCache(CONFIG, 1, 20, dtype=torch.bfloat16, device=CPU)
    hidden = model.encode(torch.arange(2, 7)[None], cache)
    canvas, uniform = torch.arange(10, 18)[None], torch.full((1, 8), 0.37)
    raw = model.scores_in(canvas, None, model.around_canvas(8, cache))
    sampled = model.ops.sample(raw, 30.0, torch.tensor(0.7), uniform)
    return [hidden, raw, *sampled]


@pytest.mark.parametrize(("fp8", "tolerance"), [(False, 0.05), (True, 0.2)])
def test_a_fused_model_is_the_same_model(fp8: bool, tolerance: float) -> None:
    """bf16 noise moves single tokens to other experts, in any two tables: hence the tolerance."""
    expected, found = (
        outputs(built(kernels, CONFIG, fp8=fp8)) for kernels in ("reference", "triton")
    )
    for want, got in zip(expected, found, strict=True):
        difference = (want.float() - got.float()).norm() / want.float().norm()
        assert difference < tolerance
    assert torch.equal(expected[3], found[3])  # argmax


@torch.inference_mode()
def canvases(kernels: str, config: ModelConfig, *, anywhere: bool) -> list[torch.Tensor]:
    """A prompt of two windows, a commit, which wraps the ring, and a canvas."""
    model = built(kernels, config, fp8=False)
    cache = KVCache(config, 1, 24, dtype=torch.bfloat16, device=CPU)
    found = [model.encode(torch.arange(2, 14)[None], cache)]
    canvas, prefix = torch.arange(10, 14)[None], model.anywhere(cache)
    around = prefix if anywhere else model.surround(4, cache, causal=True)
    found.append(model.encode_in(canvas + 20, around))
    cache.advance(4)
    around = prefix if anywhere else model.around_canvas(4, cache)
    return [*found, model.scores_in(canvas, None, around)]


def typical_error(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    """Median over positions: a rounding sends a few to other experts."""
    errors = [
        (a.float() - b.float()).norm(dim=-1) / b.float().norm(dim=-1)
        for a, b in zip(found, expected, strict=True)
    ]
    return float(torch.cat([error.flatten() for error in errors[1:]]).median())


def test_a_prefix_known_to_the_device_alone_gives_the_same_bits() -> None:
    short, shorter = (
        dataclasses.replace(
            CONFIG, canvas_length=4, sliding=dataclasses.replace(TINY.sliding, window=window)
        )
        for window in (6, 5)
    )
    known, unknown = (canvases("triton", short, anywhere=anywhere) for anywhere in (False, True))
    for a, b in zip(known, unknown, strict=True):
        assert torch.equal(a, b)
    right, wrong = (canvases("reference", c, anywhere=False) for c in (short, shorter))
    assert typical_error(known, right) < 0.05 < typical_error(known, wrong)


@pytest.mark.parametrize(("fp8", "anywhere"), [(False, False), (True, True)])
@torch.inference_mode()
def test_a_canvas_is_committed_within_the_next_ones_first_step(fp8: bool, anywhere: bool) -> None:
    """Where the ring comes round; each part has scalars of its own."""
    sliding = dataclasses.replace(TINY.sliding, window=6)
    config = dataclasses.replace(CONFIG, canvas_length=4, sliding=sliding)
    model = built("triton", config, fp8=fp8)
    for block in model.layers():
        assert block.encoder_layer_scalar is not None
        block.encoder_layer_scalar.fill_(0.5)
    if anywhere:
        model.wrap_step = FixedShapes()
    before, canvas = torch.arange(30, 34)[None], torch.arange(10, 14)[None]
    separate, fused = (KVCache(config, 1, 24, dtype=torch.bfloat16, device=CPU) for _ in range(2))
    for cache in (separate, fused):
        model.encode(torch.arange(2, 6)[None], cache)
    model.commit(before, separate)
    expected = model.scores_in(canvas, None, model.around_canvas(4, separate))
    finished = FinishedCanvas(before, model.around_commit(4, fused))
    around = model.around_canvas(4, fused, ahead=4)
    found = model.scores_in(canvas, None, around, finished)
    assert torch.equal(found, expected)
    assert all(map(torch.equal, fused.storage(), separate.storage()))


class FixedShapes(Unwrapped):
    fixed_shapes = True


def test_keys_and_values_go_to_their_slots_of_a_ring() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(10, 4 * 16).bfloat16()
    weight, tables = torch.ones(16).bfloat16(), torch.randn(2, 25, 16).bfloat16()
    straight, ring = torch.zeros(2, 2, 2, 1, 11, 16, dtype=torch.bfloat16).unbind()
    begun = [table[20:] for table in tables]
    q = qkv_norm_rope_write(qkv, weight, weight, *begun, 2, 1, 1e-6, *straight[:, :, :, :5])
    found = qkv_norm_rope_write(qkv, weight, weight, *tables, 2, 1, 1e-6, *ring, torch.tensor([20]))
    assert torch.equal(q, found)
    slots = (20 + torch.arange(5)) % 11
    assert straight[:, :, :, :5].any()
    assert torch.equal(ring[:, :, :, slots], straight[:, :, :, :5])
    assert torch.equal(ring.count_nonzero(), straight.count_nonzero())


@pytest.mark.parametrize("fp8", [True, False])
@torch.inference_mode()
def test_fused_launches_do_not_change_a_model(fp8: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, past the ring's end, a canvas's commit in the next one's first step: tables
    decide about launches and not about answers."""
    interpreter.exact_sums(monkeypatch)
    names = ("gated_product_fp8", "qkv_fp8_norm_rope_write") if fp8 else ("gated_product",)
    fused = {name: mock.Mock(wraps=getattr(fused_block, name)) for name in names}
    routed = mock.Mock(wraps=fused_block.route_and_sort)
    for name, launch in (*fused.items(), ("route_and_sort", routed)):
        monkeypatch.setattr(fused_block, name, launch)
    window = dataclasses.replace(TINY.sliding, window=4)
    config = dataclasses.replace(CONFIG, canvas_length=4, sliding=window)
    model = built("triton", config, fp8=fp8)
    dense = (DenseChoice(DenseTiles(16, 64, 128)),)
    plain = dataclasses.replace(table_for(CPU), dense=dense, qkv=(DenseChoice(None),))
    found = []
    for table in (plain, with_every_launch(plain, FP8 if fp8 else torch.bfloat16)):
        retile(model, table)
        cache = KVCache(config, 1, 13, dtype=torch.bfloat16, device=CPU)
        for seed, buffer in enumerate(cache.storage()):
            buffer.normal_(generator=torch.Generator().manual_seed(seed))
        cache.advance(5)  # of a sliding layer's 7 slots
        before, canvas = torch.arange(10, 14)[None], torch.arange(20, 24)[None]
        finished = FinishedCanvas(before, model.around_commit(4, cache))
        around = model.around_canvas(4, cache, ahead=4)
        found.append((model.scores_in(canvas, None, around, finished), *cache.storage()))
    layers = len(config.layer_types)
    counts = [launch.call_count for launch in fused.values()]
    assert counts == ([layers, 2 * layers] if fp8 else [layers])
    assert routed.call_count == layers
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert not any(block.get_buffer("arrived_3M").any() for block in model.blocks)


def with_every_launch(table: TileTable, dtype: torch.dtype) -> TileTable:
    """For few tokens."""
    up, down = table.for_experts(dtype, 4)
    up = dataclasses.replace(up, quantise=dtype == FP8)
    gated = {name: (DenseChoice(GatedTiles(16, 64, 128)),) for name in table.gated}
    heads = (DenseChoice(HeadTiles(16, 128)),)
    table = dataclasses.replace(table, qkv=heads, gated=gated)
    return table.with_experts(dtype, 4, up, down).with_router(dtype, 4, True)
