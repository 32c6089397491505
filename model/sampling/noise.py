"""Randomness of the sampler, separate from it: seeded, or recorded elsewhere and injected.

All noise of a canvas is drawn before its first step: one uniform number a position a step decides
the candidate, one random token a position a step renoises it. A row's noise depends on the seed,
the row's key and the canvas alone, so neither batch composition nor tracing changes what a row
gets.

Legend: B seqs, L canvas, N steps, V vocab.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class CanvasNoise:
    """The noise of one canvas.

    Attributes:
        initial_BL: tokens the canvas starts from.
        uniform_NBL: numbers in [0, 1) that choose candidates by inverting the distribution.
        renoise_NBL: tokens for positions that are not accepted.
        candidate_NBL: recorded candidates; given, they replace drawing.
    """

    initial_BL: Tensor
    uniform_NBL: Tensor
    renoise_NBL: Tensor
    candidate_NBL: Tensor | None = None

    def to(self, device: torch.device) -> "CanvasNoise":
        candidate = self.candidate_NBL
        return CanvasNoise(
            self.initial_BL.to(device, non_blocking=True),
            self.uniform_NBL.to(device, non_blocking=True),
            self.renoise_NBL.to(device, non_blocking=True),
            None if candidate is None else candidate.to(device, non_blocking=True),
        )


class NoiseSource(Protocol):
    """Gives the noise of the canvas with this index for every row of the batch, on the CPU."""

    def canvas(self, index: int, num_steps: int) -> CanvasNoise: ...


@dataclass(frozen=True, slots=True)
class SeededNoise:
    """Reproducible noise. `row_keys` name the rows, e.g. request numbers."""

    seed: int
    row_keys: Sequence[int]
    canvas_length: int
    vocab_size: int

    def canvas(self, index: int, num_steps: int) -> CanvasNoise:
        rows = [self._row(key, index, num_steps) for key in self.row_keys]
        initial, uniform, renoise = zip(*rows, strict=True)
        return CanvasNoise(torch.stack(initial), torch.stack(uniform, 1), torch.stack(renoise, 1))

    def _row(self, key: int, index: int, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        # Python's hash of a tuple of integers is fixed, unlike that of text.
        generator = torch.Generator().manual_seed(hash((self.seed, key, index)) & (2**63 - 1))
        shape = (num_steps, self.canvas_length)
        initial = torch.randint(self.vocab_size, shape[1:], generator=generator)
        uniform = torch.rand(shape, generator=generator)
        return initial, uniform, torch.randint(self.vocab_size, shape, generator=generator)


@dataclass(frozen=True, slots=True)
class RecordedNoise:
    """Noise recorded elsewhere, one entry a canvas.

    Raises:
        ValueError: a canvas beyond the recording, or one with fewer steps than asked for.
    """

    canvases: Sequence[CanvasNoise]

    def canvas(self, index: int, num_steps: int) -> CanvasNoise:
        if index >= len(self.canvases):
            raise ValueError(
                f"noise is recorded for {len(self.canvases)} canvases, not {index + 1}"
            )
        noise = self.canvases[index]
        if len(noise.renoise_NBL) < num_steps:
            raise ValueError(
                f"noise of canvas {index} is recorded for {len(noise.renoise_NBL)} steps, "
                f"not {num_steps}"
            )
        return noise


@dataclass(frozen=True, slots=True)
class StartingFrom:
    """Another source's noise, with the first canvas starting from given tokens [B, L]."""

    source: NoiseSource
    initial_BL: Tensor

    def canvas(self, index: int, num_steps: int) -> CanvasNoise:
        noise = self.source.canvas(index, num_steps)
        if index:
            return noise
        return CanvasNoise(
            self.initial_BL, noise.uniform_NBL, noise.renoise_NBL, noise.candidate_NBL
        )
