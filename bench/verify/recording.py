"""The randomness and the decisions of upstream's sampler, written down while it generates.

Legend: B rows, L canvas, N steps.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers.models.diffusion_gemma.generation_diffusion_gemma import (
    EntropyBoundSampler,
    StableAndConfidentStoppingCriteria,
)

from model.sampling import CanvasNoise


@dataclass
class Recording:
    """What upstream's generation drew and decided, canvas by canvas, step by step; [B, L] each."""

    initial: list[Tensor] = field(default_factory=list)
    candidates: list[list[Tensor]] = field(default_factory=list)
    renoise: list[list[Tensor]] = field(default_factory=list)
    accepted: list[list[Tensor]] = field(default_factory=list)
    argmax: list[list[Tensor]] = field(default_factory=list)
    stops: list[list[Tensor]] = field(default_factory=list)

    def stop_step(self, canvas: int, row: int) -> int:
        """The step (from 1) at which a row's stopping criterion first held, else the last one."""
        held = [bool(step[row]) for step in self.stops[canvas]]
        return held.index(True) + 1 if True in held else len(held)

    def noise(self, num_steps: int) -> list[CanvasNoise]:
        """As our sampler takes it; steps upstream did not run are padded with the last one."""
        return [
            CanvasNoise(
                initial,
                torch.zeros(num_steps, *initial.shape),
                _padded(renoise, num_steps),
                _padded(candidates, num_steps),
            )
            for initial, renoise, candidates in zip(
                self.initial, self.renoise, self.candidates, strict=True
            )
        ]

    def _begin_canvas(self, initial: Tensor) -> None:
        self.initial.append(initial)
        for steps in (self.candidates, self.renoise, self.accepted, self.argmax, self.stops):
            steps.append([])


class DraftStreamer:
    """Receives upstream's argmax canvas after every step."""

    def __init__(self, found: Recording) -> None:
        self._found = found

    def put(self, value: Tensor) -> None:
        """Prompts and finished canvases."""

    def put_draft(self, value: Tensor) -> None:
        self._found.argmax[-1].append(value.cpu())

    def end(self) -> None:
        """Nothing comes after the last canvas."""


@contextmanager
def recording() -> Iterator[Recording]:
    """Writes down what every generation within draws and decides; on the host."""
    found = Recording()
    initialize, accept = EntropyBoundSampler.initialize_canvas, EntropyBoundSampler.accept_canvas
    renoise, stop = EntropyBoundSampler.renoise_canvas, StableAndConfidentStoppingCriteria.__call__
    inside_renoise = False

    def initialize_canvas(self: Any, batch_size: int, device: Any) -> Tensor:
        canvas = initialize(self, batch_size, device)
        if inside_renoise:
            found.renoise[-1].append(canvas.cpu())
        else:
            found._begin_canvas(canvas.cpu())
        return canvas

    def accept_canvas(
        self: Any, current_canvas: Tensor, denoiser_canvas: Tensor, logits: Tensor, cur_step: Any
    ) -> Any:
        result = accept(self, current_canvas, denoiser_canvas, logits, cur_step)
        found.candidates[-1].append(denoiser_canvas.cpu())
        found.accepted[-1].append(self.accepted_token_mask.cpu())
        return result

    def renoise_canvas(self: Any, accepted_canvas: Tensor, cur_step: Any) -> Any:
        nonlocal inside_renoise
        inside_renoise = True
        result = renoise(self, accepted_canvas, cur_step)
        inside_renoise = False
        return result

    def note_stop(self: Any, argmax_canvas: Tensor, logits: Tensor, **kwargs: Any) -> Any:
        held = stop(self, argmax_canvas, logits, **kwargs)
        found.stops[-1].append(held.cpu())
        return held

    with (
        patch.object(EntropyBoundSampler, "initialize_canvas", initialize_canvas),
        patch.object(EntropyBoundSampler, "accept_canvas", accept_canvas),
        patch.object(EntropyBoundSampler, "renoise_canvas", renoise_canvas),
        patch.object(StableAndConfidentStoppingCriteria, "__call__", note_stop),
    ):
        yield found


def _padded(steps: list[Tensor], num_steps: int) -> Tensor:
    return torch.stack(steps + [steps[-1]] * (num_steps - len(steps)))
