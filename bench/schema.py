"""The typed configuration of a point. With `bench.cli`, the only module that knows Hydra.

A misspelt key, a wrong type or an unknown choice fails when the configuration is composed; ranges
are checked when the dataclasses are built. Knobs are not frozen because Hydra cannot override
frozen ones.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

# Member names are what a user types, so they are lower case.
Precision = Enum("Precision", ["fp32", "bf16", "fp8"])
Kernels = Enum("Kernels", ["reference", "torch"])
Execution = Enum("Execution", ["eager", "compiled"])
Backend = Enum("Backend", ["native"])
Trace = Enum("Trace", ["counts", "positions", "full"])
EosPolicy = Enum("EosPolicy", ["stop", "ignore"])
Measure = Enum("Measure", ["screening"])


def _require(name: str, value: float, valid: bool, rule: str) -> None:
    if not valid:
        raise ValueError(f"{name} is {value}; it must be {rule}")


@dataclass(kw_only=True, slots=True)
class SamplerConfig:
    """Base of both siblings' sampling knobs."""


@dataclass(kw_only=True, slots=True)
class GreedyConfig(SamplerConfig):
    """The autoregressive sibling has no knobs."""


@dataclass(kw_only=True, slots=True)
class BlockDiffusionConfig(SamplerConfig):
    """The entropy-bound sampler; ranges are checked by `model.DiffusionSampling`."""

    max_denoising_steps: int = 48
    entropy_bound: float = 0.1
    confidence_threshold: float = 0.005
    stability_threshold: int = 1
    t_min: float = 0.4
    t_max: float = 0.8
    early_stop: bool = True


@dataclass(kw_only=True, slots=True)
class WorkloadConfig:
    """Which prompts, how many, and how long the answers may be."""

    tasks: str = MISSING
    num_prompts: int = MISSING
    max_new_tokens: int = MISSING
    eos_policy: EosPolicy = EosPolicy.stop

    def __post_init__(self) -> None:
        _require("workload.num_prompts", self.num_prompts, self.num_prompts >= 1, ">= 1")
        _require("workload.max_new_tokens", self.max_new_tokens, self.max_new_tokens >= 1, ">= 1")


@dataclass(kw_only=True, slots=True)
class MeasureConfig:
    """How often everything runs.

    Attributes:
        num_repeats: timed passes over all prompts; contents repeat exactly, only times differ.
        num_warmup_prompts: untimed prompts a point before its first timed one.
        max_repairs: right canvases that the repair test corrupts, a point.
        num_routing_prompts: prompts answered once more, untimed, to count the experts touched.
    """

    name: Measure = Measure.screening
    num_repeats: int = MISSING
    num_warmup_prompts: int = MISSING
    max_repairs: int = MISSING
    num_routing_prompts: int = MISSING

    def __post_init__(self) -> None:
        _require("measure.num_repeats", self.num_repeats, self.num_repeats >= 1, ">= 1")
        for name in ("num_warmup_prompts", "max_repairs", "num_routing_prompts"):
            value = getattr(self, name)
            _require(f"measure.{name}", value, value >= 0, ">= 0")


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """One point of a sweep.

    Attributes:
        model: a preset's name or a checkpoint folder.
        weights: a checkpoint folder for a preset, `dummy`, or null for the model's own.
        threads: torch's threads on the processor, null for all cores.
        run_dir: the run's folder, null for results/runs/<timestamp>-<config hash>.
        sweep: axes that are swept when the command line does not set them.
    """

    model: str = "tiny-diffusion"
    weights: str | None = None
    precision: Precision = Precision.bf16
    kernels: Kernels = Kernels.torch
    execution: Execution = Execution.eager
    backend: Backend = Backend.native
    device: str = "cpu"
    threads: int | None = None
    batch_size: int = 1
    seed: int = 0
    trace: Trace = Trace.positions
    run_dir: str | None = None
    sampler: SamplerConfig = MISSING
    workload: WorkloadConfig = MISSING
    measure: MeasureConfig = MISSING
    sweep: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require("batch_size", self.batch_size, self.batch_size >= 1, ">= 1")
        if self.threads is not None:
            _require("threads", self.threads, self.threads >= 1, ">= 1")


def register() -> None:
    """Makes the schemas known to Hydra under the names that configs/ refers to."""
    store = ConfigStore.instance()
    store.store(name="run_config", node=RunConfig)
    nodes: tuple[tuple[str, Any], ...] = (
        ("block_diffusion", BlockDiffusionConfig),
        ("greedy", GreedyConfig),
        ("workload", WorkloadConfig),
        ("measure", MeasureConfig),
    )
    for name, node in nodes:
        store.store(group="schema", name=name, node=node)
