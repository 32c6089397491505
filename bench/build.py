"""The composition root: a typed configuration in, a session and a workload out."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

import model as engine
from bench.backends import Session
from bench.backends.native import NativeSession
from bench.backends.simulated import Knobs, SimulatedConfig, simulated_session
from bench.schema import BlockDiffusionConfig, RunConfig
from bench.workloads import Workload, make_workload
from model import LoadedModel
from model.config_json import read_config


def decoding_of(name: str) -> str:
    """The decoding of a preset or of a checkpoint folder.

    Raises:
        ValueError: neither a preset nor a folder with a config.json.
    """
    if name in engine.PRESETS:
        return engine.PRESETS[name].decoding.value
    if not Path(name).expanduser().is_dir():
        raise ValueError(
            f"model {name!r} is neither a preset nor a checkpoint folder; "
            f"valid presets: {', '.join(engine.PRESETS)}"
        )
    return read_config(Path(name).expanduser()).decoding.value


def check_point(config: RunConfig) -> None:
    """Refuses what can be refused without loading a model.

    Raises:
        ValueError: a knob out of range, an unknown or missing device, an unknown workload.
    """
    _sampling(config)
    _device(config)
    build_workload(config)


def build_workload(config: RunConfig) -> Workload:
    return make_workload(config.workload.tasks, config.workload.num_prompts)


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
    return device


def _load(config: RunConfig) -> LoadedModel:
    loaded = engine.load(
        config.model,
        precision=config.precision.name,
        kernels=config.kernels.name,
        execution=config.execution.name,
        device=config.device,
        weights=config.weights,
        seed=config.seed,
    )
    if loaded.tokenizer is None:
        raise ValueError(
            f"model {config.model} has dummy weights and no tokenizer, "
            f"which workload {config.workload.tasks} needs"
        )
    return loaded


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
