"""How much memory a point needs, and whether several fit beside each other: estimates."""

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch

from bench.backends import Backend
from bench.schema import FixedWorkConfig, LongContextConfig, RunConfig
from model import ModelConfig
from model.config_json import architecture
from model.cost import num_parameters, stored_bytes
from model.kv_cache import cache_bytes
from model.precision import Precision
from model.vocabulary import Vocabulary

_PROCESS_BYTES = 700 << 20  # torch and what it loads, on the host
_CUDA_BYTES = 3 << 30  # context, libraries' work space, activations of a prefill, on a GPU
_HEADROOM = 0.85  # of free memory, for several models at once: these are estimates
_GIB = 1 << 30
_LONGEST_PROMPT = 1024  # of the cache's slots; text workloads here are shorter


@dataclass(frozen=True, slots=True)
class Need:
    """Bytes a point takes on its device, by what for."""

    weights: int
    cache: int
    logits: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.logits


def need(config: RunConfig) -> Need:
    """Weights in the width they are kept in, key/value cache, and what sampling a canvas holds.

    Nothing for a server that runs already.

    On a processor that is fp32 scores three times; on a GPU bf16 scores and probabilities, in a
    graph's own memory and once more outside of it.
    """
    if config.backend.name is Backend.openai and not config.backend.starts_server:
        return Need(weights=0, cache=0, logits=0)
    model = architecture(config.model)
    on_cpu = config.device == "cpu"
    workload = config.workload
    longest = _LONGEST_PROMPT
    if isinstance(workload, FixedWorkConfig | LongContextConfig):
        longest = workload.prompt_tokens
    positions = longest + workload.max_new_tokens + (model.canvas_length or 1)
    canvas = model.canvas_length or 1
    return Need(
        weights=_emulated_bytes(model, config) if on_cpu else _stored_bytes(model, config),
        cache=cache_bytes(model, config.batch_size, positions, value_bytes=4 if on_cpu else 2),
        logits=config.batch_size * canvas * model.vocab_size * (3 * 4 if on_cpu else 2 * (2 + 2)),
    )


def _stored_bytes(model: ModelConfig, config: RunConfig) -> int:
    """Weights as a GPU keeps them."""
    vocabulary = Vocabulary(config.vocabulary.name)
    return stored_bytes(model, Precision(config.precision.name), vocabulary)


def _emulated_bytes(model: ModelConfig, config: RunConfig) -> int:
    """Weights on a processor, where narrow precisions are emulated: matrices are kept in fp32."""
    products = 1 if model.canvas_length is None else 2
    copies = products if config.vocabulary.name == "fp8" else 0
    return 4 * (num_parameters(model) + copies * model.vocab_size * model.hidden_size)


def _loading_bytes(config: RunConfig) -> int:
    """What making a layer takes for a moment on a GPU: its experts in fp32 and in bf16.

    And half as much again, assumed, for freed blocks that the allocator cannot use.
    """
    model = architecture(config.model)
    return 3 * (4 + 2) // 2 * model.moe.num_experts * 3 * model.hidden_size * model.moe.hidden_size


def _overhead_bytes(config: RunConfig) -> int:
    """What a process takes besides its model: libraries, and on a GPU a moment of loading."""
    if config.device == "cpu":
        return _PROCESS_BYTES
    return _CUDA_BYTES + _loading_bytes(config)


def available_bytes(device: str) -> int:
    """Free memory of a device, the host's for the processor."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        return int(free)
    return int(psutil.virtual_memory().available)


def shortage(config: RunConfig) -> str | None:
    """Why a point does not fit on its device as free as it is now; None where it does."""
    parts, overhead = need(config), _overhead_bytes(config)
    total, free = parts.total + overhead, available_bytes(config.device)
    if total <= free:
        return None
    sizes = (total, parts.weights, parts.cache, parts.logits, overhead, free)
    gib = [f"{size / _GIB:.1f}" for size in sizes]
    return (
        f"model {config.model} in {config.precision.name} with batch_size {config.batch_size} "
        f"needs about {gib[0]} GiB on {config.device} (weights {gib[1]}, cache {gib[2]}, "
        f"logits {gib[3]}, loading and libraries {gib[4]}); {gib[5]} GiB are free"
    )


def fits_together(groups: Sequence[Sequence[RunConfig]]) -> bool:
    """Whether one loaded model a group, with its largest point, fits beside the others.

    Servers that are started for a group do not: each may take all of a device for itself.
    """
    if len(groups) > 1 and any(group[0].backend.starts_server for group in groups):
        return False
    needed: dict[str, int] = {}
    for group in groups:
        device = group[0].device
        largest = max(need(config).total for config in group) + _overhead_bytes(group[0])
        needed[device] = needed.get(device, 0) + largest
    return all(total <= _HEADROOM * available_bytes(device) for device, total in needed.items())
