"""A point behind a server: what is refused beforehand, and the sessions of a process's points.

A server that runs already is taken as it is: model, precision and step cap are its operator's word,
of which the cap is held against its counters. One that is started here gets them from the point.
"""

import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bench import provenance
from bench.backends.openai import OpenAiConfig
from bench.backends.openai.hello import greet
from bench.backends.openai.request import Endpoint
from bench.backends.openai.served import ServedModel, ServedSession, check_arrivals
from bench.chat_template import ChatTemplate
from bench.schema import BlockDiffusionConfig, EosPolicy, FixedWorkConfig, RunConfig
from bench.servers import TAKES_STEPS, Engine, LaunchConfig, launched
from bench.workloads import Workload
from model import PRESETS, ModelConfig
from model.checkpoint.reader import CheckpointReader
from model.loading import SHIPPED, locate, read_tokenizer


def check_served(config: RunConfig, workload: Workload, architecture: ModelConfig) -> None:
    """Refuses a point that its server cannot be asked.

    Raises:
        ValueError: the reason and what is valid.
    """
    backend = config.backend
    assert isinstance(backend, OpenAiConfig)
    length = architecture.canvas_length
    if backend.canvas_length not in (None, length):
        raise ValueError(
            f"backend.canvas_length is {backend.canvas_length}; valid: {length or 'null'}, as "
            f"model={config.model} has it"
        )
    ids = any(p.token_ids is not None or p.fit is not None for p in workload.prompts)
    if ids and backend.endpoint is Endpoint.chat:
        raise ValueError(
            f"workload={workload.name} asks token ids, which backend.endpoint=chat does not take; "
            "valid: backend.endpoint=completions"
        )
    if length is None and (backend.max_denoising_steps is not None or not backend.early_stop):
        raise ValueError("backend.max_denoising_steps and early_stop belong to a diffusion model")
    silence_s, longest_s = config.measure.timeout_s, backend.connect_s + backend.whole_s
    if longest_s > silence_s:
        raise ValueError(
            f"measure.timeout_s is {silence_s:g}, which ends the process while one request may "
            f"still wait; valid: {longest_s:g} (backend.connect_s and backend.whole_s) or more"
        )
    _check_sampler(config, backend)
    _launch(config, backend)
    if isinstance(config.workload, FixedWorkConfig):
        _check_fixed(config, backend)
    if workload.needs_tokenizer:
        _tokenizer_folder(config)
    if backend.arrivals is not None:
        check_arrivals(backend.arrivals, len(workload.prompts))


def check_together(configs: Sequence[RunConfig]) -> None:
    """Refuses points of several models, or precisions, that one and the same server is to be.

    Raises:
        ValueError: what differs.
    """
    told: dict[tuple[str, str], dict[str, str]] = {}
    for config in configs:
        backend = config.backend
        if not isinstance(backend, OpenAiConfig) or backend.starts_server:
            continue
        own = {
            "model": config.model,
            "weights": config.weights or "null",
            "precision": config.precision.name,
        }
        first = told.setdefault((backend.url, backend.served_model), own)
        for name, value in own.items():
            if first[name] != value:
                raise ValueError(
                    f"{name} is {first[name]} and {value} with one server at {backend.url}, which "
                    f"serves one model; valid: {name}=VALUE, as it was started"
                )


def served_sessions(
    configs: Sequence[RunConfig], templates: Sequence[ChatTemplate | None], *, log: Path | None
) -> list[ServedSession]:
    """A session a point, of one server for all; it ends with any of them.

    Args:
        templates: of each point's prompts.
        log: of a server that is started; beside it a load's outcomes lie until they are read.

    Raises:
        ValueError: there is no server, or it does not serve the model.
    """
    stack = ExitStack()
    try:
        server = _server(configs[0], stack, log)
        return [
            ServedSession(
                _told(config, server),
                _served_model(config, template, server),
                server=server.words,
                stack=stack,
                folder=None if log is None else log.parent,
            )
            for config, template in zip(configs, templates, strict=True)
        ]
    except BaseException:
        stack.close()
        raise


@dataclass(frozen=True, slots=True)
class _Server:
    """A server that answers; the first three are empty for one that ran before."""

    url: str = ""
    metrics_url: str | None = None
    served_model: str = ""
    words: str | None = None
    machine: dict[str, Any] = field(default_factory=dict)


def _server(config: RunConfig, stack: ExitStack, log: Path | None) -> _Server:
    backend = config.backend
    assert isinstance(backend, OpenAiConfig)
    launch = _launch(config, backend)
    if not backend.starts_server:
        return _Server(words=greet(backend))
    if launch.model is None and launch.engine is not Engine.command:
        launch = replace(launch, model=str(_checkpoint(config, stack)))
    if log is None:
        log = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "server.log"
    running = stack.enter_context(
        launched(launch, log=log, say=lambda line: print(line, file=sys.stderr, flush=True))
    )
    here = provenance.machine(config.device, config.threads or 0)
    return _Server(
        url=running.url,
        metrics_url=running.metrics_url,
        served_model=running.served_model,
        words=" ".join([running.version or launch.engine.name, "as", *running.command]),
        machine={name: here[name] for name in ("device", "cpu", "driver")},
    )


def _launch(config: RunConfig, backend: OpenAiConfig) -> LaunchConfig:
    """What is started, with the sampler's steps."""
    launch, sampler = backend.launch, config.sampler
    if not backend.starts_server or launch.max_denoising_steps is not None:
        return launch
    if not isinstance(sampler, BlockDiffusionConfig):
        return launch
    if launch.engine not in TAKES_STEPS and sampler == BlockDiffusionConfig():
        return launch
    return replace(
        launch, max_denoising_steps=sampler.max_denoising_steps, early_stop=sampler.early_stop
    )


def _checkpoint(config: RunConfig, stack: ExitStack) -> Path:
    """The folder to serve; the tiny pair is written as one."""
    _, folder = locate(config.model, config.weights)
    if folder is None:
        raise ValueError("weights=dummy cannot be served; valid: a checkpoint, as weights=FOLDER")
    if folder.parent != SHIPPED:
        return folder
    from bench.servers.export import export

    place = stack.enter_context(tempfile.TemporaryDirectory(prefix="canvasbench-model-"))
    return export(config.model, Path(place) / config.model, precision=config.precision.name)


def _told(config: RunConfig, server: _Server) -> OpenAiConfig:
    """The configuration with all that is known of the server once it answers."""
    backend = config.backend
    assert isinstance(backend, OpenAiConfig)
    architecture, _ = _located(config)
    greedy = architecture.canvas_length is None and backend.temperature is None
    known = replace(
        backend,
        canvas_length=architecture.canvas_length,
        temperature=0.0 if greedy else backend.temperature,
    )
    if not backend.starts_server:
        return known
    launch = _launch(config, backend)
    return replace(
        known,
        launch=LaunchConfig(),
        url=server.url,
        metrics_url=server.metrics_url,
        served_model=server.served_model,
        max_denoising_steps=launch.max_denoising_steps,
        early_stop=launch.early_stop,
        drafter=backend.drafter or _drafter(launch),
    )


def _drafter(launch: LaunchConfig) -> str | None:
    """None drafts unless it is told to; what a user's own command does is unknown."""
    told = launch.engine is Engine.command or any("spec" in each for each in launch.args)
    return None if told else "none"


def _served_model(config: RunConfig, template: ChatTemplate | None, server: _Server) -> ServedModel:
    architecture, folder = _located(config)
    backend = config.backend
    assert isinstance(backend, OpenAiConfig)
    return ServedModel(
        name=architecture.name,
        decoding=architecture.decoding.value,
        vocab_size=architecture.vocab_size,
        bos_token_id=architecture.bos_token_id,
        eos_token_ids=architecture.eos_token_ids,
        tokenizer=None if folder is None else read_tokenizer(folder),
        max_new_tokens=config.workload.max_new_tokens,
        ignore_eos=config.workload.eos_policy is EosPolicy.ignore,
        seed=config.seed,
        template=template if backend.endpoint is Endpoint.completions else None,
        machine=server.machine,
        **_weights(config, folder, backend),
    )


def _weights(config: RunConfig, folder: Path | None, backend: OpenAiConfig) -> dict[str, Any]:
    """Of a server that was started here they are those of the folder it was given."""
    if config.weights == "dummy":
        return {"weights": "dummy"}
    if not backend.starts_server or backend.launch.model is not None or folder is None:
        return {}
    name = "tiny" if folder.parent == SHIPPED else folder.name
    return {"weights": name, "weights_sha256": CheckpointReader(folder).fingerprint()}


def _located(config: RunConfig) -> tuple[ModelConfig, Path | None]:
    """Architecture, and the folder with the tokenizer; None where no prompt needs one."""
    fixed = isinstance(config.workload, FixedWorkConfig)
    if fixed and config.weights is None and config.model in PRESETS:
        return PRESETS[config.model], None
    return locate(config.model, config.weights)


def _tokenizer_folder(config: RunConfig) -> Path:
    _, folder = _located(config)
    if folder is None:
        raise ValueError(
            f"weights=dummy has no tokenizer, which workload={config.workload.tasks} needs; valid: "
            "weights=FOLDER of a checkpoint, of which its tokenizer and config.json are read"
        )
    return folder


def _check_sampler(config: RunConfig, backend: OpenAiConfig) -> None:
    """Refuses knobs that no server is told: they would look as if they had been set."""
    sampler = config.sampler
    if not isinstance(sampler, BlockDiffusionConfig):
        return
    usual = BlockDiffusionConfig()
    told = ("max_denoising_steps", "early_stop")
    for name in BlockDiffusionConfig.__dataclass_fields__:
        value = getattr(sampler, name)
        if value == getattr(usual, name) or (name in told and backend.starts_server):
            continue
        instead = (
            f"backend.{name}, as it was started" if name in told else f"{getattr(usual, name)}"
        )
        raise ValueError(f"sampler.{name}={value} is told to no server; valid: {instead}")


def _check_fixed(config: RunConfig, backend: OpenAiConfig) -> None:
    """Fixed work needs forced steps."""
    sampler = config.sampler
    if not isinstance(sampler, BlockDiffusionConfig):
        return
    launch = _launch(config, backend)
    told = launch if backend.starts_server else backend
    if told.early_stop or told.max_denoising_steps is None:
        instead = (
            "sampler=forced"
            if backend.starts_server
            else "backend.max_denoising_steps=N backend.early_stop=false, as it was started"
        )
        raise ValueError(f"workload={config.workload.tasks} needs {instead}")
