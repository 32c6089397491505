"""The typed configuration of a point. Only it, `bench.compose` and `bench.cli` know Hydra.

A misspelt key, a wrong type or an unknown choice fails when the configuration is composed; ranges
are checked when the dataclasses are built. Knobs are not frozen because Hydra cannot override
frozen ones.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from bench.backends import BackendConfig
from bench.backends.openai import OpenAiConfig
from bench.backends.simulated import SimulatedConfig
from bench.backends.transformers import TransformersConfig

# Member names are what a user types, so they are lower case.
Precision = Enum("Precision", ["fp32", "bf16", "fp8"])
Kernels = Enum("Kernels", ["reference", "torch", "triton"])
Execution = Enum("Execution", ["eager", "compiled", "cuda_graph"])
Commit = Enum("Commit", ["separate", "fused"])
Vocabulary = Enum("Vocabulary", ["exact", "fp8"])
Trace = Enum("Trace", ["counts", "positions", "full"])
EosPolicy = Enum("EosPolicy", ["stop", "ignore"])
Measure = Enum("Measure", ["screening", "publish"])
Launcher = Enum("Launcher", ["local", "slurm", "ray"])
Cluster = Enum("Cluster", ["slurm", "local"])
_PUBLISHED_PROCESSES = 8
_SHORTEST_DOCUMENT_TOKENS = 512


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
    self_conditioning: bool = True
    min_belief: float = 0.0


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
class FixedWorkConfig(WorkloadConfig):
    """Random prompts and answers of one length each: work that no content can change.

    Attributes:
        prompt_tokens: token ids of every prompt.
    """

    prompt_tokens: int = MISSING

    def __post_init__(self) -> None:
        WorkloadConfig.__post_init__(self)
        _require("workload.prompt_tokens", self.prompt_tokens, self.prompt_tokens >= 1, ">= 1")
        if self.eos_policy is not EosPolicy.ignore:
            raise ValueError(
                f"workload.eos_policy is {self.eos_policy.name}; workload={self.tasks} needs ignore"
            )


@dataclass(kw_only=True, slots=True)
class ChatConfig(WorkloadConfig):
    """Base of the workloads that are asked through the checkpoint's chat template.

    Attributes:
        thinking: handed to the template as `enable_thinking`.
    """

    thinking: bool = False


@dataclass(kw_only=True, slots=True)
class TextConfig(ChatConfig):
    """Our own prompts.

    Attributes:
        domains: names joined by commas, or all (`bench.workloads.DOMAINS`); `num_prompts` is spread
            equally over them.
    """

    domains: str = "all"


@dataclass(kw_only=True, slots=True)
class LongContextConfig(ChatConfig):
    """A question about one line of a long document.

    Attributes:
        prompt_tokens: of every prompt, the template's included; at most 1 % fewer.
    """

    prompt_tokens: int = MISSING

    def __post_init__(self) -> None:
        WorkloadConfig.__post_init__(self)
        _require(
            "workload.prompt_tokens",
            self.prompt_tokens,
            self.prompt_tokens >= _SHORTEST_DOCUMENT_TOKENS,
            f">= {_SHORTEST_DOCUMENT_TOKENS} with workload={self.tasks}",
        )


@dataclass(kw_only=True, slots=True)
class MeasureConfig:
    """How often everything runs.

    Attributes:
        num_processes: fresh processes a point; the unit of inference for speed.
        num_repeats: timed passes over all prompts; contents repeat exactly, only times differ.
        min_warmup_prompts, max_warmup_prompts: untimed batches a process and point, between these
            two, until a forward takes a steady time (`bench.warmup`).
        max_repairs: right canvases that the repair test corrupts, a point.
        num_routing_prompts: prompts answered once more, untimed, to count the experts touched.
        timeout_s: seconds without a finished batch after which a process counts as stuck.
    """

    name: Measure = Measure.screening
    num_processes: int = MISSING
    num_repeats: int = MISSING
    min_warmup_prompts: int = MISSING
    max_warmup_prompts: int = MISSING
    max_repairs: int = MISSING
    num_routing_prompts: int = MISSING
    timeout_s: float = 1800.0

    def __post_init__(self) -> None:
        fewest = _PUBLISHED_PROCESSES if self.name is Measure.publish else 1
        _require(
            "measure.num_processes",
            self.num_processes,
            self.num_processes >= fewest,
            f">= {fewest} with measure={self.name.name}",
        )
        _require("measure.num_repeats", self.num_repeats, self.num_repeats >= 1, ">= 1")
        _require("measure.timeout_s", self.timeout_s, self.timeout_s > 0, "> 0")
        _require(
            "measure.max_warmup_prompts",
            self.max_warmup_prompts,
            self.max_warmup_prompts >= self.min_warmup_prompts,
            f">= measure.min_warmup_prompts ({self.min_warmup_prompts})",
        )
        for name in ("min_warmup_prompts", "max_repairs", "num_routing_prompts"):
            value = getattr(self, name)
            _require(f"measure.{name}", value, value >= 0, ">= 0")


@dataclass(kw_only=True, slots=True)
class LauncherConfig:
    """Where the sweep's processes run; by itself, on this machine."""

    name: Launcher = Launcher.local


@dataclass(kw_only=True, slots=True)
class SlurmConfig(LauncherConfig):
    """Every task a job of SLURM, through submitit.

    Attributes:
        cluster: slurm, or local to run the jobs as processes of this machine.
    """

    name: Launcher = Launcher.slurm
    cluster: Cluster = Cluster.slurm
    partition: str | None = None
    gpus_per_node: int = 1
    timeout_min: int = 120

    def __post_init__(self) -> None:
        _require("launcher.timeout_min", self.timeout_min, self.timeout_min >= 1, ">= 1")


@dataclass(kw_only=True, slots=True)
class RayConfig(LauncherConfig):
    """Every task a Ray task.

    Attributes:
        address: of a running cluster (host:port, auto), null to start one on this machine.
        num_cpus, num_gpus: what each task is given.
    """

    name: Launcher = Launcher.ray
    address: str | None = None
    num_cpus: float = 1
    num_gpus: float = 0


WORKLOADS: dict[str, type[WorkloadConfig]] = {
    "fixed_work": FixedWorkConfig,
    "text": TextConfig,
    "long_context": LongContextConfig,
}
"""Task sets with knobs of their own; all others are plain."""
BACKENDS: dict[str, type[BackendConfig]] = {
    "native": BackendConfig,
    "openai": OpenAiConfig,
    "simulated": SimulatedConfig,
    "transformers": TransformersConfig,
}
LAUNCHERS: dict[str, type[LauncherConfig]] = {
    "local": LauncherConfig,
    "slurm": SlurmConfig,
    "ray": RayConfig,
}


@dataclass(kw_only=True, slots=True)
class StageConfig:
    """A part of an experiment that is run by itself.

    Attributes:
        sweeps: axes as in `RunConfig.sweep`; the stage's points are those of all sweeps together.
        checks: names in `bench.checks`, done after the points.
    """

    sweeps: list[dict[str, str]] = MISSING
    checks: list[str] = field(default_factory=list)


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """One point of a sweep.

    Attributes:
        model: a preset's name or a checkpoint folder.
        weights: a checkpoint folder for a preset, `dummy`, or null for the model's own.
        kernels, execution: our engine's; a point of another one carries their defaults.
        vocabulary: what our engine's products with the embedding table run in, logits and the soft
            embedding of self-conditioning: exact for the activations' type, or fp8.
        commit: a finished canvas is written to the cache in a forward of its own, or in that of the
            next canvas's first step; separate for an autoregressive model, which has none.
        backend: who runs the model: our engine, transformers, a server, or a simulation that
            replays a run. Of a server, model and precision are what its operator says.
        launcher: where the sweep's processes run: here, or as jobs of SLURM or Ray.
        threads: torch's threads on the processor, null for all cores.
        time_budget_s: seconds after which no further process is started, null for no limit; the run
            can be resumed.
        run_dir: the run's folder, null for results/runs/<timestamp>-<config hash>.
        sweep: axes that are swept when the command line does not set them.
        stages: parts of an experiment too long for one run; `stage` names the one to run.
        rehearsal: the experiment's stages at a size for a processor.
    """

    model: str = "tiny-diffusion"
    weights: str | None = None
    precision: Precision = Precision.bf16
    vocabulary: Vocabulary = Vocabulary.exact
    kernels: Kernels = Kernels.torch
    execution: Execution = Execution.eager
    commit: Commit = Commit.separate
    device: str = "cpu"
    threads: int | None = None
    batch_size: int = 1
    seed: int = 0
    trace: Trace = Trace.positions
    time_budget_s: float | None = None
    run_dir: str | None = None
    sampler: SamplerConfig = MISSING
    workload: WorkloadConfig = MISSING
    measure: MeasureConfig = MISSING
    launcher: LauncherConfig = MISSING
    backend: BackendConfig = MISSING
    sweep: dict[str, str] = field(default_factory=dict)
    stages: dict[str, StageConfig] = field(default_factory=dict)
    stage: str | None = None
    rehearsal: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.backend, TransformersConfig | OpenAiConfig):
            # One point, whatever an axis of our engine says.
            self.kernels, self.execution = Kernels.torch, Execution.eager
        if isinstance(self.sampler, GreedyConfig):
            self.commit = Commit.separate  # one axis for both siblings
        if isinstance(self.backend, OpenAiConfig):
            _require("batch_size with backend=openai", self.batch_size, self.batch_size == 1, "1")
            if not self.backend.starts_server:
                self.device = "cpu"  # the client's
        _require("batch_size", self.batch_size, self.batch_size >= 1, ">= 1")
        if self.time_budget_s is not None:
            _require("time_budget_s", self.time_budget_s, self.time_budget_s > 0, "> 0")
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
        *WORKLOADS.items(),
        ("measure", MeasureConfig),
        *LAUNCHERS.items(),
        *BACKENDS.items(),
    )
    for name, node in nodes:
        store.store(group="schema", name=name, node=node)
