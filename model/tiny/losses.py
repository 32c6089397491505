"""What the tiny pair is trained on: denoising a noisy canvas, and predicting the next token.

Legend: B examples, L canvas, S sequence, V vocab.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.diffusion import DiffusionTransformer
from model.tiny.data import CanvasBatch, SequenceBatch
from model.transformer import Transformer

_FULL_NOISE_SHARE = 0.15
_SELF_CONDITIONING_SHARE = 0.5


class TapeCache:
    """A cache that keeps autograd's graph: prefixes are concatenated, nothing is overwritten."""

    def __init__(self, start_B: Tensor | None = None) -> None:
        self.num_cached = 0
        self.start_B = start_B
        self._prefix: dict[int, tuple[Tensor, Tensor]] = {}
        self._open: dict[int, tuple[Tensor, Tensor]] = {}

    def write_and_view(
        self, layer: int, key_BGLH: Tensor, value_BGLH: Tensor
    ) -> tuple[Tensor, Tensor]:
        if layer in self._prefix:
            key, value = self._prefix[layer]
            key_BGLH = torch.cat((key, key_BGLH), dim=2)
            value_BGLH = torch.cat((value, value_BGLH), dim=2)
        self._open[layer] = (key_BGLH, value_BGLH)
        return key_BGLH, value_BGLH

    def advance(self, length: int) -> None:
        self.num_cached += length
        self._prefix = dict(self._open)

    def first_rows(self, num_rows: int) -> "TapeCache":
        """The same prefix for the first rows of the batch alone."""
        part = TapeCache(None if self.start_B is None else self.start_B[:num_rows])
        part.num_cached = self.num_cached
        part._prefix = {
            layer: (key[:num_rows], value[:num_rows])
            for layer, (key, value) in self._prefix.items()
        }
        return part


def diffusion_loss(
    model: DiffusionTransformer, batch: CanvasBatch, generator: torch.Generator
) -> Tensor:
    """Cross-entropy of the clean canvas, all positions, from a noisy one."""
    batch_size, length = batch.canvas_BL.shape
    noise_B1 = torch.rand(batch_size, 1, generator=generator)
    full = torch.rand(batch_size, 1, generator=generator) < _FULL_NOISE_SHARE
    corrupt = torch.rand(batch_size, length, generator=generator) < noise_B1.masked_fill(full, 1.0)
    random_BL = torch.randint(model.config.vocab_size, (batch_size, length), generator=generator)
    noisy_BL = torch.where(corrupt, random_BL, batch.canvas_BL)

    cache = TapeCache(batch.start_B)
    model.encode(batch.prefix_BP, cache)
    num_guided = int(batch_size * _SELF_CONDITIONING_SHARE)
    with torch.no_grad():
        temperature = 0.4 + 0.4 * torch.rand(num_guided, 1, 1, generator=generator)
        guess = model.denoise(noisy_BL[:num_guided], None, cache.first_rows(num_guided))
        signal = model.signal(guess / temperature)
        signal = F.pad(signal, (0, 0, 0, 0, 0, batch_size - num_guided))
    logits_BLV = model.denoise(noisy_BL, signal, cache)
    return F.cross_entropy(logits_BLV.flatten(0, 1), batch.canvas_BL.flatten())


def autoregressive_loss(model: Transformer, batch: SequenceBatch) -> Tensor:
    """Cross-entropy of the answer's tokens, each from what precedes it."""
    hidden = model.encode(batch.token_BS[:, :-1], TapeCache())
    is_target = batch.is_answer_BS[:, 1:]
    return F.cross_entropy(model.logits(hidden[is_target]), batch.token_BS[:, 1:][is_target])
