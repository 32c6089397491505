"""One denoise step of block diffusion, and the knobs of its sampler.

Legend: B seqs, L canvas, D model, V vocab, N step limit.
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from model.diffusion import DiffusionTransformer, FinishedCanvas
from model.kv_cache import KVCache
from model.ops import reference
from model.sampling.noise import CanvasNoise
from model.sampling.policies import (
    Acceptance,
    EarlyStop,
    EntropyBound,
    LinearTemperature,
    StableAndConfident,
)
from model.stop_flag import StopFlag
from model.transformer import AnyPrefix, Surroundings
from model.vocabulary import Fp8Embedding


@dataclass(kw_only=True, slots=True)
class DiffusionSampling:
    """Knobs of the entropy-bound sampler; the defaults are the released model's.

    With `early_stop` off every canvas takes exactly `max_denoising_steps`. With `self_conditioning`
    off no step is told what the one before believed: each is given the first step's zero signal.
    With `min_belief` above 0 a step is told of those tokens alone that some position gave at least
    that probability (`model.ops.reference.soft_embedding`).

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
    self_conditioning: bool = True
    min_belief: float = 0.0

    def __post_init__(self) -> None:
        for name, valid, rule in (
            ("max_denoising_steps", self.max_denoising_steps >= 1, ">= 1"),
            ("entropy_bound", self.entropy_bound >= 0, ">= 0 nat"),
            ("confidence_threshold", self.confidence_threshold >= 0, ">= 0 nat"),
            ("stability_threshold", self.stability_threshold >= 0, ">= 0 steps"),
            ("t_min", self.t_min > 0, "> 0"),
            ("t_max", self.t_max >= self.t_min, f">= t_min ({self.t_min})"),
            ("min_belief", 0 <= self.min_belief < 1, ">= 0 and < 1"),
            (
                "min_belief",
                self.self_conditioning or not self.min_belief,
                "0 with self_conditioning=False, which feeds no belief back",
            ),
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
        no_argmax = torch.full_like(initial_BL, -1)
        unchanged_B, steps_B = (torch.zeros_like(ended_B, dtype=torch.int32) for _ in range(2))
        return cls(initial_BL, no_argmax, None, unchanged_B, ended_B, steps_B)


@dataclass(frozen=True, slots=True)
class StepTrace:
    """A step's decisions at every position, as device tensors."""

    canvas_BL: Tensor
    candidate_BL: Tensor
    accepted_BL: Tensor
    argmax_BL: Tensor
    entropy_BL: Tensor


@dataclass(frozen=True, slots=True)
class _StepNoise:
    """A step's share of `CanvasNoise`."""

    uniform_BL: Tensor
    renoise_BL: Tensor
    candidate_BL: Tensor | None


class Denoiser:
    """Applies the sampler's step: forward, statistics, acceptance, renoising, stop test.

    No host synchronisation: everything stays on the device, `done_B` included. Knobs are tensors
    too, so that a compiled step serves all their values.

    Raises:
        ValueError: the sampler leaves out beliefs, which the model's embedding does not take.
    """

    def __init__(self, model: DiffusionTransformer, sampling: DiffusionSampling) -> None:
        if sampling.min_belief and isinstance(model.embedding, Fp8Embedding):
            raise ValueError(
                f"sampler.min_belief is {sampling.min_belief}; it must be 0 with an fp8 vocabulary"
            )
        self._model = model
        self._step = model.wrap_step(_step, "denoise")
        number = partial(torch.tensor, device=model.device)
        self._feeds_back = sampling.self_conditioning
        self._min_belief = number(sampling.min_belief) if sampling.min_belief else None
        self._accept = EntropyBound(number(sampling.entropy_bound))
        self._stop = (
            StableAndConfident(
                number(sampling.stability_threshold), number(sampling.confidence_threshold)
            )
            if sampling.early_stop
            else None
        )
        schedule = LinearTemperature(sampling.t_min, sampling.t_max)
        self._temperatures_N = schedule.table(sampling.max_denoising_steps).to(model.device)
        self._around: Surroundings | AnyPrefix | None = None
        # Where steps are issued ahead of the device, their answers come ahead of their ends.
        ahead = self._stop is not None and model.wrap_step.fixed_shapes
        self._flag = model.stop_flag if ahead else None
        self._indices_N = torch.arange(sampling.max_denoising_steps, device=model.device)
        if self._flag is not None:
            self._flag.settle()

    def step(
        self,
        state: CanvasState,
        cache: KVCache,
        noise: CanvasNoise,
        index: int,
        finished_BL: Tensor | None = None,
    ) -> tuple[CanvasState, StepTrace]:
        """Step `index` (from 0) of a canvas whose noise is on the model's device.

        Args:
            finished_BL: at a first step, the canvas before: committed in the same forward.
        """
        model, finished = self._model, None
        if index == 0:
            length, ahead = state.canvas_BL.shape[1], 0
            if finished_BL is not None:
                finished = FinishedCanvas(finished_BL, model.around_commit(length, cache))
                ahead = length
            self._around = model.around_canvas(length, cache, ahead=ahead)
            state = replace(state, signal_BLD=model.no_signal(state.canvas_BL))
        assert self._around is not None
        if self._flag is not None:
            self._flag.arm(model.device)
        candidates = noise.candidate_NBL
        found = self._step(
            model,
            self._accept,
            self._stop,
            self._around,
            finished,
            state,
            _StepNoise(
                noise.uniform_NBL[index],
                noise.renoise_NBL[index],
                None if candidates is None else candidates[index],
            ),
            self._temperatures_N[index],
            self._flag,
            None if self._flag is None else self._indices_N[index],
            self._feeds_back,
            self._min_belief,
        )
        if finished is not None:
            cache.advance(finished.canvas_BL.shape[1])
        return found

    def all_done(self, state: CanvasState, index: int) -> bool:
        """The stop check after step `index`: the only wait for the device between two steps."""
        if self._flag is None:
            return bool(state.done_B.all().item())
        return self._flag.read(index, state.done_B)


def _step(
    model: DiffusionTransformer,
    accept: Acceptance,
    stop: EarlyStop | None,
    around: Surroundings | AnyPrefix,
    finished: FinishedCanvas | None,
    state: CanvasState,
    noise: _StepNoise,
    temperature: Tensor,
    flag: StopFlag | None,
    index: Tensor | None,
    feeds_back: bool,
    min_belief: Tensor | None,
) -> tuple[CanvasState, StepTrace]:
    """The whole step as a function of tensors, which `model.execution` may compile."""
    raw_BLV = model.scores_in(state.canvas_BL, state.signal_BLD, around, finished)
    candidate, argmax, entropy, belief_BLV = model.ops.sample(
        raw_BLV, model.config.final_logit_softcap, temperature, noise.uniform_BL
    )
    if noise.candidate_BL is not None:
        candidate = noise.candidate_BL
    # A kernel has the shipped policies' rules inside; torch calls any policy.
    stops_as_shipped = stop is None or type(stop) is StableAndConfident
    is_shipped = type(accept) is EntropyBound and stops_as_shipped
    settle = model.ops.settle if is_shipped else reference.settle
    accepted, canvas, next_argmax, unchanged, steps, done = settle(
        accept,
        stop,
        entropy,
        candidate,
        argmax,
        noise.renoise_BL,
        state.canvas_BL,
        state.argmax_BL,
        state.unchanged_B,
        state.steps_B,
        state.done_B,
    )
    if flag is not None and index is not None:
        flag.write(index, done)
    # Last, so that the host reads the answer meanwhile.
    if not feeds_back:
        signal = model.no_signal(canvas)
    elif min_belief is None:
        signal = model.embedding.soft(belief_BLV)
    else:
        del raw_BLV  # its memory takes the compacted probabilities
        signal = model.embedding.soft_of_believed(belief_BLV, min_belief, model.ops)
    trace = StepTrace(state.canvas_BL, candidate, accepted, argmax, entropy)
    return CanvasState(canvas, next_argmax, signal, unchanged, done, steps), trace
