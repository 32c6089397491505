"""One autoregressive step: the next token of every row, greedily.

Legend: B seqs, D model.
"""

from dataclasses import dataclass

from torch import Tensor

from model.kv_cache import KVCache
from model.transformer import AnyPrefix, Transformer


@dataclass(kw_only=True, slots=True)
class GreedySampling:
    """The sibling decodes greedily; it has no knobs."""


class GreedyDecoder:
    """Turns final hidden states into tokens and tokens into hidden states."""

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self._fixed = model.wrap_step.fixed_shapes
        self._step = model.wrap_step(_step, "decode")

    def choose(self, hidden_B1D: Tensor) -> tuple[Tensor, Tensor]:
        """The most probable next token [B] after the last position, and its score [B]."""
        return _choose(self._model, hidden_B1D)

    def step(self, token_B: Tensor, cache: KVCache) -> tuple[Tensor, Tensor]:
        """Appends one token a row to the cache and returns the next one and its score, [B]."""
        if not self._fixed:
            return self.choose(self._model.encode(token_B[:, None], cache))
        next_B, score_B = self._step(self._model, token_B, self._model.anywhere(cache))
        cache.advance(1)
        return next_B, score_B


def _choose(model: Transformer, hidden_B1D: Tensor) -> tuple[Tensor, Tensor]:
    score_B, token_B = model.logits(hidden_B1D[:, -1]).max(-1)
    return token_B, score_B


def _step(model: Transformer, token_B: Tensor, prefix: AnyPrefix) -> tuple[Tensor, Tensor]:
    """The step as a function of tensors, which `model.execution` may capture."""
    return _choose(model, model.encode_in(token_B[:, None], prefix))
