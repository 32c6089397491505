"""Products with the vocabulary in fp8 for `kernels=triton`: torch's, of rows that kernels quantise.

Hidden states are quantised by `glue.quantise_rows`, probabilities as the sampler writes them
(`sampler.scaled_probabilities`). The twin in plain torch is `model.vocabulary`.
"""

from typing import cast

from torch import Tensor

from model.float8 import ScaledLinear, ScaledMatrix
from model.kernels import glue
from model.transformer import Transformer
from model.vocabulary import Fp8Embedding


def fuse_vocabulary(model: Transformer) -> None:
    """Changes how the rows of the logits are quantised, in place, where they are in fp8."""
    if isinstance(model.embedding, Fp8Embedding):
        scores = cast(ScaledLinear, model.embedding.scores)
        table = ScaledMatrix(scores.weight, scores.scale)
        model.embedding.scores = ScaledLinear(table, _quantise)


def _quantise(x: Tensor) -> tuple[Tensor, Tensor]:
    values, scale = glue.quantise_rows(x)
    return values, scale[..., None]
