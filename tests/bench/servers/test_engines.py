"""Command lines and the small files beside them, engine by engine; nothing is started."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.servers import Engine, LaunchConfig
from bench.servers.engines import FOLDER, PUBLISHED_VLLM_ARGS, Checkpoint, start

GENERATION = {"max_denoising_steps": 48, "confidence_threshold": 0.005, "eos_token_id": [1, 106]}
LIMIT = {"max_new_tokens": 256}


@pytest.fixture
def diffusion(tmp_path: Path) -> Checkpoint:
    return written(tmp_path / "dg", {"canvas_length": 256})


@pytest.fixture
def autoregressive(tmp_path: Path) -> Checkpoint:
    return written(tmp_path / "ar", {})


def written(folder: Path, config: dict[str, Any]) -> Checkpoint:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps(GENERATION | LIMIT))
    (folder / "tokenizer_config.json").write_text('{"bos_token": "<bos>"}')
    for name in ("model.safetensors", "processor_config.json", "tokenizer.json"):
        (folder / name).write_text("")
    return Checkpoint.read(folder)


def config(engine: Engine, checkpoint: Checkpoint | None = None, **knobs: Any) -> LaunchConfig:
    model = None if checkpoint is None else str(checkpoint.folder)
    return LaunchConfig(**({"engine": engine, "model": model} | knobs))


def test_vllm_with_the_published_flags_forces_sixteen_steps(diffusion: Checkpoint) -> None:
    published = config(
        Engine.vllm,
        diffusion,
        max_denoising_steps=16,
        early_stop=False,
        args=PUBLISHED_VLLM_ARGS["diffusion"],
    )
    made = start(published, diffusion, 8000)
    assert " ".join(made.arguments) == (
        f"{sys.executable} -m vllm.entrypoints.openai.api_server --model {diffusion.folder} "
        "--served-model-name dg --host 127.0.0.1 --port 8000 "
        '--diffusion-config {"canvas_length":256,"max_denoising_steps":16} '
        f"--generation-config {FOLDER} --max-num-seqs 4 --max-model-len 8192"
    )
    forced = json.loads(made.files["generation_config.json"])
    # With the limit vLLM would cut answers of 1,024 tokens at 256.
    assert forced == GENERATION | {"confidence_threshold": 0.0}
    assert made.served_model == "dg"
    assert made.environment["HF_HUB_OFFLINE"] == "1"


def test_vllm_leaves_the_thresholds_alone_where_only_a_cap_is_set(diffusion: Checkpoint) -> None:
    made = start(config(Engine.vllm, diffusion, max_denoising_steps=8), diffusion, 1)
    assert '{"canvas_length":256,"max_denoising_steps":8}' in made.arguments
    assert "--generation-config" not in made.arguments
    assert made.files == {}


def test_vllm_for_the_autoregressive_sibling_as_published(autoregressive: Checkpoint) -> None:
    args = PUBLISHED_VLLM_ARGS["autoregressive"]
    made = start(config(Engine.vllm, autoregressive, args=args), autoregressive, 1)
    assert made.arguments[-len(args) :] == tuple(args)
    assert '{"image":0,"video":0}' in made.arguments
    assert not any("diffusion" in argument for argument in made.arguments[5:])


def test_vllm_keeps_fp32_weights_in_fp32(tmp_path: Path) -> None:
    for name, dtype in (("one", {"dtype": "float32"}), ("two", {"torch_dtype": "float32"})):
        checkpoint = written(tmp_path / name, dtype)
        made = start(config(Engine.vllm, checkpoint), checkpoint, 1)
        assert made.arguments[-2:] == ("--dtype", "float32")
    half = written(tmp_path / "half", {"dtype": "bfloat16"})
    assert "--dtype" not in start(config(Engine.vllm, half), half, 1).arguments


def test_transformers_is_given_a_folder_it_takes_for_a_text_model(diffusion: Checkpoint) -> None:
    forced = config(Engine.transformers, diffusion, max_denoising_steps=5, early_stop=False)
    made = start(forced, diffusion, 8001)
    assert made.arguments[1:5] == ("-m", "transformers.cli.transformers", "serve", "dg")
    assert (made.inside, made.served_model) == (True, "dg")
    generation = json.loads(made.files["dg/generation_config.json"])
    assert generation["return_dict_in_generate"] is False
    # Stable for as many steps as there are: never before the last.
    assert generation["max_denoising_steps"] == generation["stability_threshold"] == 5
    assert generation["confidence_threshold"] == GENERATION["confidence_threshold"]
    tokenizer = json.loads(made.files["dg/tokenizer_config.json"])
    assert tokenizer == {"bos_token": "<bos>", "processor_class": "GemmaTokenizer"}
    linked = {name: target.name for name, target in made.links.items()}
    assert linked == {
        f"dg/{name}": name for name in ("config.json", "model.safetensors", "tokenizer.json")
    }


def test_transformers_takes_the_autoregressive_sibling_as_it_is(autoregressive: Checkpoint) -> None:
    made = start(config(Engine.transformers, autoregressive), autoregressive, 1)
    assert made.files == {}
    assert {name.split("/")[1] for name in made.links} == set(autoregressive.names)


def test_a_name_on_a_hub_is_left_to_the_engine() -> None:
    for engine in (Engine.transformers, Engine.vllm, Engine.sglang):
        made = start(config(engine, model="org/name"), None, 1)
        assert "org/name" in made.arguments
        assert "HF_HUB_OFFLINE" not in made.environment
    with pytest.raises(ValueError, match="'org/name' is no folder here"):
        start(config(Engine.vllm, model="org/name", max_denoising_steps=4), None, 1)


def test_sglang_llama_cpp_and_any_command(tmp_path: Path) -> None:
    made = start(config(Engine.sglang, model="org/name", args=["--tp", "2"]), None, 7)
    assert made.arguments[1:3] == ("-m", "sglang.launch_server")
    assert made.arguments[-3:] == ("--enable-metrics", "--tp", "2")
    gguf = tmp_path / "m.gguf"
    gguf.write_text("")
    made = start(config(Engine.llama_cpp, model=str(gguf)), None, 7)
    assert made.arguments[:5] == ("llama-server", "--model", str(gguf), "--alias", "m.gguf")
    with pytest.raises(ValueError, match="needs a GGUF file"):
        start(config(Engine.llama_cpp, model=str(tmp_path)), None, 7)
    command = config(Engine.command, args=["my-server", "--port={port}"])
    assert start(command, None, 7).arguments == ("my-server", "--port=7")


def test_steps_of_an_autoregressive_model_and_no_model_are_refused(
    autoregressive: Checkpoint,
) -> None:
    with pytest.raises(ValueError, match="ar is autoregressive; valid: null"):
        start(config(Engine.vllm, autoregressive, max_denoising_steps=4), autoregressive, 1)
    with pytest.raises(ValueError, match="engine=vllm needs a model to serve"):
        start(config(Engine.vllm), None, 1)


def test_executables_hold_from_any_folder(
    autoregressive: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    named = config(Engine.transformers, autoregressive, executable="env/bin/python")
    assert start(named, autoregressive, 1).arguments[0] == str(tmp_path / "env/bin/python")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "bad"
    written(folder, {})
    (folder / "generation_config.json").write_text("{")
    with pytest.raises(ValueError, match=r"generation_config\.json is no JSON"):
        Checkpoint.read(folder)
