"""Plain torch, one obvious line after the other: what every faster table is tested against.

Legend: B seqs, L positions, K keys, T = B * L tokens, D model, N heads, G KV heads, H head dim,
E experts, F expert hidden, V vocab.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

FP8 = torch.float8_e4m3fn
_FP8_MAX = torch.finfo(FP8).max


class ScaledRows(NamedTuple):
    """e4m3 values [..., D] and their fp32 scale a row [..., 1]: x ~ values * scale."""

    values: Tensor
    scale: Tensor


def quantise_rows(x: Tensor) -> ScaledRows:
    """e4m3 values and a scale a row (last dimension), symmetric: the largest magnitude over 448."""
    wide = x.float()
    scale = wide.abs().amax(-1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny) / _FP8_MAX
    return ScaledRows((wide / scale).to(FP8), scale)


def rms_norm(x: Tensor, weight: Tensor | None, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in fp32; x's dtype comes back."""
    wide = x.float()
    normed = wide * torch.pow(wide.pow(2).mean(-1, keepdim=True) + eps, -0.5)
    if weight is not None:
        normed = normed * weight.float()
    return normed.type_as(x)


def rms_norms(x: Tensor, weights: Sequence[Tensor | None], eps: float) -> list[Tensor]:
    """The same x normed with several weights: what the feed-forward's branches start from."""
    return [rms_norm(x, weight, eps) for weight in weights]


def add_rms_norm(residual: Tensor, x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """residual + rms_norm(x)."""
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
    """Splits merged projections [.., N + G (+ G), H] and norms each head; rotates q and k.

    Without value projections (P = N + G) the value is the raw key, normed without weight.

    Returns:
        q [B, N, L, H], k and v [B, G, L, H].
    """
    q, k = qkv_BLPH[:, :, :num_heads], qkv_BLPH[:, :, num_heads : num_heads + num_kv_heads]
    v = qkv_BLPH[:, :, -num_kv_heads:]
    q = _rotate(rms_norm(q, q_weight, eps), cos_LH, sin_LH)
    k = _rotate(rms_norm(k, k_weight, eps), cos_LH, sin_LH)
    v = rms_norm(v, None, eps)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


def _rotate(x_BLNH: Tensor, cos_LH: Tensor, sin_LH: Tensor) -> Tensor:
    """Rotary embedding with the tables of `model.layers.rope_table`."""
    first, second = x_BLNH.chunk(2, dim=-1)
    swapped = torch.cat((second, first), dim=-1)
    return x_BLNH * cos_LH[:, None] + swapped * sin_LH[:, None]


def attention(q_BNLH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor, mask_BNLK: Tensor | None) -> Tensor:
    """softmax(q k^T) v with scale 1 and fp32 softmax; True in the mask means visible.

    Returns:
        [B, L, N * H]
    """
    repeats = q_BNLH.shape[1] // k_BGKH.shape[1]
    k_BNKH = k_BGKH.repeat_interleave(repeats, dim=1)
    v_BNKH = v_BGKH.repeat_interleave(repeats, dim=1)
    scores = q_BNLH @ k_BNKH.transpose(2, 3)
    if mask_BNLK is not None:
        scores = scores.masked_fill(~mask_BNLK, torch.finfo(scores.dtype).min)
    weights = F.softmax(scores, dim=-1, dtype=torch.float32).to(q_BNLH.dtype)
    return (weights @ v_BNKH).transpose(1, 2).flatten(2)


def gated_gelu(gate_up: Tensor) -> Tensor:
    """gelu_tanh(gate) * up of a merged [..., 2F] projection."""
    gate, up = gate_up.chunk(2, dim=-1)
    return F.gelu(gate, approximate="tanh") * up


def route(scores_TE: Tensor, per_expert_scale: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """fp32 softmax over experts, top k, renormalised to one, times each expert's scale.

    Returns:
        expert indices [T, K] and weights [T, K] fp32.
    """
    probabilities = torch.softmax(scores_TE, dim=-1, dtype=torch.float32)
    weight_TK, expert_TK = torch.topk(probabilities, top_k, dim=-1)
    weight_TK = weight_TK / weight_TK.sum(dim=-1, keepdim=True)
    return expert_TK, weight_TK * per_expert_scale[expert_TK]


def experts(
    x_TD: Tensor, expert_TK: Tensor, weight_TK: Tensor, gate_up: Tensor, down: Tensor
) -> Tensor:
    """Sum over each token's K experts of weight * down(gated_gelu(gate_up(x))), expert by expert.

    Args:
        expert_TK: expert indices; weight_TK: their routing weights (fp32 or x's dtype).
        gate_up: [E, 2F, D]; down: [E, D, F].
    """
    out_TD = torch.zeros_like(x_TD)
    for index in torch.unique(expert_TK).tolist():
        token, slot = torch.where(expert_TK == index)
        hidden = gated_gelu(F.linear(x_TD[token], gate_up[index]))
        routed = F.linear(hidden, down[index]) * weight_TK[token, slot, None]
        out_TD.index_add_(0, token, routed.to(out_TD.dtype))
    return out_TD


def softcap(logits: Tensor, cap: float) -> Tensor:
    """cap * tanh(logits / cap) in fp32."""
    return torch.tanh(logits.float() / cap) * cap


def token_statistics(logits_BLV: Tensor, uniform_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the sampler needs of a temperature-scaled distribution, all from fp32.

    The candidate is drawn by inverting the distribution function: the first token whose cumulative
    probability exceeds the position's uniform number. One random number a position, none a token.

    Returns:
        candidate [B, L] int64, argmax [B, L] int64, entropy in nat [B, L] fp32.
    """
    log_p = F.log_softmax(logits_BLV.float(), dim=-1)
    p = log_p.exp()
    entropy = -(p * log_p).sum(-1)
    cumulative = p.cumsum(-1)
    below = cumulative <= (uniform_BL * cumulative[..., -1])[..., None]
    candidate = below.sum(-1).clamp_(max=logits_BLV.shape[-1] - 1)
    return candidate, logits_BLV.argmax(-1), entropy


def sample(
    raw_BLV: Tensor, cap: float, temperature: Tensor, uniform_BL: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A position's decisions from its raw scores: softcap, temperature, `token_statistics`.

    Args:
        raw_BLV: scores before the softcap, in the activation dtype.
        temperature: one element.

    Returns:
        candidate, argmax and entropy as `token_statistics` gives them, and the probabilities
        [B, L, V] for self-conditioning: softmax in fp32 of the scaled scores rounded to the
        activation dtype, as upstream does.
    """
    scaled_BLV = softcap(raw_BLV, cap) / temperature
    candidate, argmax, entropy = token_statistics(scaled_BLV, uniform_BL)
    return candidate, argmax, entropy, rounded_softmax(scaled_BLV, raw_BLV.dtype)


def sample_scaled(
    raw_BLV: Tensor, cap: float, temperature: Tensor, uniform_BL: Tensor
) -> tuple[Tensor, Tensor, Tensor, ScaledRows]:
    """`sample` for self-conditioning in fp8: the probabilities come rounded, then quantised."""
    *decided, p_BLV = sample(raw_BLV, cap, temperature, uniform_BL)
    candidate, argmax, entropy = decided
    return candidate, argmax, entropy, quantise_rows(p_BLV.to(raw_BLV.dtype))


def rounded_softmax(scaled_BLV: Tensor, dtype: torch.dtype) -> Tensor:
    """Softmax in fp32 of scores rounded to a dtype."""
    return torch.softmax(scaled_BLV.to(dtype), dim=-1, dtype=torch.float32)


def settle(
    accept: Callable[[Tensor], Tensor],
    stop: Callable[[Tensor, Tensor], Tensor] | None,
    entropy_BL: Tensor,
    candidate_BL: Tensor,
    argmax_BL: Tensor,
    renoise_BL: Tensor,
    canvas_BL: Tensor,
    last_argmax_BL: Tensor,
    unchanged_B: Tensor,
    steps_B: Tensor,
    done_B: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """What a step decides once its tokens are sampled: the next canvas, and whether it is the last.

    Accepted positions take their candidate, all others are renoised. Among several rows those that
    are done keep what they have; a lone row's end is the canvas's end.

    Args:
        accept, stop: policies as `model.sampling.policies` has them; without `stop` no row ends.
        entropy_BL, candidate_BL, argmax_BL: of this step, from `sample`.
        renoise_BL: fresh tokens.
        canvas_BL, last_argmax_BL: what the step was given, and the argmax before it.
        unchanged_B, steps_B, done_B: as `model.sampling.block_diffusion.CanvasState` has them.

    Returns:
        accepted [B, L] bool, then the next state: canvas, argmax, unchanged, steps, done.
    """
    accepted_BL = accept(entropy_BL)
    next_BL = torch.where(accepted_BL, candidate_BL, renoise_BL)
    if len(done_B) > 1:
        frozen_B1 = done_B[:, None]
        next_BL = torch.where(frozen_B1, canvas_BL, next_BL)
        argmax_BL = torch.where(frozen_B1, last_argmax_BL, argmax_BL)
    unchanged_B = (unchanged_B + 1) * (argmax_BL == last_argmax_BL).all(-1)
    steps_B = steps_B + ~done_B
    if stop is not None:
        done_B = done_B | stop(unchanged_B, entropy_BL)
    return accepted_BL, next_BL, argmax_BL, unchanged_B, steps_B, done_B


def soft_embedding(p_BLV: Tensor, weight_VD: Tensor, min_belief: Tensor) -> Tensor:
    """Expected rows of the table over the tokens in play: p @ weight without all other columns.

    A token is in play where any position of any row gives it at least `min_belief`. What remains is
    not renormalised. A NaN keeps its column and so is not lost.

    Args:
        p_BLV: probabilities, in the table's dtype.
        min_belief: fp32, one element.

    Returns:
        [B, L, D]
    """
    return torch.matmul(p_BLV.where(in_play(p_BLV, min_belief), 0.0), weight_VD)


def in_play(p_BLV: Tensor, min_belief: Tensor) -> Tensor:
    """Which tokens `soft_embedding` keeps, [V]."""
    return ~(p_BLV.flatten(0, -2).amax(0).float() < min_belief)


def left_out(p_BLV: Tensor, min_belief: Tensor) -> tuple[Tensor, Tensor]:
    """What `soft_embedding` does to a step: tokens it keeps, int64, and lost probability [B, L]."""
    kept_V = in_play(p_BLV, min_belief)
    return kept_V.sum(), p_BLV.float().where(~kept_V, 0.0).sum(-1)
