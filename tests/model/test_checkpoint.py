"""Checkpoints: the upstream layout, single and sharded, and one clear line for every damage."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bench.verify.inventory import vision_entries
from model import load
from model.checkpoint import CheckpointReader, load_into, save
from model.config import Decoding, preset
from model.config_json import write_config
from model.diffusion import DiffusionTransformer
from model.dummy import fill_with_random
from model.kv_cache import KVCache
from model.loading import LoadedModel
from model.ops import make_ops
from model.tiny.tokenizer import build_tokenizer
from model.transformer import Transformer
from tests.model.upstream import (
    CASES,
    VISION,
    autoregressive_config,
    randomise,
    save_upstream,
    upstream_autoregressive,
    upstream_multimodal,
)
from tests.model.upstream import upstream_diffusion as make_upstream

CONFIG = replace(preset("tiny-autoregressive"), layer_types=("sliding", "full"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good checkpoint of a small autoregressive model."""
    model = Transformer(CONFIG, make_ops("reference"))
    fill_with_random(model, 0)
    save(model, CONFIG, tmp_path / "model.safetensors", torch.bfloat16)
    write_config(CONFIG, tmp_path)
    build_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def rewrite(folder: Path, change) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_what_is_saved_comes_back(folder: Path) -> None:
    loaded = load(str(folder), precision="bf16", kernels="reference")
    again = folder / "again.safetensors"
    save(loaded.model, CONFIG, again, torch.bfloat16)
    first, second = load_file(folder / "model.safetensors"), load_file(again)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_upstream_reads_what_we_save(tmp_path: Path) -> None:
    config = CASES[1].config
    upstream = make_upstream(config)
    randomise(upstream, 3)
    upstream.save_pretrained(tmp_path / "theirs")
    with torch.device("meta"):
        ours: Transformer = type(load("tiny-diffusion", weights="dummy").model)(
            config, make_ops("reference")
        )
    load_into(ours, config, CheckpointReader(tmp_path / "theirs"))
    save(ours, config, tmp_path / "ours.safetensors", torch.float32)
    theirs = load_file(tmp_path / "theirs" / "model.safetensors")
    written = load_file(tmp_path / "ours.safetensors")
    assert written.keys() == {n for n in theirs if "vision" not in n}
    assert all(torch.equal(written[name], theirs[name]) for name in written)


@pytest.mark.parametrize("prefix", ["model.", "model.language_model."])
def test_both_autoregressive_prefixes(prefix: str, tmp_path: Path) -> None:
    config = autoregressive_config(CASES[0].config)
    upstream = upstream_autoregressive(config)
    randomise(upstream, 4)
    upstream.save_pretrained(tmp_path)

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.replace("model.", prefix, 1)] = tensors.pop(name)

    rewrite(tmp_path, rename)
    model = Transformer(config, make_ops("reference"))
    load_into(model, config, CheckpointReader(tmp_path))
    assert torch.equal(model.embedding.weight, upstream.model.embed_tokens.weight)


def test_sharded_checkpoints_equal_single_ones(folder: Path, tmp_path: Path) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    files = {n: f"model-{1 + i % 2}-of-2.safetensors" for i, n in enumerate(names)}
    for file in set(files.values()):
        save_file({n: tensors[n] for n in names if files[n] == file}, shards / file)
    index = {"weight_map": files}
    (shards / "model.safetensors.index.json").write_text(json.dumps(index))
    model = Transformer(CONFIG, make_ops("reference"))
    load_into(model, CONFIG, CheckpointReader(shards))
    assert torch.equal(model.embedding.weight, tensors["model.language_model.embed_tokens.weight"])
    (shards / "model-2-of-2.safetensors").unlink()
    with pytest.raises(ValueError, match=r"shard model-2-of-2.safetensors .* is missing"):
        CheckpointReader(shards)
    (shards / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(ValueError, match="is no safetensors index"):
        CheckpointReader(shards)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sibling", list(Decoding))
def test_what_upstream_saves_in_shards_gives_its_logits(
    sibling: Decoding, dtype: torch.dtype, tmp_path: Path
) -> None:
    config = CASES[1].config
    if sibling is Decoding.AUTOREGRESSIVE:
        config = autoregressive_config(config)
    upstream = (make_upstream if config.canvas_length else upstream_multimodal)(config)
    randomise(upstream, 5)
    save_upstream(upstream, tmp_path, dtype, max_shard_size="60KB")
    build_tokenizer().save(str(tmp_path / "tokenizer.json"))
    assert len(list(tmp_path.glob("*.safetensors"))) > 3
    loaded = load(str(tmp_path), precision="fp32", kernels="reference")
    assert loaded.config == replace(config, name=tmp_path.name)
    model, ids, canvas = loaded.model, torch.arange(2, 13)[None], torch.arange(20, 36)[None]
    cache = KVCache(config, 1, 40, dtype=torch.float32, device=torch.device("cpu"))
    with torch.inference_mode():
        hidden = model.encode(ids, cache)
        if isinstance(model, DiffusionTransformer):
            actual = model.denoise(canvas, None, cache)
            asked = {"decoder_input_ids": canvas}
        else:
            actual, asked = model.logits(hidden), {}
        expected = upstream(input_ids=ids, **asked).logits
    assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_the_vision_tower_s_names_are_upstream_s() -> None:
    state = make_upstream(CASES[0].config).state_dict()
    theirs = {name: tuple(t.shape) for name, t in state.items() if "vision" in name}
    listed = vision_entries(VISION, CASES[0].size, "model.encoder.")
    assert {entry.name: entry.shape for entry in listed} == theirs


NAME = "model.language_model.layers.0.mlp.up_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(NAME), f"tensor {NAME} is missing"),
        (
            lambda t: t.update({NAME: t[NAME][:-1].contiguous()}),
            r"up_proj.* has shape \[191, 128\]",
        ),
        (lambda t: t[NAME].fill_(float("nan")), f"tensor {NAME} .* not finite"),
        (lambda t: t.update(extra=torch.zeros(1)), "tensor extra .* is unknown"),
        (
            lambda t: t.pop("model.language_model.embed_tokens.weight"),
            "is no autoregressive model: no tensor model.language_model.embed_tokens.weight",
        ),
    ],
)
def test_wrong_tensors_are_named(folder: Path, change, message: str) -> None:
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        load(str(folder))


def test_a_truncated_file_is_named(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated or no safetensors file"):
        load(str(folder))


def test_pickles_are_never_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"weight": torch.zeros(1)}, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"holds no \*.safetensors file"):
        load(str(folder))


@pytest.mark.parametrize("missing", ["config.json", "tokenizer.json"])
def test_missing_files_are_named(folder: Path, missing: str) -> None:
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=f"{missing} is missing"):
        load(str(folder))


def test_the_other_siblings_checkpoint_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="is no diffusion model"):
        load("tiny-diffusion", weights=str(folder))


def test_vision_tensors_are_skipped_by_name(folder: Path) -> None:
    rewrite(folder, lambda t: t.update({"model.vision_tower.x": torch.zeros(1)}))
    assert isinstance(load(str(folder)), LoadedModel)


def test_a_folder_with_bad_tokenizer_is_named(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is no tokenizer file"):
        load(str(folder))


def test_the_weights_hash_names_their_content(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("copy"))
    first, second = load(str(folder)), load(str(copy))
    assert first.weights.sha256 == second.weights.sha256
    rewrite(copy, lambda t: t[NAME].add_(1))
    assert load(str(copy)).weights.sha256 != first.weights.sha256
