"""One denoise step of block diffusion, and the knobs of its sampler.

Legend: B seqs, L canvas, D model, V vocab, N step limit.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.attention import Cache
from model.diffusion import DiffusionTransformer
from model.sampling.noise import CanvasNoise
from model.sampling.policies import EntropyBound, LinearTemperature, StableAndConfident


@dataclass(kw_only=True, slots=True)
class DiffusionSampling:
    """Knobs of the entropy-bound sampler; the defaults are the released model's.

    With `early_stop` off every canvas takes exactly `max_denoising_steps`.

    Raises:
        ValueError: a value out of range; it is named with its valid range.
    """

    max_denoising_steps: int = 48
    entropy_bound: float = 0.1
    confidence_threshold: float = 0.005
    stability_threshold: int = 1
    t_min: float = 0.4
    t_max: float = 0.8
    early_stop: bool = True

    def __post_init__(self) -> None:
        for name, valid, rule in (
            ("max_denoising_steps", self.max_denoising_steps >= 1, ">= 1"),
            ("entropy_bound", self.entropy_bound >= 0, ">= 0 nat"),
            ("confidence_threshold", self.confidence_threshold >= 0, ">= 0 nat"),
            ("stability_threshold", self.stability_threshold >= 0, ">= 0 steps"),
            ("t_min", self.t_min > 0, "> 0"),
            ("t_max", self.t_max >= self.t_min, f">= t_min ({self.t_min})"),
        ):
            if not valid:
                raise ValueError(f"sampler.{name} is {getattr(self, name)}; it must be {rule}")


@dataclass(frozen=True, slots=True)
class CanvasState:
    """A canvas between two steps.

    Attributes:
        canvas_BL: tokens the next step is given.
        argmax_BL: the last step's argmax, what would be delivered now.
        signal_BLD: self-conditioning signal, None before the first step.
        unchanged_B: for how many steps in a row the argmax has stayed the same.
        done_B: rows that have stopped; they no longer change.
        steps_B: steps each row was active in.
    """

    canvas_BL: Tensor
    argmax_BL: Tensor
    signal_BLD: Tensor | None
    unchanged_B: Tensor
    done_B: Tensor
    steps_B: Tensor

    @classmethod
    def fresh(cls, initial_BL: Tensor, ended_B: Tensor) -> "CanvasState":
        """A canvas before its first step; rows already ended count as done."""
        zero_B = torch.zeros_like(ended_B, dtype=torch.int32)
        no_argmax = torch.full_like(initial_BL, -1)
        return cls(initial_BL, no_argmax, None, zero_B, ended_B, zero_B)


@dataclass(frozen=True, slots=True)
class StepTrace:
    """A step's decisions at every position, as device tensors."""

    canvas_BL: Tensor
    candidate_BL: Tensor
    accepted_BL: Tensor
    argmax_BL: Tensor
    entropy_BL: Tensor


class Denoiser:
    """Applies the sampler's step: forward, statistics, acceptance, renoising, stop test.

    No host synchronisation: everything stays on the device, `done_B` included.
    """

    def __init__(self, model: DiffusionTransformer, sampling: DiffusionSampling) -> None:
        self._model = model
        self._accept = EntropyBound(sampling.entropy_bound)
        self._stop = (
            StableAndConfident(sampling.stability_threshold, sampling.confidence_threshold)
            if sampling.early_stop
            else None
        )
        schedule = LinearTemperature(sampling.t_min, sampling.t_max)
        self._temperatures_N = schedule.table(sampling.max_denoising_steps).to(model.device)

    def step(
        self, state: CanvasState, cache: Cache, noise: CanvasNoise, index: int
    ) -> tuple[CanvasState, StepTrace]:
        """Step `index` (from 0) of a canvas whose noise is on the model's device."""
        model = self._model
        logits_BLV = model.denoise(state.canvas_BL, state.signal_BLD, cache)
        scaled_BLV = logits_BLV / self._temperatures_N[index]
        candidate, argmax, entropy = model.ops.token_statistics(
            scaled_BLV, noise.uniform_NBL[index]
        )
        if noise.candidate_NBL is not None:
            candidate = noise.candidate_NBL[index]
        accepted = self._accept(entropy)
        trace = StepTrace(state.canvas_BL, candidate, accepted, argmax, entropy)
        canvas = torch.where(accepted, candidate, noise.renoise_NBL[index])
        signal = model.signal(scaled_BLV)

        done = state.done_B
        if len(done) > 1:  # rows that are done keep what they have; a lone row ends the loop
            frozen = done[:, None]
            canvas = torch.where(frozen, state.canvas_BL, canvas)
            argmax = torch.where(frozen, state.argmax_BL, argmax)
        same = (argmax == state.argmax_BL).all(-1)
        unchanged = (state.unchanged_B + 1) * same
        steps = state.steps_B + ~done
        if self._stop is not None:
            done = done | self._stop(unchanged, entropy)
        return CanvasState(canvas, argmax, signal, unchanged, done, steps), trace
