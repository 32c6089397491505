"""A fused block against the block it replaces, in bf16 and fp8, in a whole small model."""

import dataclasses

import pytest
import torch

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model import precision  # noqa: E402
from model.config import ModelConfig, preset  # noqa: E402
from model.diffusion import DiffusionTransformer  # noqa: E402
from model.dummy import fill_with_random  # noqa: E402
from model.kernels import attention  # noqa: E402
from model.kernels.block import fuse  # noqa: E402
from model.kernels.heads import qkv_norm_rope_write  # noqa: E402
from model.kv_cache import KVCache  # noqa: E402
from model.ops import make_ops  # noqa: E402

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
    raw = model.scores_in(canvas, None, model.surround_canvas(8, cache))
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
    around = prefix if anywhere else model.surround_canvas(4, cache)
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


def test_keys_and_values_go_to_their_slots_of_a_ring() -> None:
    torch.manual_seed(0)
    qkv = torch.randn(10, 4 * 16).bfloat16()
    weight, table = torch.ones(16).bfloat16(), torch.randn(2, 5, 16).bfloat16()
    straight, ring = torch.zeros(2, 2, 2, 1, 11, 16, dtype=torch.bfloat16).unbind()
    arguments = (qkv, weight, weight, *table, 2, 1, 1e-6)
    q = qkv_norm_rope_write(*arguments, *straight[:, :, :, :5])
    assert torch.equal(q, qkv_norm_rope_write(*arguments, *ring, torch.tensor([20])))
    slots = (20 + torch.arange(5)) % 11
    assert straight[:, :, :, :5].any()
    assert torch.equal(ring[:, :, :, slots], straight[:, :, :, :5])
    assert torch.equal(ring.count_nonzero(), straight.count_nonzero())
