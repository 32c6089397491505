"""The same operations from fewer and cheaper torch calls.

Contracts as in `model.ops.reference`; equal within rounding, tested in `tests/model/test_ops.py`.
On a processor small steps cost mostly calls, so norms are shared and composed of the cheapest ones;
on CUDA torch's fused norm is used.

Legend: B seqs, L positions, K keys, T = B * L tokens, D model, N heads, G KV heads, H head dim,
E experts, F expert hidden, V vocab.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from model.ops import reference, sampler
from model.ops.grouping import by_row, grouped_mm, mix, sort_by_expert

softcap = reference.softcap
sample = sampler.sample
sample_scaled = sampler.sample_scaled
settle = reference.settle

# With few experts for each one a token uses, batched GEMMs over all of them beat gathering rows.
_DENSE_UP_TO = 4
# What torch's flash kernel takes on CUDA; wide scores of one part of a pass.
_FLASH_HEAD_DIM, _MAX_SCORES = 256, 1 << 28
_GELU_LINEAR, _GELU_CUBIC = 1.5957691216057308, 0.07135481282638533  # 2 sqrt(2 / pi) (1, 0.044715)


@lru_cache
def _constant(value: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(value, device=device)


def _normalise(x: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) in fp32: hypot(|x| / sqrt(D), sqrt(eps)) is the divisor."""
    wide = x.float()
    if wide.is_cuda:
        return F.rms_norm(wide, wide.shape[-1:], None, eps)
    root = torch.linalg.vector_norm(wide, dim=-1, keepdim=True) * wide.shape[-1] ** -0.5
    return wide / torch.hypot(root, _constant(eps**0.5, wide.device))


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    normed = _normalise(x, eps)
    return (normed if weight is None else normed * weight.float()).to(x.dtype)


def rms_norms(x: Tensor, weights: Sequence[Tensor | None], eps: float) -> list[Tensor]:
    normed = _normalise(x, eps)
    return [
        (normed if weight is None else normed * weight.float()).to(x.dtype) for weight in weights
    ]


def add_rms_norm(residual: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    if residual.dtype is torch.float32:
        return torch.addcmul(residual, _normalise(x, eps), weight)
    return residual + rms_norm(x, weight, eps)


def qkv_norm_rope(
    qkv_BLPH: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    cos_LH: Tensor,
    sin_LH: Tensor,
    num_heads: int,
    num_kv_heads: int,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    normed = _normalise(qkv_BLPH, eps)
    rotated_end, dtype = num_heads + num_kv_heads, qkv_BLPH.dtype
    weight_NH = torch.cat((q_weight.expand(num_heads, -1), k_weight.expand(num_kv_heads, -1)))
    qk = (normed[:, :, :rotated_end] * weight_NH).to(dtype)
    half = qk.shape[-1] // 2
    swapped = torch.cat((qk[..., half:], qk[..., :half]), dim=-1)
    qk = torch.addcmul(qk * cos_LH[:, None], swapped, sin_LH[:, None])
    v_BLGH = normed[:, :, -num_kv_heads:].to(dtype)
    qk_BNLH = qk.transpose(1, 2)
    return qk_BNLH[:, :num_heads], qk_BNLH[:, num_heads:], v_BLGH.transpose(1, 2)


def attention(q_BNLH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor, mask_BNLK: Tensor | None) -> Tensor:
    if q_BNLH.is_cuda and (mask_BNLK is not None or q_BNLH.shape[-1] > _FLASH_HEAD_DIM):
        return _plain_attention(q_BNLH, k_BGKH, v_BGKH, mask_BNLK)
    out = F.scaled_dot_product_attention(
        q_BNLH, k_BGKH, v_BGKH, attn_mask=mask_BNLK, scale=1.0, enable_gqa=True
    )
    return out.transpose(1, 2).flatten(2)


def _plain_attention(
    q_BNLH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor, mask_BNLK: Tensor | None
) -> Tensor:
    """Two products and a softmax, query heads of a KV head together: no copy of keys or values.

    What torch's flash kernel does not take on CUDA: a mask, or wide heads. Long passes go in parts.
    """
    num_keys, num_heads = k_BGKH.shape[2], q_BNLH.shape[1]
    part = max(1, _MAX_SCORES // (num_heads * num_keys))
    q_BGRLH = q_BNLH.unflatten(1, (k_BGKH.shape[1], -1))
    mask = None if mask_BNLK is None else mask_BNLK[:, :, None]
    parts = []
    for begin in range(0, q_BNLH.shape[2], part):
        rows = slice(begin, begin + part)
        q_BGMH = q_BGRLH[:, :, :, rows].flatten(2, 3)
        scores = torch.matmul(q_BGMH, k_BGKH.transpose(2, 3))
        if mask is not None:
            own = mask if mask.shape[3] == 1 else mask[:, :, :, rows]
            scores = scores.unflatten(2, (q_BGRLH.shape[2], -1))
            scores = scores.masked_fill(~own, torch.finfo(scores.dtype).min).flatten(2, 3)
        # In fp32 inside, rounded once on the way out: no wide copy.
        out_BGMH = torch.matmul(torch.softmax(scores, dim=-1), v_BGKH)
        parts.append(out_BGMH.unflatten(2, (q_BGRLH.shape[2], -1)).flatten(1, 2))
    out_BNLH = parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)
    return out_BNLH.transpose(1, 2).flatten(2)


def gated_gelu(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.chunk(2, dim=-1)
    if gate.is_cuda or gate.dtype is not torch.float32:
        return F.gelu(gate, approximate="tanh") * up
    # gelu_tanh(x) = x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3)); torch's own tanh form is slower
    # here.
    linear = _constant(_GELU_LINEAR, gate.device)
    slope = torch.sigmoid(torch.addcmul(linear, gate, gate, value=_GELU_CUBIC) * gate)
    return slope * gate * up


def route(scores_TE: Tensor, per_expert_scale: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    # A softmax renormalised over its top k is the softmax of those k scores.
    score_TK, expert_TK = torch.topk(scores_TE, top_k, dim=-1)
    weight_TK = torch.softmax(score_TK, dim=-1, dtype=torch.float32)
    return expert_TK, weight_TK * per_expert_scale[expert_TK]


def experts(
    x_TD: Tensor, expert_TK: Tensor, weight_TK: Tensor, gate_up: Tensor, down: Tensor
) -> Tensor:
    num_experts, top_k = gate_up.shape[0], expert_TK.shape[1]
    if num_experts > _DENSE_UP_TO * top_k:
        if not all(_grouped_product_takes(weight) for weight in (gate_up, down)):
            return reference.experts(x_TD, expert_TK, weight_TK, gate_up, down)
        order_R, end_E = sort_by_expert(expert_TK, num_experts)
        rows_RD = x_TD[order_R // top_k]
        hidden_RF = gated_gelu(grouped_mm(rows_RD, gate_up.transpose(1, 2), end_E))
        out_RD = grouped_mm(hidden_RF, down.transpose(1, 2), end_E)
        return mix(out_RD.mul_(by_row(weight_TK, order_R)[:, None]), order_R, top_k)
    hidden_ETF = gated_gelu(torch.matmul(x_TD, gate_up.transpose(1, 2)))
    weight_TE = x_TD.new_zeros(x_TD.shape[0], gate_up.shape[0])
    weight_TE = weight_TE.scatter(1, expert_TK, weight_TK.to(x_TD.dtype))
    hidden_ETF = hidden_ETF * weight_TE.t()[:, :, None]
    return torch.bmm(hidden_ETF, down.transpose(1, 2)).sum(0)


def soft_embedding(p_BLV: Tensor, weight_VD: Tensor, min_belief: Tensor) -> Tensor:
    if p_BLV.is_cuda or torch.compiler.is_compiling():
        # How many tokens are in play is known to the device alone: masked, at a fixed size.
        return reference.soft_embedding(p_BLV, weight_VD, min_belief)
    token_U = reference.in_play(p_BLV, min_belief).nonzero()[:, 0]
    return torch.matmul(p_BLV.index_select(-1, token_U), weight_VD.index_select(0, token_U))


def _grouped_product_takes(weight: Tensor) -> bool:
    """torch's grouped product wants rows of a multiple of 16 bytes."""
    return weight.shape[-1] * weight.element_size() % 16 == 0
