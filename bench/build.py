"""The composition root: a typed configuration in, a session and a workload out."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

import model as engine
from bench.backends import Session
from bench.backends.native import NativeSession
from bench.backends.simulated import Knobs, SimulatedConfig, simulated_session
from bench.schema import BlockDiffusionConfig, FixedWorkConfig, Launcher, RunConfig
from bench.workloads import Workload, fixed_work, make_workload
from model import LoadedModel, ModelConfig
from model.config_json import read_config


def decoding_of(name: str) -> str:
    """The decoding of a preset or of a checkpoint folder.

    Raises:
        ValueError: neither a preset nor a folder with a config.json.
    """
    return _architecture(name).decoding.value


def _architecture(name: str) -> ModelConfig:
    if name in engine.PRESETS:
        return engine.PRESETS[name]
    if not Path(name).expanduser().is_dir():
        raise ValueError(
            f"model {name!r} is neither a preset nor a checkpoint folder; "
            f"valid presets: {', '.join(engine.PRESETS)}"
        )
    return read_config(Path(name).expanduser())


def check_point(config: RunConfig) -> None:
    """Refuses what can be refused without loading a model.

    Raises:
        ValueError: a knob out of range, an unknown or missing device, an unknown workload, or fixed
            work that is not fixed.
    """
    _sampling(config)
    _device(config)
    build_workload(config)
    if config.time_budget_s is not None and config.launcher.name is not Launcher.local:
        raise ValueError(
            f"time_budget_s has no effect with launcher={config.launcher.name.name}; "
            "valid: launcher=local"
        )
    if isinstance(config.workload, FixedWorkConfig):
        _check_fixed_work(config)


def _check_fixed_work(config: RunConfig) -> None:
    name = config.workload.tasks
    if isinstance(config.sampler, BlockDiffusionConfig) and config.sampler.early_stop:
        raise ValueError(f"workload={name} needs sampler=forced or sampler.early_stop=false")
    if config.workload.num_prompts % config.batch_size:
        raise ValueError(
            f"workload.num_prompts is {config.workload.num_prompts}; workload={name} needs a "
            f"multiple of batch_size ({config.batch_size}), so that every batch is the same work"
        )
    if isinstance(config.backend, SimulatedConfig):
        raise ValueError(f"workload={name} has no text to simulate; valid: backend=native")


def build_workload(config: RunConfig) -> Workload:
    workload = config.workload
    if isinstance(workload, FixedWorkConfig):
        vocab_size = _architecture(config.model).vocab_size
        return fixed_work(workload.num_prompts, workload.prompt_tokens, vocab_size)
    return make_workload(workload.tasks, workload.num_prompts)


def build_sessions(
    point_ids: Sequence[str], configs: Sequence[RunConfig], process_id: int
) -> list[Session]:
    """Loads one model and gives each of the points that it serves (`bench.plan`) a session.

    Raises:
        ValueError: a knob out of range, an unknown device, or a checkpoint that does not fit.
    """
    for config in configs:
        _sampling(config)
        _device(config)
    if isinstance(configs[0].backend, SimulatedConfig):
        return [
            _simulated(point_id, config, process_id)
            for point_id, config in zip(point_ids, configs, strict=True)
        ]
    loaded = _load(configs[0])
    for config in configs:
        if loaded.tokenizer is None and build_workload(config).needs_tokenizer:
            raise ValueError(
                f"model {config.model} has dummy weights and no tokenizer, "
                f"which workload {config.workload.tasks} needs"
            )
    return [_session(config, loaded) for config in configs]


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
            seed=config.seed,
            process_id=process_id,
        ),
    )


def _device(config: RunConfig) -> torch.device:
    try:
        device = torch.device(config.device)
    except RuntimeError:
        raise ValueError(f"device {config.device!r} is unknown; valid: cpu, cuda, cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' is not available here; valid: cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {config.device!r} is not here; valid: cpu, cuda:0 to "
            f"cuda:{torch.cuda.device_count() - 1}"
        )
    return device


def _load(config: RunConfig) -> LoadedModel:
    device = _device(config)
    if device.index is not None:
        torch.cuda.set_device(device)  # events of the clock are recorded on the current device
    return engine.load(
        config.model,
        precision=config.precision.name,
        kernels=config.kernels.name,
        execution=config.execution.name,
        device=config.device,
        weights=config.weights,
        seed=config.seed,
    )


def _session(config: RunConfig, loaded: LoadedModel) -> Session:
    return NativeSession(
        loaded=loaded,
        sampling=_sampling(config),
        max_new_tokens=config.workload.max_new_tokens,
        eos_policy=engine.EosPolicy(config.workload.eos_policy.name),
        trace=engine.TraceLevel(config.trace.name),
        seed=config.seed,
    )


def _sampling(config: RunConfig) -> engine.DiffusionSampling | engine.GreedySampling:
    if isinstance(config.sampler, BlockDiffusionConfig):
        return engine.DiffusionSampling(**asdict(config.sampler))
    return engine.GreedySampling()
