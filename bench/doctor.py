"""`canvasbench doctor`: what this machine can run, and why not the rest."""

import os
from dataclasses import dataclass

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


def describe() -> list[str]:
    """The report, line by line."""
    cpu = torch.device("cpu")
    memory = psutil.virtual_memory()
    lines = [
        f"torch      {torch.__version__}",
        f"processor  {os.cpu_count()} cores, {memory.total / _GIB:.0f} GiB memory, "
        f"{memory.available / _GIB:.0f} GiB free",
        f"bf16       {'native' if has_bf16_units(cpu) else 'emulated (products run in fp32)'}",
        "fp8        emulated (products run in fp32)",
        f"reached    {_rates('cpu')}",
    ]
    found = gpus()
    if not found:
        lines.append(
            "gpu        none" if found is not None else "gpu        none (no NVIDIA driver)"
        )
    for gpu in found or []:
        fp8 = "native fp8" if gpu.has_fp8 else "no fp8"
        lines.append(
            f"gpu        {gpu.name}, {gpu.memory_bytes / _GIB:.0f} GiB, {fp8}, driver {gpu.driver}"
        )
    if torch.cuda.is_available():
        lines.append(f"reached    {_rates('cuda')}")
    room = max([memory.available, *(gpu.memory_bytes for gpu in found or [])])
    lines += ["", "model                     parameters  fits in"]
    for config in PRESETS.values():
        count = num_parameters(config)
        fitting = [name for name, size in _BYTES.items() if count * size * 1.1 < room]
        weights = "shipped weights" if config.name.startswith("tiny-") else "needs a checkpoint"
        lines.append(
            f"{config.name:24} {_millions(count):>11}  {', '.join(fitting) or 'nothing here'}"
            f" ({weights})"
        )
    return lines


def _rates(device: str) -> str:
    """What `bench.probe` reaches just now."""
    found = probe(device)
    products = {
        "fp32": found.fp32_flops,
        "bf16": found.bf16_flops,
        "fp8": found.fp8_flops,
    }
    said = [f"{name} {flops / 1e12:.3g} TFLOP/s" for name, flops in products.items() if flops]
    return ", ".join([f"copy {found.copy_bytes_per_s / 1e9:.3g} GB/s", *said])


def _millions(count: int) -> str:
    return f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.1f} M"
