"""The sampler's policies, small objects behind protocols: temperature, acceptance, early stop.

Legend: B seqs, L canvas, N step limit.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class LinearTemperature:
    """From t_max down to t_min: with r of N steps remaining, t_min + (t_max - t_min) r / N.

    The step limit is part of the formula, so another cap rescales the whole schedule.
    """

    t_min: float
    t_max: float

    def table(self, num_steps: int) -> Tensor:
        """Temperatures of steps 1..N, fp32 [N]; r runs from N to 1."""
        remaining = torch.arange(num_steps, 0, -1, dtype=torch.int32)
        return self.t_min + (self.t_max - self.t_min) * (remaining / num_steps)


class Acceptance(Protocol):
    """Chooses the positions that take their candidate; all others are renoised."""

    def __call__(self, entropy_BL: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class EntropyBound:
    """Accepts lowest-entropy positions while the sum of those before stays within `bound` nat.

    Equal entropies rank by position; one that is not finite is never accepted. Recomputed at every
    step: acceptance is not commitment. Source: arXiv 2505.24857.
    """

    bound: float | Tensor

    def __call__(self, entropy_BL: Tensor) -> Tensor:
        """Accepted mask, bool [B, L]."""
        ordered, order = torch.sort(entropy_BL, dim=-1, stable=True)
        chosen = ordered.cumsum(-1) - ordered <= self.bound
        return torch.zeros_like(chosen).scatter(-1, order, chosen)


class EarlyStop(Protocol):
    """Decides on the device which rows are done after a step."""

    def __call__(self, unchanged_steps_B: Tensor, entropy_BL: Tensor) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class StableAndConfident:
    """Done when the argmax canvas has not changed for `stability_steps` and mean entropy is low."""

    stability_steps: int | Tensor
    confidence_nat: float | Tensor

    def __call__(self, unchanged_steps_B: Tensor, entropy_BL: Tensor) -> Tensor:
        """Done mask, bool [B]."""
        confident = entropy_BL.mean(-1) < self.confidence_nat
        return confident & (unchanged_steps_B >= self.stability_steps)
