"""The composition root: a typed configuration in, a session and a workload out.

What needs torch is imported where a point needs it: a simulation's process starts without.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tokenizers import Tokenizer

import model as engine
from bench.backends import AnySession, Backend, Session
from bench.backends.openai import OpenAiConfig
from bench.backends.simulated import Knobs, SimulatedConfig, simulated_session
from bench.backends.transformers import INSTALL, TransformersConfig
from bench.chat_template import ChatTemplate
from bench.schema import (
    BlockDiffusionConfig,
    ChatConfig,
    Commit,
    FixedWorkConfig,
    Launcher,
    LongContextConfig,
    Measure,
    RunConfig,
    TextConfig,
    Vocabulary,
)
from bench.workloads import Workload, fixed_work, long_context, make_workload, text_workload
from model.config_json import architecture

if TYPE_CHECKING:
    import torch

    from model import LoadedModel


def decoding_of(name: str) -> str:
    """The decoding of a preset or of a checkpoint folder.

    Raises:
        ValueError: neither a preset nor a folder with a config.json.
    """
    return architecture(name).decoding.value


def check_points(configs: Sequence[RunConfig]) -> None:
    """Refuses what can be refused of a run's points without loading a model.

    Raises:
        ValueError: as `check_point`, or points that one server cannot all be.
    """
    for config in configs:
        check_point(config)
    from bench.serving import check_together

    check_together(configs)


def check_point(config: RunConfig) -> None:
    """Refuses what can be refused without loading a model.

    Raises:
        ValueError: a knob out of range, an unknown or missing device, an unknown workload, fixed
            work that is not fixed, or a workload that needs a chat template where there is none.
    """
    _sampling(config)
    _device(config)
    build_workload(config)
    chat_template(config)
    _check_commit(config)
    _check_min_belief(config)
    _check_vocabulary(config)
    _check_kernels(config)
    if config.time_budget_s is not None and config.launcher.name is not Launcher.local:
        raise ValueError(
            f"time_budget_s has no effect with launcher={config.launcher.name.name}; "
            "valid: launcher=local"
        )
    if isinstance(config.backend, TransformersConfig):
        sampler = config.sampler
        config.backend.check(
            precision=config.precision.name,
            decoding=decoding_of(config.model),
            device=config.device,
            batch_size=config.batch_size,
            early_stop=isinstance(sampler, BlockDiffusionConfig) and sampler.early_stop,
        )
    if isinstance(config.backend, OpenAiConfig):
        from bench.serving import check_served

        check_served(config, build_workload(config), architecture(config.model))
    elif isinstance(config.workload, FixedWorkConfig):
        _check_fixed_work(config)
    made_to_length = FixedWorkConfig | LongContextConfig
    if isinstance(config.workload, made_to_length) and isinstance(config.backend, SimulatedConfig):
        raise ValueError(
            f"workload={config.workload.tasks} has no text to simulate; valid: backend=native"
        )


def _check_commit(config: RunConfig) -> None:
    if config.commit is Commit.fused and isinstance(
        config.backend, TransformersConfig | OpenAiConfig
    ):
        raise ValueError(
            f"commit=fused has no effect with backend={config.backend.name.name}, which commits a "
            "canvas as it does; valid: commit=separate"
        )


def _check_min_belief(config: RunConfig) -> None:
    """Refuses what leaving beliefs out does not go with, or is not known to be good enough for."""
    sampler = config.sampler
    if not isinstance(sampler, BlockDiffusionConfig) or not sampler.min_belief:
        return
    said = f"sampler.min_belief is {sampler.min_belief:g}"
    if config.measure.name is Measure.publish:
        raise ValueError(
            f"{said}, which leaves out what a step before believed; measure=publish needs 0 until "
            "a quality run on real weights exists"
        )
    if isinstance(config.workload, FixedWorkConfig):
        raise ValueError(
            f"{said}, with which contents decide how much work a step is; "
            f"workload={config.workload.tasks} needs 0"
        )


def _check_kernels(config: RunConfig) -> None:
    """The engine's own kernels need a GPU and one of its precisions (`model.load` says so late)."""
    wanted = config.kernels.name == "triton" and config.backend.name is Backend.native
    if wanted and (config.device == "cpu" or config.precision.name == "fp32"):
        raise ValueError(
            f"kernels=triton run bf16 and fp8 on a CUDA device, not {config.precision.name} on "
            f"{config.device}; valid here: torch, reference"
        )


def _check_vocabulary(config: RunConfig) -> None:
    """Refuses what fp8 products with the vocabulary do not go with, or are not known good for."""
    if config.vocabulary is Vocabulary.exact:
        return
    from model.precision import Precision, check_vocabulary  # with torch, as all that can run it
    from model.vocabulary import Vocabulary as Products

    check_vocabulary(Precision(config.precision.name), Products(config.vocabulary.name))
    if config.backend.name is not Backend.native:
        raise ValueError(
            f"vocabulary is fp8, which backend={config.backend.name.name} does not know; "
            "valid: vocabulary=exact"
        )
    sampler = config.sampler
    if isinstance(sampler, BlockDiffusionConfig) and sampler.min_belief:
        raise ValueError(
            f"vocabulary is fp8, whose products leave nothing out; sampler.min_belief is "
            f"{sampler.min_belief:g}; it must be 0"
        )
    if config.measure.name is Measure.publish:
        raise ValueError(
            "vocabulary is fp8, which rounds what a step decides by; measure=publish needs exact "
            "until a quality run on real weights exists"
        )


def _check_fixed_work(config: RunConfig) -> None:
    name, sampler = config.workload.tasks, config.sampler
    if isinstance(sampler, BlockDiffusionConfig) and sampler.early_stop:
        raise ValueError(f"workload={name} needs sampler=forced or sampler.early_stop=false")
    if isinstance(sampler, BlockDiffusionConfig) and not sampler.self_conditioning:
        raise ValueError(
            f"sampler.self_conditioning is False, which leaves out part of a step's work; "
            f"workload={name} needs True"
        )
    if config.workload.num_prompts % config.batch_size:
        raise ValueError(
            f"workload.num_prompts is {config.workload.num_prompts}; workload={name} needs a "
            f"multiple of batch_size ({config.batch_size}), so that every batch is the same work"
        )


def build_workload(config: RunConfig) -> Workload:
    """What the point is asked; prompts made to a length are still to be fitted to a tokenizer.

    Raises:
        ValueError: an unknown task set or domain, or more prompts than there are.
    """
    workload = config.workload
    if isinstance(workload, TextConfig):
        return text_workload(workload.domains, workload.num_prompts)
    if isinstance(workload, LongContextConfig):
        return long_context(workload.num_prompts, workload.prompt_tokens)
    if isinstance(workload, FixedWorkConfig):
        vocab_size = architecture(config.model).vocab_size
        return fixed_work(workload.num_prompts, workload.prompt_tokens, vocab_size)
    return make_workload(workload.tasks, workload.num_prompts)


def chat_template(config: RunConfig) -> ChatTemplate | None:
    """The template the point's prompts are put into, None for a workload of bare prompts.

    Raises:
        ValueError: the workload needs one and the checkpoint has none.
    """
    workload = config.workload
    if not isinstance(workload, ChatConfig) or isinstance(config.backend, SimulatedConfig):
        return None
    folder = config.weights if config.model in engine.PRESETS else config.model
    if folder is None or config.weights == "dummy":
        instead = (
            f"; random prompts of any length: workload=fixed_work "
            f"workload.prompt_tokens={workload.prompt_tokens}"
            if isinstance(workload, LongContextConfig)
            else ""
        )
        raise ValueError(
            f"workload={workload.tasks} needs a checkpoint folder with a tokenizer and a chat "
            f"template, as model=FOLDER or weights=FOLDER; model={config.model} "
            f"weights={config.weights or 'null'} has none{instead}"
        )
    return ChatTemplate.read(Path(folder).expanduser(), thinking=workload.thinking)


def build_sessions(
    point_ids: Sequence[str],
    configs: Sequence[RunConfig],
    process_id: int,
    *,
    server_log: Path | None = None,
) -> list[AnySession]:
    """Loads one model, or starts one server, for all of the points that it serves (`bench.plan`).

    Args:
        server_log: gets what a server that is started says; null for a file of its own.

    Raises:
        ValueError: a knob out of range, an unknown device, or a checkpoint that does not fit.
    """
    if isinstance(configs[0].backend, SimulatedConfig):
        return [
            _simulated(point_id, config, process_id)
            for point_id, config in zip(point_ids, configs, strict=True)
        ]
    for config in configs:
        _sampling(config)
        _device(config)
    if isinstance(configs[0].backend, TransformersConfig):
        return [*_upstream(configs)]
    if isinstance(configs[0].backend, OpenAiConfig):
        from bench.serving import served_sessions

        templates = [chat_template(config) for config in configs]
        return [*served_sessions(configs, templates, log=server_log)]
    loaded = _load(configs[0])
    _check_tokenizer(configs, loaded.tokenizer)
    return [_session(config, loaded) for config in configs]


def _check_tokenizer(configs: Sequence[RunConfig], tokenizer: Tokenizer | None) -> None:
    for config in configs:
        if tokenizer is None and build_workload(config).needs_tokenizer:
            raise ValueError(
                f"model {config.model} has dummy weights and no tokenizer, "
                f"which workload {config.workload.tasks} needs"
            )


def _simulated(point_id: str, config: RunConfig, process_id: int) -> Session:
    assert isinstance(config.backend, SimulatedConfig)
    sampler = config.sampler if isinstance(config.sampler, BlockDiffusionConfig) else None
    return simulated_session(
        config.backend,
        model=config.model,
        decoding=decoding_of(config.model),
        point_id=point_id,
        prompts=build_workload(config).prompts,
        knobs=Knobs(
            max_new_tokens=config.workload.max_new_tokens,
            eos_policy=config.workload.eos_policy.name,
            trace=config.trace.name,
            max_denoising_steps=sampler.max_denoising_steps if sampler else None,
            early_stop=sampler.early_stop if sampler else True,
            fused_commit=config.commit is Commit.fused,
            seed=config.seed,
            process_id=process_id,
        ),
    )


def _device(config: RunConfig) -> "torch.device":
    from bench.torch_device import torch_device

    return torch_device(config.device)


def _upstream(configs: Sequence[RunConfig]) -> list[Session]:
    """Sessions of transformers, which is imported here and nowhere else."""
    try:
        from bench.backends.transformers.loading import load
        from bench.backends.transformers.session import TransformersSession
    except ImportError as error:
        raise ValueError(
            f"backend=transformers needs another version of it ({error}): {INSTALL}"
        ) from None
    first = configs[0]
    _select(_device(first))
    upstream = load(
        first.model,
        precision=first.precision.name,
        device=first.device,
        weights=first.weights,
        seed=first.seed,
    )
    _check_tokenizer(configs, upstream.tokenizer)
    sessions: list[Session] = []
    for config in configs:
        assert isinstance(config.backend, TransformersConfig)
        if config.backend.compiled and len(configs) > 1:
            raise ValueError("backend.compiled=true needs a process for each of its points")
        sessions.append(
            TransformersSession(
                loaded=upstream,
                knobs=config.backend,
                sampling=_sampling(config),
                max_new_tokens=config.workload.max_new_tokens,
                eos_policy=engine.EosPolicy(config.workload.eos_policy.name),
                seed=config.seed,
                template=chat_template(config),
            )
        )
    return sessions


def _select(device: "torch.device") -> None:
    import torch

    if device.index is not None:
        torch.cuda.set_device(device)  # events of the clock are recorded on the current device


def _load(config: RunConfig) -> "LoadedModel":
    _select(_device(config))
    return engine.load(
        config.model,
        precision=config.precision.name,
        kernels=config.kernels.name,
        execution=config.execution.name,
        device=config.device,
        weights=config.weights,
        seed=config.seed,
        vocabulary=config.vocabulary.name,
    )


def _session(config: RunConfig, loaded: "LoadedModel") -> Session:
    from bench.backends.native import NativeSession

    return NativeSession(
        loaded=loaded,
        sampling=_sampling(config),
        max_new_tokens=config.workload.max_new_tokens,
        eos_policy=engine.EosPolicy(config.workload.eos_policy.name),
        trace=engine.TraceLevel(config.trace.name),
        seed=config.seed,
        fused_commit=config.commit is Commit.fused,
        template=chat_template(config),
    )


def _sampling(config: RunConfig) -> "engine.DiffusionSampling | engine.GreedySampling":
    if isinstance(config.sampler, BlockDiffusionConfig):
        return engine.DiffusionSampling(**asdict(config.sampler))
    return engine.GreedySampling()
