"""Precision applied from outside: what is quantised, how exactly, and what emulation costs."""

import pytest
import torch

from model import Decoding, load
from model.config import preset
from model.diffusion import DiffusionTransformer
from model.dummy import fill_with_random
from model.kv_cache import KVCache
from model.layers import Linear
from model.moe import Experts
from model.ops import make_ops, reference
from model.precision import (
    FP8,
    Applied,
    Fp8Experts,
    Fp8Linear,
    Precision,
    WideExperts,
    WideLinear,
    _widen_products,
    applied_to,
    convert,
    finish,
    quantise_rows,
    quantise_weight,
)


def make_linear(out_features: int = 24, in_features: int = 40) -> Linear:
    linear = Linear(in_features, out_features)
    torch.nn.init.normal_(linear.weight, generator=torch.Generator().manual_seed(0))
    return linear


def make_experts() -> Experts:
    experts = Experts(preset("tiny-diffusion"), make_ops("reference"))
    fill_with_random(experts, 0)
    return experts


def routing(num_tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    expert_TK = torch.rand(num_tokens, 8, generator=generator).topk(2).indices
    return expert_TK, torch.rand(num_tokens, 2, generator=generator)


def test_rows_quantise_to_e4m3_with_one_scale_each() -> None:
    x = torch.randn(5, 64, generator=torch.Generator().manual_seed(1)) * torch.tensor([[1e-3]])
    values, scale = quantise_rows(x)
    assert values.dtype is FP8
    assert scale.shape == (5, 1)
    assert values.float().abs().amax(-1).tolist() == [448.0] * 5
    # e4m3 has three mantissa bits: half a step is 1/16 of the value.
    error = (values.float() * scale - x).abs()
    assert (error <= x.abs() / 16 + scale * 2**-10).all()


def test_a_row_of_zeros_stays_zero() -> None:
    values, scale = quantise_rows(torch.zeros(2, 8))
    assert torch.equal(values.float() * scale, torch.zeros(2, 8))


def test_fp8_linear_is_the_product_of_dequantised_values() -> None:
    linear = make_linear()
    x = torch.randn(7, 40, generator=torch.Generator().manual_seed(2))
    quantised = Fp8Linear(quantise_weight(linear.weight))
    values, scale = quantise_rows(x)
    weight = quantised.weight.double() * quantised.scale.double()[:, None]
    expected = (values.double() * scale.double()) @ weight.t()
    torch.testing.assert_close(quantised(x).double(), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(quantised.weight, quantised.weight.to(FP8).float())
    assert torch.equal(quantised.scale, quantised.scale.bfloat16().float())


def test_fp8_experts_are_the_reference_on_dequantised_weights() -> None:
    experts = make_experts()
    quantised = Fp8Experts(quantise_weight(experts.gate_up), quantise_weight(experts.down))
    x = torch.randn(9, 128, generator=torch.Generator().manual_seed(4))
    expert_TK, weight_TK = routing(9)
    gate_up = quantised.gate_up * quantised.gate_up_scale.transpose(1, 2)
    down = quantised.down * quantised.down_scale.transpose(1, 2)
    expected = reference.experts(x, expert_TK, weight_TK, gate_up, down)
    # Activations carry e4m3's error (half of 1/8 a value) through two products.
    error = (quantised(x, expert_TK, weight_TK) - expected).norm() / expected.norm()
    assert 0.001 < error < 0.06


def test_wide_products_equal_bf16_ones_within_rounding() -> None:
    linear, experts = make_linear().bfloat16(), make_experts().bfloat16()
    x = torch.randn(6, 40, generator=torch.Generator().manual_seed(5)).bfloat16()
    torch.testing.assert_close(WideLinear(linear)(x), linear(x), rtol=2**-7, atol=2**-6)
    tokens = torch.randn(9, 128, generator=torch.Generator().manual_seed(6)).bfloat16()
    expert_TK, weight_TK = routing(9)
    actual = WideExperts(experts)(tokens, expert_TK, weight_TK).float()
    expected = experts(tokens, expert_TK, weight_TK).float()
    assert (actual - expected).norm() / expected.norm() < 0.01


def first_logits(model: DiffusionTransformer) -> torch.Tensor:
    cache = KVCache(model.config, 1, 80, dtype=model.dtype, device=model.device)
    model.encode(torch.arange(4, 24)[None], cache)
    return model.denoise(torch.arange(10, 42)[None], None, cache)


def make_model() -> DiffusionTransformer:
    model = DiffusionTransformer(preset("tiny-diffusion"), make_ops("torch"))
    fill_with_random(model, 0)
    for block in model.layers():  # random queries at full length make attention chaotic
        torch.nn.init.constant_(block.attention.q_norm.weight, 0.1)
    return model.requires_grad_(False)


def apply_precision(model: DiffusionTransformer, precision: Precision) -> Applied:
    """What loading does, for a model that is in memory already."""
    for part in model.children():
        convert(part, precision)
    finish(model, precision)
    return applied_to(model.device, precision)


def typical_error(actual: torch.Tensor, expected: torch.Tensor) -> torch.Tensor:
    """Median over positions of the relative error: a rounding may send a few to other experts."""
    return ((actual - expected).norm(dim=-1) / expected.norm(dim=-1)).median()


@pytest.mark.parametrize(("precision", "limit"), [(Precision.BF16, 0.05), (Precision.FP8, 0.3)])
def test_narrow_models_stay_close_to_fp32(precision: Precision, limit: float) -> None:
    narrow = make_model()
    apply_precision(narrow, precision)
    expected, actual = first_logits(make_model()), first_logits(narrow)
    assert actual.dtype is torch.float32
    assert 1e-4 < typical_error(actual, expected) < limit


def test_emulated_bf16_matches_native_bf16() -> None:
    emulated, native = make_model().bfloat16(), make_model().bfloat16()
    _widen_products(emulated)
    expected = first_logits(native)
    assert typical_error(first_logits(emulated), expected) < 0.03


def test_fp8_replaces_exactly_the_recipes_matrices() -> None:
    model = make_model()
    applied = apply_precision(model, Precision.FP8)
    assert applied.emulated
    for block in model.layers():
        assert isinstance(block.attention.qkv, Fp8Linear)
        assert isinstance(block.attention.output, Fp8Linear)
        assert isinstance(block.dense.gate_up, Fp8Linear)
        assert isinstance(block.dense.down, Fp8Linear)
        assert isinstance(block.experts, Fp8Experts)
        assert not isinstance(block.router.projection, Fp8Linear)
    assert not isinstance(model.self_conditioning.mlp.gate_up, Fp8Linear)
    assert model.dtype is torch.bfloat16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int4"}, "precision 'int4' is unknown; valid: fp32, bf16, fp8"),
        ({"kernels": "fast"}, "kernels 'fast' are unknown; valid: reference, torch"),
        ({"execution": "magic"}, "execution 'magic' is unknown; valid: eager"),
    ],
)
def test_unknown_choices_are_named(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("tiny-diffusion", weights="dummy", **arguments)


def test_dummy_weights_say_so_and_are_seeded() -> None:
    first, second = (load("tiny-diffusion", weights="dummy", seed=s) for s in (0, 0))
    assert first.weights.kind == "dummy"
    assert first.weights.sha256 is None
    assert first.tokenizer is None
    assert first.config.decoding is Decoding.DIFFUSION
    assert torch.equal(first.model.embedding.weight, second.model.embedding.weight)


def test_a_preset_without_weights_says_what_to_do() -> None:
    with pytest.raises(ValueError, match="has no shipped weights; give weights=PATH"):
        load("mini-diffusion")


def test_an_unknown_model_lists_the_presets() -> None:
    with pytest.raises(ValueError, match=r"'gpt-9' is neither .* valid presets: diffusiongemma"):
        load("gpt-9")
