"""The table of operations for `kernels=triton`; what has no kernel of its own is torch's.

Legend: B seqs, L positions, T tokens, D model, K experts a token, V vocab.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from model.kernels import compacted, glue, sampler
from model.kernels import experts as routed
from model.kernels.glue import add_rms_norm, gated_gelu, rms_norm
from model.kernels.routing import route
from model.ops import torch_native
from model.ops.reference import ScaledRows
from model.ops.torch_native import attention, qkv_norm_rope, softcap

__all__ = [
    "add_rms_norm",
    "attention",
    "experts",
    "gated_gelu",
    "qkv_norm_rope",
    "rms_norm",
    "rms_norms",
    "route",
    "sample",
    "sample_scaled",
    "settle",
    "soft_embedding",
    "softcap",
]


def experts(
    x_TD: Tensor, expert_TK: Tensor, weight_TK: Tensor, gate_up: Tensor, down: Tensor
) -> Tensor:
    return routed.mixed_experts(
        x_TD, None, expert_TK, weight_TK, routed.ExpertWeights(gate_up, down)
    )


def rms_norms(x: Tensor, weights: Sequence[Tensor | None], eps: float) -> list[Tensor]:
    return glue.norms(x, eps, [glue.Branch(weight) for weight in weights])  # type: ignore[return-value]


def sample(
    raw_BLV: Tensor, cap: float, temperature: Tensor, uniform_BL: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    raw_TV, shape = raw_BLV.flatten(0, 1), uniform_BL.shape
    candidate, argmax, entropy, lse = sampler.token_statistics(
        raw_TV, cap, temperature, uniform_BL.flatten()
    )
    p_TV = sampler.soft_probabilities(raw_TV, cap, temperature, lse)
    return candidate.view(shape), argmax.view(shape), entropy.view(shape), p_TV.view_as(raw_BLV)


def sample_scaled(
    raw_BLV: Tensor, cap: float, temperature: Tensor, uniform_BL: Tensor
) -> tuple[Tensor, Tensor, Tensor, ScaledRows]:
    raw_TV, shape = raw_BLV.flatten(0, 1), uniform_BL.shape
    candidate, argmax, entropy, lse = sampler.token_statistics(
        raw_TV, cap, temperature, uniform_BL.flatten()
    )
    values_TV, scale_T1 = sampler.scaled_probabilities(raw_TV, cap, temperature, lse, argmax)
    belief = ScaledRows(values_TV.view_as(raw_BLV), scale_T1.view(*shape, 1))
    return candidate.view(shape), argmax.view(shape), entropy.view(shape), belief


def settle(
    accept: Any, stop: Any, *rows: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Of `EntropyBound` and `StableAndConfident` or none alone, whose numbers are tensors."""
    if stop is None:
        return sampler.settle(accept.bound, None, None, *rows)
    return sampler.settle(accept.bound, stop.stability_steps, stop.confidence_nat, *rows)


def soft_embedding(p_BLV: Tensor, weight_VD: Tensor, min_belief: Tensor) -> Tensor:
    if weight_VD.dtype is not torch.bfloat16:
        return torch_native.soft_embedding(p_BLV, weight_VD, min_belief)
    return compacted.soft_embedding(p_BLV, weight_VD, min_belief)
