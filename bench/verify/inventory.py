"""Every tensor that a released checkpoint of the pair is to hold, the vision tower included.

The text model's names come from `model.checkpoint`, which loads them; the vision tower's are kept
here, where they are counted and not loaded.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bench.verify.judge import Check, judged
from model.checkpoint import CheckpointReader, Entry, Layout, entries, text_prefixes
from model.config import PRESETS, Decoding, ModelConfig
from model.config_json import differences

PUBLISHED = {
    (Decoding.DIFFUSION, False): (1_047, 51_647_562_456),
    (Decoding.DIFFUSION, True): (24_232, 27_197_665_496),
}
"""Tensors and bytes of data of the released diffusion checkpoints, BF16 and fp8, by their lists.

https://huggingface.co/google/diffusiongemma-26B-A4B-it,
https://huggingface.co/RedHatAI/diffusiongemma-26B-A4B-it-FP8-dynamic. Of the autoregressive ones no
list is kept here.
"""

_TIED = "lm_head."  # a copy of the embedding that some writers keep
_BYTES = {"BF16": 2, "F8_E4M3": 1}


def released_entries(
    config: ModelConfig, vision: Mapping[str, Any] | None, *, fp8: bool
) -> list[Entry]:
    """All tensors of a checkpoint in the released layout, by name.

    Args:
        vision: config.json's `vision_config`, None for a text-only checkpoint.
        fp8: the published fp8 layout instead of the BF16 one.
    """
    layout = Layout(text_prefixes(config)[0], per_expert=fp8, fp8=fp8)
    found = list(entries(config, layout))
    if vision is not None:
        prefix = "model." if config.canvas_length is None else "model.encoder."
        found += vision_entries(vision, config.hidden_size, prefix)
    return sorted(found, key=lambda entry: entry.name)


def vision_entries(vision: Mapping[str, Any], text_size: int, prefix: str) -> Iterator[Entry]:
    """The vision tower's tensors and its projection into the text model, BF16 in every layout."""
    size, hidden, head = (
        int(vision[name]) for name in ("hidden_size", "intermediate_size", "head_dim")
    )
    queries = int(vision["num_attention_heads"]) * head
    keys = int(vision["num_key_value_heads"]) * head
    tower = f"{prefix}vision_tower."
    pixels = 3 * int(vision["patch_size"]) ** 2
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}embed_vision.embedding_projection.weight": (text_size, size),
        f"{tower}patch_embedder.input_proj.weight": (size, pixels),
        f"{tower}patch_embedder.position_embedding_table": (
            2,
            int(vision["position_embedding_size"]),
            size,
        ),
    }
    if vision.get("standardize"):
        shapes |= {f"{tower}std_bias": (size,), f"{tower}std_scale": (size,)}
    for index in range(int(vision["num_hidden_layers"])):
        layer = f"{tower}encoder.layers.{index}."
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            shapes[f"{layer}{norm}_layernorm.weight"] = (size,)
        shapes |= {
            f"{layer}mlp.gate_proj.linear.weight": (hidden, size),
            f"{layer}mlp.up_proj.linear.weight": (hidden, size),
            f"{layer}mlp.down_proj.linear.weight": (size, hidden),
            f"{layer}self_attn.q_norm.weight": (head,),
            f"{layer}self_attn.k_norm.weight": (head,),
            f"{layer}self_attn.q_proj.linear.weight": (queries, size),
            f"{layer}self_attn.k_proj.linear.weight": (keys, size),
            f"{layer}self_attn.v_proj.linear.weight": (keys, size),
            f"{layer}self_attn.o_proj.linear.weight": (size, queries),
        }
    for name, shape in shapes.items():
        yield Entry(name, shape, "BF16")


def num_bytes(found: Iterable[Entry]) -> int:
    """Bytes of the tensors' data, without any file's header."""
    return sum(math.prod(entry.shape) * _BYTES[entry.dtype] for entry in found)


def check_inventory(
    config: ModelConfig, vision: Mapping[str, Any] | None, reader: CheckpointReader, *, fp8: bool
) -> list[Check]:
    """A folder's headers against what such a checkpoint is to hold; reads no data."""
    expected = {entry.name: entry for entry in released_entries(config, vision, fp8=fp8)}
    found = {name: s for name, s in reader.stored.items() if not name.startswith(_TIED)}
    missing = sorted(expected.keys() - found.keys())
    unknown = sorted(found.keys() - expected.keys())
    wrong = [
        name
        for name, entry in sorted(expected.items())
        if name in found and (found[name].shape, found[name].dtype) != (entry.shape, entry.dtype)
    ]
    num_found = sum(s.end - s.begin for s in found.values())
    num_expected = num_bytes(expected.values())
    return [
        judged(
            "tensor names",
            not missing and not unknown,
            f"{len(found):,} of {len(expected):,} tensors ({_authority(config, fp8=fp8)})"
            + _example("missing", missing)
            + _example("unknown", unknown),
        ),
        judged(
            "tensor shapes and types",
            not wrong,
            f"{len(expected) - len(missing) - len(wrong):,} as expected" + _example("not", wrong),
        ),
        judged(
            "bytes of data",
            num_found == num_expected,
            f"{num_found:,} of {num_expected:,} in {len(reader.shards)} files",
        ),
    ]


def _authority(config: ModelConfig, *, fp8: bool) -> str:
    """Whose list the expected one equals; a test holds it to the published numbers."""
    if not is_released(config):
        return "no released shape: by the loader's table for its config.json"
    if (config.decoding, fp8) in PUBLISHED:
        return "the published list"
    return "no published list is kept here: by the loader's table"


def is_released(config: ModelConfig) -> bool:
    """Whether a configuration is the released pair's, special tokens aside."""
    return any(
        not any(differences(PRESETS[name], config))
        for name in ("diffusiongemma-26b-a4b", "gemma-4-26b-a4b")
    )


def _example(what: str, names: list[str]) -> str:
    return f"; {len(names):,} {what}: {names[0]}" if names else ""
