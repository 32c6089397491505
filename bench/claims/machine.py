"""What a claim would call the device of this machine."""

import torch

from bench.claims.observed import device_of
from bench.provenance import machine


def device_here(kind: str) -> str | None:
    """The name of this machine's "cpu" or "cuda" device, None without one."""
    if kind == "cuda" and not torch.cuda.is_available():
        return None
    return device_of(machine(kind, torch.get_num_threads()))
