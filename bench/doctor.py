"""`canvasbench doctor`: what this machine can run, and why not the rest."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil
import torch

from bench.probe import probe
from model import PRESETS
from model.cost import num_parameters
from model.precision import FP8_CAPABILITIES, has_bf16_units

_BYTES = {"fp32": 4, "bf16": 2, "fp8": 1}
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Gpu:
    """One NVIDIA device as its driver describes it."""

    name: str
    memory_bytes: int
    driver: str
    capability: tuple[int, int]

    @property
    def has_fp8(self) -> bool:
        """Whether fp8 runs here: row-wise scaled e4m3 products, grouped ones too."""
        return self.capability in FP8_CAPABILITIES


def gpus() -> list[Gpu] | None:
    """The NVIDIA devices, or None without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    driver = str(pynvml.nvmlSystemGetDriverVersion())
    found = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        found.append(
            Gpu(
                str(pynvml.nvmlDeviceGetName(handle)),
                int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
                driver,
                tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle)),
            )
        )
    return found


def describe() -> dict[str, Any]:
    """What this machine has, what it reaches just now, and which model fits in which precision.

    A precision is told native or emulated of the processor; of a GPU whether it has fp8 units.
    """
    cpu, memory, found = torch.device("cpu"), psutil.virtual_memory(), gpus()
    room = max([memory.available, *(gpu.memory_bytes for gpu in found or [])])
    counts = {config.name: num_parameters(config) for config in PRESETS.values()}
    return {
        "torch": torch.__version__,
        "processor": {
            "cores": os.cpu_count(),
            "memory_bytes": memory.total,
            "free_bytes": memory.available,
            "bf16": "native" if has_bf16_units(cpu) else "emulated",
            "fp8": "emulated",
            "reached": asdict(probe("cpu")),
        },
        "driver": found is not None,
        "gpus": [{**asdict(gpu), "has_fp8": gpu.has_fp8} for gpu in found or []],
        "gpu_reached": asdict(probe("cuda")) if torch.cuda.is_available() else None,
        "models": {
            name: {
                "parameters": count,
                "fits_in": [p for p, size in _BYTES.items() if count * size * 1.1 < room],
                "weights": "shipped" if name.startswith("tiny-") else "dummy, or a checkpoint",
            }
            for name, count in counts.items()
        },
    }


def in_lines(found: Mapping[str, Any]) -> list[str]:
    """The description, line by line."""
    processor, reached = found["processor"], found["gpu_reached"]
    how = {"native": "native", "emulated": "emulated (products run in fp32)"}
    lines = [
        f"torch      {found['torch']}",
        f"processor  {processor['cores']} cores, {processor['memory_bytes'] / _GIB:.0f} GiB "
        f"memory, {processor['free_bytes'] / _GIB:.0f} GiB free",
        f"bf16       {how[processor['bf16']]}",
        f"fp8        {how[processor['fp8']]}",
        f"reached    {_rates(processor['reached'])}",
    ]
    if not found["gpus"]:
        lines.append(f"gpu        none{'' if found['driver'] else ' (no NVIDIA driver)'}")
    for gpu in found["gpus"]:
        fp8 = "native fp8" if gpu["has_fp8"] else "no fp8"
        size = f"{gpu['memory_bytes'] / _GIB:.0f} GiB"
        lines.append(f"gpu        {gpu['name']}, {size}, {fp8}, driver {gpu['driver']}")
    if reached is not None:
        lines.append(f"reached    {_rates(reached)}")
    lines += ["", "model                     parameters  fits in"]
    for name, own in found["models"].items():
        fitting = ", ".join(own["fits_in"]) or "nothing here"
        lines.append(
            f"{name:24} {_millions(own['parameters']):>11}  {fitting} (weights: {own['weights']})"
        )
    return lines


def print_description(*, as_json: bool) -> None:
    """Looks at this machine and prints what it finds."""
    found = describe()
    print(json.dumps(found, indent=1) if as_json else "\n".join(in_lines(found)))


def _rates(reached: Mapping[str, float | None]) -> str:
    """What `bench.probe` reached, in words."""
    said = [f"copy {(reached['copy_bytes_per_s'] or 0.0) / 1e9:.3g} GB/s"]
    for name in ("fp32", "bf16", "fp8"):
        if flops := reached[f"{name}_flops"]:
            said.append(f"{name} {flops / 1e12:.3g} TFLOP/s")
    return ", ".join(said)


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"
