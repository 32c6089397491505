"""config.json in both of its forms gives the presets back."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from model.config import PRESETS, ModelConfig, preset
from model.config_json import parse_config, read_config, write_config


@pytest.mark.parametrize("name", PRESETS)
def test_round_trip_of_every_preset(name: str, tmp_path: Path) -> None:
    config = preset(name)
    write_config(config, tmp_path)
    assert replace(read_config(tmp_path), name=name) == config


def released_form(config: ModelConfig, tmp_path: Path) -> dict:
    write_config(config, tmp_path)
    return json.loads((tmp_path / "config.json").read_text())


def test_per_layer_form(tmp_path: Path) -> None:
    config = preset("diffusiongemma-26b-a4b")
    data = released_form(config, tmp_path)
    text = data["text_config"]
    text["per_layer_config"] = {
        str(i): {"head_dim": text["global_head_dim"], "num_key_value_heads": 2}
        for i, kind in enumerate(config.layer_types)
        if kind == "full"
    }
    del text["global_head_dim"], text["num_global_key_value_heads"]
    generation = {"eos_token_id": [1, 106, 50], "pad_token_id": 0, "bos_token_id": 2}
    assert parse_config(data, generation, config.name) == config


@pytest.mark.parametrize("layer", ["0", "29"])
def test_layers_of_one_type_are_alike(layer: str, tmp_path: Path) -> None:
    data = released_form(preset("diffusiongemma-26b-a4b"), tmp_path)
    data["text_config"]["per_layer_config"] = {layer: {"head_dim": 128}}
    with pytest.raises(ValueError, match="layers of one type different geometries"):
        parse_config(data, {}, "x")


def test_flat_autoregressive_form(tmp_path: Path) -> None:
    config = preset("tiny-autoregressive")
    data = released_form(config, tmp_path)["text_config"]
    assert parse_config(data, {}, config.name) == config


def test_generation_config_wins_over_config(tmp_path: Path) -> None:
    data = released_form(preset("tiny-diffusion"), tmp_path)
    assert parse_config(data, {"eos_token_id": 7}, "x").eos_token_ids == (7,)
    assert parse_config(data, {}, "x").eos_token_ids == (1,)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "config.json is missing"),
        ("{", "is no JSON"),
        ("9" * 5000, "is no JSON"),
        ("[]", "holds no JSON object"),
        ('{"text_config": {}}', "lacks the field 'layer_types'"),
    ],
)
def test_bad_files_are_named(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        read_config(tmp_path)
