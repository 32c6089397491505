"""The two products with the vocabulary in fp8: logits, and the soft embedding of self-conditioning.

An option beside the precision of everything else. The tied table [V, D] is kept three times: as it
is, for looking tokens up; as e4m3 rows with a scale a token, for the logits; and as e4m3 channels
[D, V] with a scale a channel, for the soft embedding, because tensor cores take e4m3 factors only
with the summed dimension innermost. Hidden states and probabilities are quantised row by row, with
a scale each that is found as they come.

The arithmetic is that of the fp8 recipe's linear maps (`model.precision.Fp8Linear`,
`model.float8.ScaledLinear`), whose results are rounded to bf16.

Legend: B seqs, L positions, T rows, D model, V vocab.
"""

from collections.abc import Callable
from enum import StrEnum
from math import gcd
from typing import Protocol

import torch
from torch import Tensor

from model.float8 import ScaledLinear, ScaledMatrix
from model.layers import Embedding
from model.ops.reference import ScaledRows, quantise_rows

_TABLE_VALUES = 16 << 20  # of the table, wide at once while it is quantised


class Vocabulary(StrEnum):
    """What the products with the embedding table run in."""

    EXACT = "exact"  # in the model's activation dtype, as released
    FP8 = "fp8"


class ScaledMap(Protocol):
    """A linear map in fp8 (`model.float8.ScaledLinear`, `model.precision.Fp8Linear`)."""

    def __call__(self, x: Tensor, /) -> Tensor: ...

    def product(self, values: Tensor, scale: Tensor, /) -> Tensor:
        """The map of rows that are quantised already, [T, ..] with scale [T, 1]."""
        ...


class Fp8Embedding(Embedding):
    """An embedding whose logits and soft embeddings are products of e4m3 values.

    Args:
        embedding: the table, which is kept for tokens.
        scores: the linear map from hidden states [.., D] to raw logits [.., V].
        mixture: the one from probabilities [.., V] to unscaled embeddings [.., D]; None for a model
            that conditions on no belief.
    """

    def __init__(self, embedding: Embedding, scores: ScaledMap, mixture: ScaledMap | None) -> None:
        with torch.device("meta"):  # the table is there already
            super().__init__(*embedding.weight.shape)
        self.weight = embedding.weight
        self.scores, self.mixture = scores, mixture

    def logits(self, hidden: Tensor) -> Tensor:
        return self.scores(hidden)

    def soft(self, probabilities_BLV: Tensor | ScaledRows) -> Tensor:
        """Of probabilities as `model.ops` samples them with an fp8 vocabulary, or plain ones."""
        assert self.mixture is not None
        if isinstance(probabilities_BLV, Tensor):
            probabilities_BLV = quantise_rows(probabilities_BLV.to(self.weight.dtype))
        values_BLV, scale_BL1 = probabilities_BLV
        mixed_TD = self.mixture.product(values_BLV.flatten(0, -2), scale_BL1.flatten(0, -2))
        mixed_BLD = mixed_TD.to(self.weight.dtype).unflatten(0, values_BLV.shape[:-1])
        return mixed_BLD * self._scale


class LongProduct(ScaledLinear):
    """A `ScaledLinear` that sums over a whole vocabulary.

    Partial sums leave the tensor core's narrow accumulator on the way: among so many products it
    would lose the small ones.
    """

    fast_accumulation = False


def scaled_rows(table_VD: Tensor, quantise: Callable[[Tensor], ScaledMatrix]) -> ScaledMatrix:
    """The table with a scale a token: values [V, D] and scale [V, 1]."""
    return _in_parts(table_VD, quantise)


def scaled_channels(table_VD: Tensor, quantise: Callable[[Tensor], ScaledMatrix]) -> ScaledMatrix:
    """The table transposed with a scale a channel: values [D, V] and scale [D, 1]."""
    return _in_parts(table_VD.t(), quantise)


def _in_parts(matrix: Tensor, quantise: Callable[[Tensor], ScaledMatrix]) -> ScaledMatrix:
    """Quantised a few rows at a time (`quantise` goes matrix by matrix): little is wide at once."""
    most = 1 << max(0, (_TABLE_VALUES // matrix.shape[1]).bit_length() - 1)
    found = quantise(matrix.detach().unflatten(0, (-1, gcd(matrix.shape[0], most))))
    return ScaledMatrix(found.values.flatten(0, 1).contiguous(), found.scale.flatten(0, 1))
