"""config.json and generation_config.json: read in both of their forms, written in the released one.

The released form names the full layers' geometry `global_head_dim` and
`num_global_key_value_heads`; newer transformers write a `per_layer_config` keyed by layer index.
Diffusion checkpoints nest the text model in `text_config`; autoregressive ones may also be flat.
"""

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from model.config import PRESETS, AttentionConfig, ModelConfig, MoEConfig

_FP8_RECIPE: dict[str, Any] = {
    "quant_method": "compressed-tensors",
    "format": "float-quantized",
    "kv_cache_scheme": None,
    "targets": ["Linear"],
    "weights.type": "float",
    "weights.num_bits": 8,
    "weights.strategy": "channel",
    "weights.symmetric": True,
    "weights.dynamic": False,
    "input_activations.type": "float",
    "input_activations.num_bits": 8,
    "input_activations.strategy": "token",
    "input_activations.symmetric": True,
    "input_activations.dynamic": True,
    "output_activations": None,
}
# What the architecture has no choice about: fields that may be absent, and their only values.
_FIXED_FIELDS: dict[str, tuple[Any, ...]] = {
    "tie_word_embeddings": (True,),
    "attention_bias": (False,),
    "hidden_activation": ("gelu_pytorch_tanh",),
    "enable_moe_block": (True,),
    "hidden_size_per_layer_input": (0, None),
    "num_kv_shared_layers": (0, None),
    "use_double_wide_mlp": (False,),
}
_NO_ARCHITECTURE = ("name", "sibling", "eos_token_ids", "pad_token_id", "bos_token_id")


def architecture(preset_or_path: str) -> ModelConfig:
    """Of a preset, or as a checkpoint folder has it.

    Raises:
        ValueError: neither of them; otherwise as `read_config`.
    """
    if preset_or_path in PRESETS:
        return PRESETS[preset_or_path]
    folder = Path(preset_or_path).expanduser()
    if not folder.is_dir():
        raise ValueError(
            f"model {preset_or_path!r} is neither a preset nor a checkpoint folder; "
            f"valid presets: {', '.join(PRESETS)}"
        )
    return read_config(folder)


def read_config(folder: Path) -> ModelConfig:
    """The architecture of the checkpoint in `folder`; its name is the folder's.

    Raises:
        ValueError: a file is missing, no JSON, lacks a field or asks for another architecture than
            this one; it is named.
    """
    data = _read_json(folder / "config.json")
    generation_path = folder / "generation_config.json"
    generation = _read_json(generation_path) if generation_path.exists() else {}
    try:
        return parse_config(data, generation, folder.name)
    except KeyError as error:
        raise ValueError(f"{folder / 'config.json'} lacks the field {error}") from error


def stores_fp8(folder: Path) -> bool:
    """Whether the checkpoint in `folder` holds the published fp8 recipe's matrices.

    Raises:
        ValueError: it is quantised in another way; the message says how, and what is supported.
    """
    data = _read_json(folder / "config.json")
    text = data.get("text_config", {})
    quantisation = data.get("quantization_config") or text.get("quantization_config")
    if not quantisation:
        return False
    for field, value in _quantisation_fields(quantisation):
        if value != _FP8_RECIPE[field]:
            raise ValueError(
                f"checkpoint {folder} is quantised with {field} {value!r}; supported: "
                f"{_FP8_RECIPE[field]!r} (compressed-tensors float-quantized: e4m3 weights with "
                "a scale a channel, dynamic e4m3 activations a token), or no quantisation"
            )
    return True


def check_same_architecture(found: ModelConfig, wanted: ModelConfig, folder: Path) -> None:
    """Compares what a folder describes with a preset; ids of special tokens may differ.

    Raises:
        ValueError: the first field that differs is named, with both values.
    """
    if found.decoding is not wanted.decoding:
        raise ValueError(
            f"checkpoint {folder} is no {wanted.decoding} model but {found.decoding}; "
            f"model {wanted.sibling} is"
        )
    for name, ours, theirs in differences(wanted, found):
        raise ValueError(
            f"checkpoint {folder} is no {wanted.name}: its {name} is {theirs}, not {ours}"
        )


def differences(wanted: Any, found: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two architectures differ: the field's dotted name and both values."""
    for field in fields(wanted):
        if field.name in _NO_ARCHITECTURE:
            continue
        ours, theirs = getattr(wanted, field.name), getattr(found, field.name)
        if is_dataclass(ours):
            yield from differences(ours, theirs, f"{prefix}{field.name}.")
        elif ours != theirs:
            yield f"{prefix}{field.name}", ours, theirs


def _quantisation_fields(quantisation: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """What decides how values are stored, by dotted name, group by group."""
    for name in ("quant_method", "format", "kv_cache_scheme"):
        yield name, quantisation.get(name)
    for group in (quantisation.get("config_groups") or {"none": {}}).values():
        yield "targets", group.get("targets")
        for side in ("weights", "input_activations"):
            arguments = group.get(side) or {}
            for name in ("type", "num_bits", "strategy", "symmetric", "dynamic"):
                yield f"{side}.{name}", arguments.get(name)
        yield "output_activations", group.get("output_activations")


def parse_config(data: dict[str, Any], generation: dict[str, Any], name: str) -> ModelConfig:
    """The architecture that a parsed config.json and generation_config.json describe."""
    text = data.get("text_config", data)
    for field, valid in _FIXED_FIELDS.items():
        if text.get(field, valid[0]) not in valid:
            raise ValueError(f"{name}: {field} is {text[field]!r}; supported: {valid[0]!r}")
    layer_types = tuple(kind.removesuffix("_attention") for kind in text["layer_types"])
    rope = text["rope_parameters"]
    head_dim, num_kv_heads = _full_geometry(text, layer_types)
    eos = _first_set(generation.get("eos_token_id"), data.get("eos_token_id"), text["eos_token_id"])
    return ModelConfig(
        name=name,
        vocab_size=text["vocab_size"],
        hidden_size=text["hidden_size"],
        num_heads=text["num_attention_heads"],
        layer_types=layer_types,
        sliding=AttentionConfig(
            num_kv_heads=text["num_key_value_heads"],
            head_dim=text["head_dim"],
            rope_theta=rope["sliding_attention"]["rope_theta"],
            window=text["sliding_window"],
        ),
        full=AttentionConfig(
            num_kv_heads=num_kv_heads,
            head_dim=head_dim,
            rope_theta=rope["full_attention"]["rope_theta"],
            rotary_fraction=rope["full_attention"].get("partial_rotary_factor", 1.0),
            value_is_key=text.get("attention_k_eq_v", True),
        ),
        dense_hidden_size=text["intermediate_size"],
        moe=MoEConfig(
            num_experts=text["num_experts"],
            top_k=text["top_k_experts"],
            hidden_size=text["moe_intermediate_size"],
        ),
        canvas_length=data.get("canvas_length"),
        max_positions=text["max_position_embeddings"],
        eos_token_ids=tuple(eos) if isinstance(eos, list) else (eos,),
        pad_token_id=_first_set(generation.get("pad_token_id"), text["pad_token_id"]),
        bos_token_id=_first_set(generation.get("bos_token_id"), text["bos_token_id"]),
        final_logit_softcap=text["final_logit_softcapping"],
        rms_norm_eps=text["rms_norm_eps"],
    )


def write_config(config: ModelConfig, folder: Path) -> None:
    """Writes config.json in the released form, and generation_config.json."""
    text = {
        "model_type": "diffusion_gemma_text" if config.canvas_length else "gemma4_text",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.sliding.num_kv_heads,
        "num_global_key_value_heads": config.full.num_kv_heads,
        "head_dim": config.sliding.head_dim,
        "global_head_dim": config.full.head_dim,
        "layer_types": [f"{kind}_attention" for kind in config.layer_types],
        "sliding_window": config.sliding.window,
        "rope_parameters": {
            "sliding_attention": {"rope_theta": config.sliding.rope_theta, "rope_type": "default"},
            "full_attention": {
                "rope_theta": config.full.rope_theta,
                "rope_type": "proportional",
                "partial_rotary_factor": config.full.rotary_fraction,
            },
        },
        "intermediate_size": config.dense_hidden_size,
        "num_experts": config.moe.num_experts,
        "top_k_experts": config.moe.top_k,
        "moe_intermediate_size": config.moe.hidden_size,
        "max_position_embeddings": config.max_positions,
        "final_logit_softcapping": config.final_logit_softcap,
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": True,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_ids[0],
        "pad_token_id": config.pad_token_id,
    }
    if config.canvas_length is None:
        text |= {"enable_moe_block": True, "attention_k_eq_v": config.full.value_is_key}
        text |= {"hidden_size_per_layer_input": 0, "num_kv_shared_layers": 0}
        document: dict[str, Any] = {
            "architectures": ["Gemma4ForConditionalGeneration"],
            "model_type": "gemma4",
        }
    else:
        document = {
            "architectures": ["DiffusionGemmaForBlockDiffusion"],
            "model_type": "diffusion_gemma",
            "canvas_length": config.canvas_length,
        }
    document["text_config"] = text
    generation = {
        "eos_token_id": list(config.eos_token_ids),
        "pad_token_id": config.pad_token_id,
        "bos_token_id": config.bos_token_id,
    }
    for name, content in (("config.json", document), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except ValueError as error:  # no JSON, no UTF-8, or a number of thousands of digits
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no JSON object")
    return data


def _full_geometry(text: dict[str, Any], layer_types: tuple[str, ...]) -> tuple[int, int]:
    """Head dim and KV heads of the full layers.

    Raises:
        ValueError: layers of one type differ in them.
    """
    if "per_layer_config" in text and "full" in layer_types:
        found: dict[str, set[tuple[int, int]]] = {}
        for index, kind in enumerate(layer_types):
            layer = text | text["per_layer_config"].get(str(index), {})
            found.setdefault(kind, set()).add((layer["head_dim"], layer["num_key_value_heads"]))
        sliding = {(text["head_dim"], text["num_key_value_heads"])}
        if len(found["full"]) > 1 or found.get("sliding", sliding) != sliding:
            raise ValueError("per_layer_config gives layers of one type different geometries")
        return found["full"].pop()
    num_kv_heads = text.get("num_global_key_value_heads") or text["num_key_value_heads"]
    return text["global_head_dim"], num_kv_heads


def _first_set(*values: Any) -> Any:
    return next(value for value in values if value is not None)
