"""What is wrong with a checkpoint, or with what is asked of it, is said in one line naming it."""

import json
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from model import load
from model.checkpoint import CheckpointReader, save
from model.config import PRESETS, preset
from model.config_json import write_config
from model.precision import Precision, check_device
from tests.model.fp8_checkpoint import QUANTIZATION, write_fp8
from tests.model.test_checkpoint_fp8 import CONFIGS, random_model

CONFIG = CONFIGS["tiny-diffusion"]
LAYER = "model.decoder.layers.1."
UP = f"{LAYER}mlp.up_proj.weight"
EXPERT = f"{LAYER}experts.3.down_proj.weight"


@pytest.fixture
def fp8(tmp_path: Path) -> Path:
    return write_fp8(random_model(CONFIG), CONFIG, tmp_path / "fp8")


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def in_place(name: str, change: Callable[[torch.Tensor], object]) -> Callable[[dict], object]:
    return lambda tensors: change(tensors[name])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(EXPERT), f"tensor {EXPERT} is missing"),
        (lambda t: t.pop(f"{EXPERT}_scale"), f"tensor {EXPERT}_scale is missing"),
        (
            lambda t: t.update({UP: t[UP].bfloat16()}),
            f"tensor {UP} .* is BF16; an fp8 checkpoint has F8_E4M3 there",
        ),
        (
            lambda t: t.update({f"{LAYER}router.scale": t[f"{LAYER}router.scale"].long()}),
            "router.scale .* is I64; an fp8 checkpoint has BF16 or F32 there",
        ),
        (
            lambda t: t.update({f"{UP}_scale": t[f"{UP}_scale"].flatten()}),
            rf"tensor {UP}_scale has shape \[192\], .* needs \[192, 1\]",
        ),
        (
            lambda t: t.update({EXPERT: t[EXPERT][:, :-1].contiguous()}),
            rf"tensor {EXPERT} has shape \[128, 31\], .* needs \[128, 32\]",
        ),
        (in_place(f"{UP}_scale", lambda t: t[7].fill_(0)), f"tensor {UP}_scale .* not positive"),
        (in_place(f"{UP}_scale", lambda t: t.neg_()), f"tensor {UP}_scale .* not positive"),
        (
            in_place(f"{EXPERT}_scale", lambda t: t[7].fill_(torch.inf)),
            f"tensor {EXPERT}_scale .* not finite",
        ),
        (
            in_place(f"{EXPERT}_scale", lambda t: t[7].fill_(torch.nan)),
            f"tensor {EXPERT}_scale .* not finite",
        ),
        (
            in_place(EXPERT, lambda t: t.view(torch.uint8)[0].fill_(0xFF)),
            f"tensor {EXPERT} .* not finite",
        ),
        (
            lambda t: t.update({f"{LAYER}router.proj.weight_scale": torch.ones(8, 1)}),
            "tensor .*router.proj.weight_scale .* is unknown",
        ),
    ],
)
@pytest.mark.parametrize("native", [False, True])
def test_bad_fp8_tensors_are_named(fp8: Path, change, message: str, native, monkeypatch) -> None:
    monkeypatch.setattr("model.precision.has_fp8_units", lambda device: native)
    rewrite(fp8, change)
    with pytest.raises(ValueError, match=message):
        load(str(fp8), precision="fp8")


def test_fp8_values_without_a_quantization_config_are_refused(fp8: Path) -> None:
    write_config(CONFIG, fp8)
    with pytest.raises(ValueError, match=r"tensor .* is missing|is F8_E4M3; an unquantised"):
        load(str(fp8), precision="fp8")


def changed(*keys: str, to: object) -> dict:
    found = json.loads(json.dumps(QUANTIZATION))
    place = found
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = to
    return found


GROUP = ("config_groups", "group_0")


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        (changed("quant_method", to="modelopt"), "quant_method 'modelopt'; .*'compressed-tensors'"),
        (changed("format", to="nvfp4-pack-quantized"), "format 'nvfp4-pack-quantized'"),
        (changed(*GROUP, "weights", "type", to="int"), "weights.type 'int'; supported: 'float'"),
        (changed(*GROUP, "weights", "num_bits", to=4), "weights.num_bits 4; supported: 8"),
        (changed(*GROUP, "weights", "strategy", to="block"), "weights.strategy 'block'"),
        (changed(*GROUP, "input_activations", "dynamic", to=False), "input_activations.dynamic"),
        (changed(*GROUP, "input_activations", to=None), "input_activations.type None"),
        (changed("kv_cache_scheme", to={"num_bits": 8}), "kv_cache_scheme"),
        (changed("config_groups", to={}), "quantised with targets None"),
    ],
)
def test_other_schemes_are_refused_by_name(fp8: Path, quantization: dict, message: str) -> None:
    path = fp8 / "config.json"
    content = json.loads(path.read_text()) | {"quantization_config": quantization}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        load(str(fp8), precision="fp8")


@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (12, 0)])
def test_fp8_is_refused_on_a_device_without_its_products(capability, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    message = rf"compute capability 9.0 or 10.0; cuda:0 has {capability[0]}.{capability[1]}"
    with pytest.raises(ValueError, match=message):
        load("tiny-diffusion", precision="fp8", device="cuda:0")
    check_device(torch.device("cuda:0"), Precision.BF16)


@pytest.mark.parametrize("capability", [(9, 0), (10, 0)])
def test_fp8_is_taken_where_it_runs(capability, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    check_device(torch.device("cuda:0"), Precision.FP8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden_size": 64}, "its hidden_size is 64, not 128"),
        (
            {"sliding": replace(CONFIG.sliding, window=64)},
            r"is no tiny-diffusion: its sliding.window is 64, not 128",
        ),
        ({"moe": replace(CONFIG.moe, top_k=1)}, "its moe.top_k is 1, not 2"),
        (
            {"canvas_length": None},
            "is no diffusion model but autoregressive; model tiny-autoregressive is",
        ),
    ],
)
def test_another_architecture_than_the_preset_s_is_refused(
    tmp_path: Path, change: dict, message: str
) -> None:
    write_config(replace(preset("tiny-diffusion"), **change), tmp_path)
    with pytest.raises(ValueError, match=message):
        load("tiny-diffusion", weights=str(tmp_path))


def test_special_tokens_are_the_folder_s(fp8: Path, monkeypatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny-diffusion", CONFIG)
    path = fp8 / "generation_config.json"
    path.write_text('{"eos_token_id": [9, 8], "pad_token_id": 3, "bos_token_id": 4}')
    loaded = load("tiny-diffusion", weights=str(fp8), precision="fp8").config
    assert (loaded.eos_token_ids, loaded.pad_token_id, loaded.bos_token_id) == ((9, 8), 3, 4)
    assert (loaded.name, loaded.sibling) == ("tiny-diffusion", "tiny-autoregressive")


@pytest.mark.parametrize(
    ("field", "value"),
    [("tie_word_embeddings", False), ("attention_bias", True), ("use_double_wide_mlp", True)],
)
def test_what_the_architecture_lacks_is_refused(fp8: Path, field: str, value: bool) -> None:
    path = fp8 / "config.json"
    content = json.loads(path.read_text())
    content["text_config"][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"{field} is {value}; supported: {not value}"):
        load(str(fp8), precision="fp8")


def damaged(path: Path, header: dict | bytes, data: bytes = b"\0" * 8) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "no safetensors file"),
        (b"[]", "no safetensors file"),
        ({"a": ONE | {"shape": [3]}}, r"8 bytes for F32 \[3\]"),
        ({"a": {"dtype": "F32"}}, "no safetensors file: 'data_offsets'"),
        ({"a": ONE, "b": ONE}, "overlap or leave gaps"),
        ({"a": ONE | {"shape": [4], "data_offsets": [0, 16]}}, "header tells of .* bytes"),
        ({"a": ONE | {"shape": [1], "data_offsets": [4, 8]}}, "overlap or leave gaps"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, header, message: str) -> None:
    damaged(tmp_path / "model.safetensors", header)
    with pytest.raises(ValueError, match=message):
        CheckpointReader(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, struct.pack("<Q", 10_000) + b"{}"])
def test_a_file_without_a_header_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model.safetensors is truncated .* no header"):
        CheckpointReader(tmp_path)


def test_a_file_that_shrinks_while_it_is_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    damaged(path, {"a": ONE})
    reader = CheckpointReader(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="ends within tensor a"):
        reader.read("a")


def test_a_tensor_in_two_files_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_file({"x": torch.zeros(1)}, tmp_path / f"{name}.safetensors")
    message = "tensor x is in both a.safetensors and b.safetensors"
    with pytest.raises(ValueError, match=re.escape(message)):
        CheckpointReader(tmp_path)


def test_the_other_sibling_s_tensors_are_refused(tmp_path: Path) -> None:
    """A folder whose config.json is one sibling's and whose tensors are the other's."""
    other = CONFIGS["tiny-autoregressive"]
    write_fp8(random_model(other), other, tmp_path)
    path = tmp_path / "config.json"
    content = json.loads(path.read_text()) | {"canvas_length": 32}
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"is no diffusion model: no tensor model.decoder.embed"):
        load(str(tmp_path), precision="fp8")


def test_large_checkpoints_are_sampled_and_say_so(tmp_path: Path, monkeypatch) -> None:
    save(random_model(CONFIG), CONFIG, tmp_path / "model.safetensors", torch.bfloat16)
    reader = CheckpointReader(tmp_path)
    whole = reader.fingerprint()
    assert re.fullmatch("[0-9a-f]{64}", whole)
    monkeypatch.setattr("model.checkpoint.reader._FULL_HASH_BELOW_BYTES", 1)
    monkeypatch.setattr("model.checkpoint.reader._SAMPLE_EVERY_BYTES", 1 << 18)
    sampled = reader.fingerprint()
    assert re.fullmatch("sampled:[0-9a-f]{64}", sampled)
    rewrite(tmp_path, lambda t: [tensor.mul_(2) for tensor in t.values()])
    assert CheckpointReader(tmp_path).fingerprint() not in (whole, sampled)
