"""One autoregressive step: the next token of every row, greedily.

Legend: B seqs, D model.
"""

from dataclasses import dataclass

from torch import Tensor

from model.attention import Cache
from model.transformer import Transformer


@dataclass(kw_only=True, slots=True)
class GreedySampling:
    """The sibling decodes greedily; it has no knobs."""


class GreedyDecoder:
    """Turns final hidden states into tokens and tokens into hidden states."""

    def __init__(self, model: Transformer) -> None:
        self._model = model

    def choose(self, hidden_B1D: Tensor) -> Tensor:
        """The most probable next token [B] after the last position."""
        return self._model.logits(hidden_B1D[:, -1]).argmax(-1)

    def step(self, token_B: Tensor, cache: Cache) -> Tensor:
        """Appends one token a row to the cache and returns the next one, [B]."""
        return self.choose(self._model.encode(token_B[:, None], cache))
