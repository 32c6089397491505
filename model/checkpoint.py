"""Checkpoints in the released layout: a folder with config.json and safetensors, sharded or single.

One table of names serves both directions and both siblings. Only safetensors are ever opened.
Merged matrices (query/key/value, gate/up) are the concatenation of their parts along dimension 0.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model.config import ModelConfig

_SKIPPED_PREFIXES = (
    "model.encoder.vision_tower.",
    "model.encoder.embed_vision.",
    "model.vision_tower.",
    "model.embed_vision.",
    "lm_head.",
)

# (our name in a block, names of its parts in the checkpoint's layer)
_LAYER_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("attention.output.weight", ("self_attn.o_proj.weight",)),
    ("attention.q_norm.weight", ("self_attn.q_norm.weight",)),
    ("attention.k_norm.weight", ("self_attn.k_norm.weight",)),
    ("dense.gate_up.weight", ("mlp.gate_proj.weight", "mlp.up_proj.weight")),
    ("dense.down.weight", ("mlp.down_proj.weight",)),
    ("router.scale", ("router.scale",)),
    ("router.projection.weight", ("router.proj.weight",)),
    ("router.per_expert_scale", ("router.per_expert_scale",)),
    ("experts.gate_up", ("experts.gate_up_proj",)),
    ("experts.down", ("experts.down_proj",)),
    ("input_norm.weight", ("input_layernorm.weight",)),
    ("post_attention_norm.weight", ("post_attention_layernorm.weight",)),
    ("pre_dense_norm.weight", ("pre_feedforward_layernorm.weight",)),
    ("post_dense_norm.weight", ("post_feedforward_layernorm_1.weight",)),
    ("pre_experts_norm.weight", ("pre_feedforward_layernorm_2.weight",)),
    ("post_experts_norm.weight", ("post_feedforward_layernorm_2.weight",)),
    ("post_feedforward_norm.weight", ("post_feedforward_layernorm.weight",)),
    ("layer_scalar", ("layer_scalar",)),
)
_SELF_CONDITIONING_NAMES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("pre_norm.weight", ("pre_norm.weight",)),
    ("mlp.gate_up.weight", ("gate_proj.weight", "up_proj.weight")),
    ("mlp.down.weight", ("down_proj.weight",)),
)


@dataclass(frozen=True, slots=True)
class Rule:
    """`target`, a tensor of ours, is the concatenation of the checkpoint's `sources`."""

    target: str
    sources: tuple[str, ...]


def rules(config: ModelConfig, text_prefix: str) -> Iterator[Rule]:
    """Every tensor of a model and where the checkpoint keeps it.

    Args:
        text_prefix: what text tensors start with, e.g. "model.decoder." (`text_prefixes`).
    """
    yield Rule("embedding.weight", (f"{text_prefix}embed_tokens.weight",))
    yield Rule("final_norm.weight", (f"{text_prefix}norm.weight",))
    for index, layer_type in enumerate(config.layer_types):
        layer = f"{text_prefix}layers.{index}."
        parts = "qk" if config.attention(layer_type).value_is_key else "qkv"
        projections = tuple(f"{layer}self_attn.{part}_proj.weight" for part in parts)
        yield Rule(f"blocks.{index}.attention.qkv.weight", projections)
        for target, sources in _LAYER_NAMES:
            yield Rule(f"blocks.{index}.{target}", tuple(layer + s for s in sources))
        if config.canvas_length is not None:
            scalar = f"model.encoder.language_model.layers.{index}.layer_scalar"
            yield Rule(f"blocks.{index}.encoder_layer_scalar", (scalar,))
    if config.canvas_length is not None:
        for target, sources in _SELF_CONDITIONING_NAMES:
            prefix = f"{text_prefix}self_conditioning."
            yield Rule(f"self_conditioning.{target}", tuple(prefix + s for s in sources))


def text_prefixes(config: ModelConfig) -> tuple[str, ...]:
    """The prefixes text tensors may carry; the first is the released checkpoint's."""
    if config.canvas_length is not None:
        return ("model.decoder.",)
    return ("model.language_model.", "model.")


class CheckpointReader:
    """Tensors of a checkpoint folder by name, read lazily, one at a time.

    Raises:
        ValueError: the folder, a shard or the index is missing, or a file is truncated or no
            safetensors file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not folder.is_dir():
            raise ValueError(f"checkpoint {folder} is not a folder")
        self._handles = {path: _open(path) for path in _shards(folder)}
        self._where = {
            name: path
            for path, handle in self._handles.items()
            for name in handle.keys()  # noqa: SIM118
        }
        if not self._where:
            raise ValueError(f"checkpoint {folder} holds no *.safetensors file with tensors")

    @property
    def names(self) -> set[str]:
        return set(self._where)

    def read(self, name: str) -> Tensor:
        """The tensor called `name`; a ValueError names it when it holds NaN or infinity."""
        tensor = self._handles[self._where[name]].get_tensor(name)
        if not torch.isfinite(tensor).all():
            raise ValueError(f"tensor {name} in {self.folder} has values that are not finite")
        return tensor


def _shards(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return sorted(folder.glob("*.safetensors"))
    try:
        names = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (json.JSONDecodeError, KeyError, AttributeError) as error:
        raise ValueError(f"{index} is no safetensors index: {error}") from error
    for name in names:
        if not (folder / name).exists():
            raise ValueError(f"shard {name} listed in {index} is missing")
    return [folder / name for name in names]


def _open(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file: {error}") from error


def load_into(model: nn.Module, config: ModelConfig, reader: CheckpointReader) -> None:
    """Fills a model built on the meta device with a checkpoint's tensors, in their stored dtype.

    Raises:
        ValueError: a tensor is missing, unknown, not finite or of the wrong shape; it is named.
    """
    prefixes = text_prefixes(config)
    prefix = next((p for p in prefixes if f"{p}embed_tokens.weight" in reader.names), None)
    if prefix is None:
        raise ValueError(
            f"checkpoint {reader.folder} is no {config.decoding} model: "
            f"no tensor {prefixes[0]}embed_tokens.weight"
        )
    expected = model.state_dict()
    state: dict[str, Tensor] = {}
    used: set[str] = set()
    for rule in rules(config, prefix):
        missing = [source for source in rule.sources if source not in reader.names]
        if missing:
            raise ValueError(f"tensor {missing[0]} is missing from {reader.folder}")
        parts = [reader.read(source) for source in rule.sources]
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        if tensor.shape != expected[rule.target].shape:
            raise ValueError(
                f"tensor {' + '.join(rule.sources)} has shape {list(tensor.shape)}, "
                f"{config.name} needs {list(expected[rule.target].shape)}"
            )
        state[rule.target] = tensor
        used.update(rule.sources)
    unknown = sorted(n for n in reader.names - used if not n.startswith(_SKIPPED_PREFIXES))
    if unknown:
        raise ValueError(f"tensor {unknown[0]} in {reader.folder} is unknown to {config.name}")
    model.load_state_dict(state, strict=True, assign=True)


def save(model: nn.Module, config: ModelConfig, path: Path, dtype: torch.dtype) -> None:
    """Writes one safetensors file in the released layout, merged matrices split again."""
    state = model.state_dict()
    tensors: dict[str, Tensor] = {}
    for rule in rules(config, text_prefixes(config)[0]):
        merged = state[rule.target].detach().to(dtype)
        sizes = _part_sizes(config, rule, merged.shape[0])
        for source, part in zip(rule.sources, merged.split(sizes), strict=True):
            tensors[source] = part.contiguous()
    save_file(tensors, path, metadata={"format": "pt"})


def _part_sizes(config: ModelConfig, rule: Rule, size: int) -> list[int]:
    if not rule.target.endswith("qkv.weight"):
        return [size // len(rule.sources)] * len(rule.sources)
    layer_type = config.layer_types[int(rule.target.split(".")[1])]
    geometry = config.attention(layer_type)
    query = config.num_heads * geometry.head_dim
    others = [geometry.num_kv_heads * geometry.head_dim] * (len(rule.sources) - 1)
    return [query, *others]
