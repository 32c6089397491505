"""The composition root: a typed configuration in, a session and a workload out."""

from dataclasses import asdict
from pathlib import Path

import torch

import model as engine
from bench.backends import Session
from bench.backends.native import NativeSession
from bench.schema import BlockDiffusionConfig, RunConfig
from bench.workloads import Workload, make_workload
from model.config_json import read_config


def decoding_of(name: str) -> str:
    """The decoding of a preset or of a checkpoint folder.

    Raises:
        ValueError: neither a preset nor a folder with a config.json.
    """
    if name in engine.PRESETS:
        return engine.PRESETS[name].decoding.value
    if not Path(name).is_dir():
        raise ValueError(
            f"model {name!r} is neither a preset nor a checkpoint folder; "
            f"valid presets: {', '.join(engine.PRESETS)}"
        )
    return read_config(Path(name)).decoding.value


def build_workload(config: RunConfig) -> Workload:
    return make_workload(config.workload.tasks, config.workload.num_prompts)


def build_session(config: RunConfig) -> Session:
    """Loads the point's model.

    Raises:
        ValueError: a knob out of range, an unknown device, or a checkpoint that does not fit.
    """
    sampling = _sampling(config)
    try:
        device = torch.device(config.device)
    except RuntimeError:
        raise ValueError(f"device {config.device!r} is unknown; valid: cpu, cuda, cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device 'cuda' is not available here; valid: cpu")
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
    return NativeSession(
        loaded=loaded,
        sampling=sampling,
        max_new_tokens=config.workload.max_new_tokens,
        eos_policy=engine.EosPolicy(config.workload.eos_policy.name),
        trace=engine.TraceLevel(config.trace.name),
        seed=config.seed,
    )


def _sampling(config: RunConfig) -> engine.DiffusionSampling | engine.GreedySampling:
    if isinstance(config.sampler, BlockDiffusionConfig):
        return engine.DiffusionSampling(**asdict(config.sampler))
    return engine.GreedySampling()
