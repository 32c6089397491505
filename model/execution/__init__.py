"""How a step function is run: as it is, compiled, or as a CUDA graph; from outside the step.

The model and the sampler know none of them; `model.loading` gives a model its wrapper and the
passes go through it.
"""

import torch

from model.execution.compiled import Compiled
from model.execution.cuda_graph import CudaGraphs
from model.transformer import StepWrapper, Unwrapped

__all__ = ["EXECUTIONS", "Compiled", "CudaGraphs", "make_wrapper"]

EXECUTIONS = ("eager", "compiled", "cuda_graph")


def make_wrapper(name: str, device: torch.device) -> StepWrapper:
    """The wrapper called `name`; one a model.

    Raises:
        ValueError: no such execution, or the device or compiler it needs is missing.
    """
    if name not in EXECUTIONS:
        raise ValueError(f"execution {name!r} is unknown; valid: {', '.join(EXECUTIONS)}")
    if name == "compiled":
        return Compiled(device)
    return CudaGraphs(device) if name == "cuda_graph" else Unwrapped()
