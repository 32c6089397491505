"""How much memory a point needs, and whether several fit beside each other: estimates."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

from bench.schema import RunConfig
from model import PRESETS, ModelConfig
from model.config_json import read_config
from model.cost import num_parameters

_BYTES = {"fp32": 4, "bf16": 2, "fp8": 1}
_PROCESS_BYTES = 700 << 20  # torch and what it loads, on the host
_HEADROOM = 0.9
_LONGEST_PROMPT = 1024  # of the cache's slots; workloads here are shorter


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
    """Weights in the width they are kept in, key/value cache, and fp32 logits of a canvas."""
    model = _architecture(config.model)
    on_cpu = config.device == "cpu"
    # On a processor narrow precisions are emulated: matrices are kept in fp32.
    width = 4 if on_cpu else _BYTES[config.precision.name]
    slots = _LONGEST_PROMPT + config.workload.max_new_tokens + (model.canvas_length or 1)
    per_slot = sum(
        2 * model.attention(kind).num_kv_heads * model.attention(kind).head_dim
        for kind in model.layer_types
    )
    canvas = model.canvas_length or 1
    return Need(
        weights=num_parameters(model) * width,
        cache=config.batch_size * slots * per_slot * (4 if on_cpu else 2),
        logits=3 * config.batch_size * canvas * model.vocab_size * 4,
    )


def available_bytes(device: str) -> int:
    """Free memory of a device, the host's for the processor."""
    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(torch.device(device))
        return int(free)
    return int(psutil.virtual_memory().available)


def fits_together(groups: Sequence[Sequence[RunConfig]]) -> bool:
    """Whether one loaded model a group, with its largest point, fits beside the others."""
    needed: dict[str, int] = {}
    for group in groups:
        device = group[0].device
        overhead = _PROCESS_BYTES if device == "cpu" else 0
        largest = max(need(config).total for config in group) + overhead
        needed[device] = needed.get(device, 0) + largest
    return all(total <= _HEADROOM * available_bytes(device) for device, total in needed.items())


def _architecture(name: str) -> ModelConfig:
    return PRESETS[name] if name in PRESETS else read_config(Path(name).expanduser())
