"""config.json and generation_config.json: read in both of their forms, written in the released one.

The released form names the full layers' geometry `global_head_dim` and
`num_global_key_value_heads`; newer transformers write a `per_layer_config` keyed by layer index.
Diffusion checkpoints nest the text model in `text_config`; autoregressive ones may also be flat.
"""

import json
from pathlib import Path
from typing import Any

from model.config import AttentionConfig, ModelConfig, MoEConfig


def read_config(folder: Path) -> ModelConfig:
    """The architecture of the checkpoint in `folder`; its name is the folder's.

    Raises:
        ValueError: a file is missing, no JSON, or lacks a field; it is named.
    """
    data = _read_json(folder / "config.json")
    generation_path = folder / "generation_config.json"
    generation = _read_json(generation_path) if generation_path.exists() else {}
    try:
        return parse_config(data, generation, folder.name)
    except KeyError as error:
        raise ValueError(f"{folder / 'config.json'} lacks the field {error}") from error


def parse_config(data: dict[str, Any], generation: dict[str, Any], name: str) -> ModelConfig:
    """The architecture that a parsed config.json and generation_config.json describe."""
    text = data.get("text_config", data)
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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(data, dict):
        raise ValueError(f"{path} holds no JSON object")
    return data


def _full_geometry(text: dict[str, Any], layer_types: tuple[str, ...]) -> tuple[int, int]:
    """Head dim and KV heads of the full layers."""
    if "per_layer_config" in text and "full" in layer_types:
        override = text["per_layer_config"].get(str(layer_types.index("full")), {})
        return (
            override.get("head_dim", text["head_dim"]),
            override.get("num_key_value_heads", text["num_key_value_heads"]),
        )
    num_kv_heads = text.get("num_global_key_value_heads") or text["num_key_value_heads"]
    return text["global_head_dim"], num_kv_heads


def _first_set(*values: Any) -> Any:
    return next(value for value in values if value is not None)
