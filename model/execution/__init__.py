"""How a step function is run: as it is, or compiled. A wrapper around the step, from outside.

The model and the sampler know neither; `model.loading` gives a model its wrapper and the sampler
passes its step through it.
"""

import torch

from model.execution.compiled import Compiled
from model.transformer import StepWrapper, unwrapped

__all__ = ["EXECUTIONS", "Compiled", "make_wrapper"]

EXECUTIONS = ("eager", "compiled")


def make_wrapper(name: str, device: torch.device) -> StepWrapper:
    """The wrapper called `name`; one a model.

    Raises:
        ValueError: no such execution, or the compiler it needs is missing.
    """
    if name not in EXECUTIONS:
        raise ValueError(f"execution {name!r} is unknown; valid: {', '.join(EXECUTIONS)}")
    return Compiled(device) if name == "compiled" else unwrapped
