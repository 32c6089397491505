"""Checkpoints in the published fp8 layout: what they hold, and that it is used as it is stored."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationConfig
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.utils import (
    calculate_qparams,
    compute_dynamic_scales_and_zp,
)
from safetensors.torch import load_file
from torch import Tensor, nn

from bench.verify.inventory import num_bytes, released_entries
from model import load
from model.checkpoint import Layout, rules, save
from model.config import ModelConfig, preset
from model.diffusion import DiffusionTransformer
from model.dummy import fill_with_random
from model.float8 import ScaledExperts, ScaledLinear
from model.kv_cache import KVCache
from model.loading import make_model
from model.ops import make_ops, reference
from model.precision import FP8, Fp8Experts, Fp8Linear, quantise_weight
from model.transformer import Block, Transformer
from tests.model.fp8_checkpoint import QUANTIZATION, fp8_layout, quantised, write_folder, write_fp8

SCHEME = QuantizationConfig.model_validate(QUANTIZATION).config_groups["group_0"]
CONFIGS = {
    name: replace(preset(name), layer_types=("sliding", "full"))
    for name in ("tiny-diffusion", "tiny-autoregressive")
}
VISION = {
    "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "head_dim": 72,
    "num_attention_heads": 16, "num_key_value_heads": 16, "patch_size": 16,
    "position_embedding_size": 10240, "standardize": True,
}  # fmt: skip


def random_model(config: ModelConfig) -> Transformer:
    model = make_model(config, make_ops("reference"))
    fill_with_random(model, 1)
    for block in model.layers():  # random queries at full length make attention chaotic
        nn.init.constant_(block.attention.q_norm.weight, 0.1)
        block.layer_scalar.fill_(0.7)
        if block.encoder_layer_scalar is not None:
            block.encoder_layer_scalar.fill_(0.9)
    return model.requires_grad_(False).bfloat16()


@pytest.fixture(params=list(CONFIGS), scope="module")
def written(request, tmp_path_factory) -> tuple[ModelConfig, Path]:
    config = CONFIGS[request.param]
    folder = tmp_path_factory.mktemp("fp8") / config.name
    return config, write_fp8(random_model(config), config, folder, num_shards=3)


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return {n: t for path in folder.glob("*.safetensors") for n, t in load_file(path).items()}


def test_the_released_fp8_checkpoint_has_these_tensors_and_bytes() -> None:
    """24,232 tensors. The 27,197,665,496 bytes are their data alone, without the file's header."""
    found = released_entries(preset("diffusiongemma-26b-a4b"), VISION, fp8=True)
    assert len(found) == len({entry.name for entry in found}) == 24_232
    assert num_bytes(found) == 27_197_665_496
    assert sum(entry.dtype == "F8_E4M3" for entry in found) == 30 * 3 * 129 + 25 * 4 + 5 * 3


def test_the_released_bf16_list_is_ours() -> None:
    """The published list, one `name [shape]` a line in the order of names, has this hash."""
    found = released_entries(preset("diffusiongemma-26b-a4b"), VISION, fp8=False)
    text = "".join(f"{entry.name} {list(entry.shape)}\n" for entry in found)
    expected = "2ce89d1210b718fe6557fa8aa60c227683083d1c7454e4a8f03a36cf152d096f"
    assert hashlib.sha256(text.encode()).hexdigest() == expected
    assert (len(found), num_bytes(found)) == (1047, 51_647_562_456)


@pytest.mark.parametrize("name", ["diffusiongemma-26b-a4b", "gemma-4-26b-a4b"])
@pytest.mark.parametrize("fp8", [False, True])
def test_every_tensor_of_the_real_models_has_its_place(name: str, fp8: bool) -> None:
    """On the meta device: the sources' rows add up to each target, and no target lacks a rule."""
    config = preset(name)
    with torch.device("meta"):
        model = make_model(config, make_ops("reference"))
    layout = Layout(fp8_layout(config).prefix, per_expert=fp8, fp8=fp8)
    made = {f"{rule.part}.{rule.target}": rule for rule in rules(config, layout)}
    expected = model.state_dict()
    assert made.keys() == expected.keys()
    for target, rule in made.items():
        shape, sources = expected[target].shape, [s.shape for s in rule.sources]
        assert sum(torch.Size(s).numel() for s in sources) == shape.numel()
        assert all(s[1:] == shape[len(shape) - len(s) + 1 :] for s in sources)


def test_scales_and_values_are_the_compressed_tensors_package_s() -> None:
    weight = torch.randn(48, 96, generator=torch.Generator().manual_seed(0)).bfloat16()
    weight[5] = 0
    scale, _ = calculate_qparams(
        weight.amin(1, keepdim=True), weight.amax(1, keepdim=True), SCHEME.weights
    )
    ours = quantise_weight(weight)
    assert scale.dtype is torch.bfloat16
    assert torch.equal(ours.scale, scale.float())
    compressor = BaseCompressor.get_value_from_registry("float-quantized")
    state = {"weight": weight.float(), "weight_scale": scale.float()}
    packed = compressor.compress(state, SCHEME)
    assert torch.equal(ours.values.view(torch.uint8), packed["weight"].view(torch.uint8))
    unpacked = compressor.decompress(packed, SCHEME)["weight"]
    assert torch.equal(ours.values.float() * ours.scale, unpacked.float())
    # What this test's checkpoints are written with.
    rows = weight[torch.arange(48) != 5]
    assert torch.equal(quantised(rows)[1].float(), quantise_weight(rows).scale)
    assert torch.equal(
        quantised(rows)[0].view(torch.uint8), quantise_weight(rows).values.view(torch.uint8)
    )


def stored_matrix(tensors: dict[str, Tensor], names: list[str]) -> tuple[Tensor, Tensor]:
    values = torch.cat([tensors[f"{name}.weight"].float() for name in names])
    return values, torch.cat([tensors[f"{name}.weight_scale"].float() for name in names])


@pytest.mark.parametrize("native", [False, True])
def test_stored_values_and_scales_are_used_exactly(written, native: bool, monkeypatch) -> None:
    config, folder = written
    monkeypatch.setattr("model.precision.has_fp8_units", lambda device: native)
    model = load(str(folder), precision="fp8", kernels="reference").model
    tensors, prefix = tensors_of(folder), fp8_layout(config).prefix
    linear, experts = (ScaledLinear, ScaledExperts) if native else (Fp8Linear, Fp8Experts)
    for index, block in enumerate(model.layers()):
        layer = f"{prefix}layers.{index}."
        projections = "qkv" if config.layer_types[index] == "sliding" else "qk"
        for module, names in (
            (block.attention.qkv, [f"self_attn.{p}_proj" for p in projections]),
            (block.attention.output, ["self_attn.o_proj"]),
            (block.dense.gate_up, ["mlp.gate_proj", "mlp.up_proj"]),
            (block.dense.down, ["mlp.down_proj"]),
        ):
            assert isinstance(module, linear)
            assert module.weight.dtype is (FP8 if native else torch.float32)
            values, scale = stored_matrix(tensors, [layer + name for name in names])
            assert torch.equal(module.weight.float(), values)
            assert torch.equal(module.scale.flatten(), scale.flatten())
        assert isinstance(block.experts, experts)
        for name, parts in (("gate_up", ("gate", "up")), ("down", ("down",))):
            each = [
                [f"{layer}experts.{e}.{part}_proj" for part in parts]
                for e in range(config.moe.num_experts)
            ]
            found = [stored_matrix(tensors, names) for names in each]
            values, scale = (torch.stack(several) for several in zip(*found, strict=True))
            assert torch.equal(getattr(block.experts, name).float(), values)
            kept = getattr(block.experts, f"{name}_scale")
            assert torch.equal(kept.flatten(), scale.flatten())
        assert block.layer_scalar.item() == torch.tensor(0.7).bfloat16().item()
        if block.encoder_layer_scalar is not None:
            assert block.encoder_layer_scalar.item() == torch.tensor(0.9).bfloat16().item()
        assert torch.equal(
            block.router.projection.weight.float(),
            tensors[f"{layer}router.proj.weight"].float(),
        )
    embedding = tensors[f"{prefix}embed_tokens.weight"]
    assert torch.equal(model.embedding.weight, embedding)
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


class FakeQuantised(nn.Module):
    """The package's own arithmetic: dequantised weights, activations quantised and dequantised."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        values, scale = quantised(weight.bfloat16())
        self.weight = values.float() * scale.float()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(fake(x), self.weight).to(x.dtype)


class FakeQuantisedExperts(nn.Module):
    def __init__(self, gate_up: Tensor, down: Tensor) -> None:
        super().__init__()
        self.gate_up = [FakeQuantised(matrix) for matrix in gate_up]
        self.down = [FakeQuantised(matrix) for matrix in down]

    def forward(self, x_TD: Tensor, expert_TK: Tensor, weight_TK: Tensor) -> Tensor:
        out_TD = torch.zeros_like(x_TD, dtype=torch.float32)
        for token, (experts, weights) in enumerate(zip(expert_TK, weight_TK, strict=True)):
            for expert, weight in zip(experts.tolist(), weights, strict=True):
                hidden = reference.gated_gelu(self.gate_up[expert](x_TD[token : token + 1]))
                out_TD[token] += self.down[expert](hidden)[0].float() * weight
        return out_TD.to(x_TD.dtype)


def fake(x: Tensor) -> Tensor:
    """A token's dynamic quantisation and its reversal, fp32."""
    rows = x.float().flatten(0, -2)[None]
    scale, zero = compute_dynamic_scales_and_zp(rows, SCHEME.input_activations, nn.Identity())
    return fake_quantize(rows, scale, zero, SCHEME.input_activations)[0].view(x.shape)


def last_logits(model: Transformer, config: ModelConfig) -> Tensor:
    cache = KVCache(config, 1, 80, dtype=model.dtype, device=model.device)
    with torch.inference_mode():
        hidden = model.encode(torch.arange(4, 24)[None], cache)
        if isinstance(model, DiffusionTransformer):
            return model.denoise(torch.arange(10, 42)[None], None, cache)
        return model.logits(hidden)


def fake_quantise(block: Block) -> None:
    for parent in (block.attention, block.dense):
        for name, child in list(parent.named_children()):
            if hasattr(child, "weight") and child.weight.ndim == 2:
                setattr(parent, name, FakeQuantised(child.weight))
    block.experts = FakeQuantisedExperts(block.experts.gate_up, block.experts.down)


TOLERANCE = 0.005
"""Relative error of the median position's logits: bf16 roundings of the same arithmetic."""


def test_logits_are_those_of_fake_quantised_activations_on_dequantised_weights(written) -> None:
    config, folder = written
    expected_model = random_model(config)
    for block in expected_model.layers():
        fake_quantise(block)
    expected = last_logits(expected_model, config)
    loaded = load(str(folder), precision="fp8", kernels="reference")
    actual = last_logits(loaded.model, config)

    def error(logits: Tensor) -> float:
        return float(((logits - expected).norm(dim=-1) / expected.norm(dim=-1)).median())

    assert error(actual) < TOLERANCE
    assert error(last_logits(random_model(config), config)) > TOLERANCE  # unquantised: tells apart
    assert loaded.applied.emulated


def test_our_own_quantisation_of_the_bf16_checkpoint_is_the_same_model(
    written, tmp_path: Path
) -> None:
    config, folder = written
    write_folder(config, tmp_path, [], quantization=None)
    (tmp_path / "model.safetensors.index.json").unlink()
    save(random_model(config), config, tmp_path / "model.safetensors", torch.bfloat16)
    models = [load(str(f), precision="fp8", kernels="reference").model for f in (folder, tmp_path)]
    stored, made = (model.state_dict() for model in models)
    assert stored.keys() == made.keys()
    assert all(torch.equal(stored[name], made[name]) for name in stored)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_fp8_weights_are_not_turned_back(written, precision: str) -> None:
    with pytest.raises(ValueError, match=f"not turned back into {precision}; valid: precision fp8"):
        load(str(written[1]), precision=precision)


def test_the_published_layout_s_experts_are_read_one_by_one_in_bf16_too(tmp_path: Path) -> None:
    config = CONFIGS["tiny-autoregressive"]
    model, layout = random_model(config), replace(fp8_layout(config), fp8=False)
    tensors = {}
    for rule in rules(config, layout):
        target = model.state_dict()[f"{rule.part}.{rule.target}"]
        rows = target.flatten(0, -2) if target.ndim > 1 else target
        parts = rows.split([source.shape[0] for source in rule.sources])
        tensors |= {s.name: p.clone() for s, p in zip(rule.sources, parts, strict=True)}
    write_folder(config, tmp_path, [tensors], quantization=None)
    loaded = load(str(tmp_path), precision="fp32", kernels="reference").model
    assert torch.equal(loaded.blocks[1].experts.gate_up, model.blocks[1].experts.gate_up.float())
    assert torch.equal(loaded.blocks[0].experts.down, model.blocks[0].experts.down.float())
