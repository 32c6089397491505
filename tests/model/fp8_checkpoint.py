"""Writes checkpoints in the published fp8 layout, from a model's weights or out of thin air."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from model.checkpoint import Entry, Layout, entries, rules, text_prefixes
from model.config import ModelConfig
from model.config_json import write_config
from model.tiny.tokenizer import build_tokenizer
from model.transformer import Transformer

_E4M3_MAX = 448.0

# The published fp8 checkpoint's, with a short `ignore`.
QUANTIZATION = {
    "config_groups": {
        "group_0": {
            "format": "float-quantized",
            "input_activations": {
                "dynamic": True,
                "num_bits": 8,
                "strategy": "token",
                "symmetric": True,
                "type": "float",
            },
            "output_activations": None,
            "targets": ["Linear"],
            "weights": {
                "dynamic": False,
                "num_bits": 8,
                "observer": "memoryless_minmax",
                "strategy": "channel",
                "symmetric": True,
                "type": "float",
            },
        }
    },
    "format": "float-quantized",
    "ignore": ["lm_head"],
    "kv_cache_scheme": None,
    "quant_method": "compressed-tensors",
    "quantization_status": "compressed",
}


def fp8_layout(config: ModelConfig) -> Layout:
    return Layout(text_prefixes(config)[0], per_expert=True, fp8=True)


def quantised(weight: Tensor) -> tuple[Tensor, Tensor]:
    """e4m3 values and bf16 scale [out, 1]: the largest magnitude of a row over 448."""
    largest = weight.float().abs().amax(dim=1, keepdim=True)
    scale = (largest / _E4M3_MAX).bfloat16()
    values = (weight.float() / scale.float()).clamp(-_E4M3_MAX, _E4M3_MAX)
    return values.to(torch.float8_e4m3fn), scale


def fp8_tensors(model: Transformer, config: ModelConfig) -> Iterator[tuple[str, Tensor]]:
    """A model's weights as the published fp8 layout stores them, in its order of layers."""
    state = model.state_dict()
    for rule in rules(config, fp8_layout(config)):
        merged = state[f"{rule.part}.{rule.target}"].bfloat16()
        rows = merged.flatten(0, -2) if merged.ndim > 1 else merged
        sizes = [source.shape[0] for source in rule.sources]
        for source, part in zip(rule.sources, rows.split(sizes), strict=True):
            if not rule.in_recipe:
                yield source.name, part.contiguous()
                continue
            values, scale = quantised(part)
            yield source.name, values
            yield f"{source.name}_scale", scale


def write_fp8(
    model: Transformer, config: ModelConfig, folder: Path, *, num_shards: int = 1
) -> Path:
    """A whole fp8 checkpoint; shards are cut by count, so layers straddle them."""
    tensors = list(fp8_tensors(model, config))
    size = -(-len(tensors) // num_shards)
    shards = [tensors[i : i + size] for i in range(0, len(tensors), size)]
    return write_folder(
        config, folder, (dict(shard) for shard in shards), quantization=QUANTIZATION
    )


def write_dummy(
    config: ModelConfig,
    folder: Path,
    layout: Layout,
    *,
    shard_bytes: int,
    wanted: Callable[[Entry], bool] = lambda entry: True,
) -> Path:
    """A checkpoint of a layout whose numbers are a short pattern, repeated: quick to make."""
    pattern = torch.randn(1 << 16, generator=torch.Generator().manual_seed(0))

    def shards() -> Iterator[dict[str, Tensor]]:
        shard: dict[str, Tensor] = {}
        for entry in filter(wanted, entries(config, layout)):
            shard[entry.name] = _dummy(entry, pattern)
            if sum(t.nbytes for t in shard.values()) >= shard_bytes:
                yield shard
                shard = {}
        if shard:
            yield shard

    return write_folder(config, folder, shards(), quantization=QUANTIZATION if layout.fp8 else None)


def _dummy(entry: Entry, pattern: Tensor) -> Tensor:
    size = torch.Size(entry.shape).numel()
    if len(entry.shape) == 1:
        return torch.ones(entry.shape, dtype=torch.bfloat16)
    if entry.name.endswith("_scale"):
        return torch.full(entry.shape, 2e-4, dtype=torch.bfloat16)
    # The stored width of e4m3 times the scale above, and of bf16 weights, is about 0.02.
    one = (pattern * 100).to(torch.float8_e4m3fn) if entry.dtype == "F8_E4M3" else pattern * 0.02
    one = one if entry.dtype == "F8_E4M3" else one.bfloat16()
    bits = one.view(torch.uint8 if entry.dtype == "F8_E4M3" else torch.int16)
    return bits.repeat(-(-size // bits.numel()))[:size].view(one.dtype).view(entry.shape)


def write_folder(
    config: ModelConfig,
    folder: Path,
    shards: Iterable[dict[str, Tensor]],
    *,
    quantization: dict | None,
) -> Path:
    """config.json, tokenizer.json, and shards with their index."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(config, folder)
    if quantization is not None:
        path = folder / "config.json"
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"quantization_config": quantization})
        )
    build_tokenizer().save(str(folder / "tokenizer.json"))
    names: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        file = f"model-{number:05}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        names |= dict.fromkeys(shard, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder
