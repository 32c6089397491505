"""Launches that get ready while the kernel before them ends (programmatic dependent launch).

Such a kernel's programs settle on the chip as soon as all of the kernel before have started and
left room; they wait there until it is done. Every kernel so launched must therefore begin with
`overlap_jit.begin`, and what precedes it on its stream must be one kernel: not a copy, and not a
join of two streams.
"""

import functools

import torch
from torch import Tensor


def overlapped(x: Tensor) -> dict[str, bool]:
    """Launch options of a kernel that reads x right after another kernel wrote it."""
    able = x.is_cuda and _able(x.device)
    return {"OVERLAP": able, "launch_pdl": True} if able else {"OVERLAP": False}


@functools.cache
def _able(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= (9, 0)
