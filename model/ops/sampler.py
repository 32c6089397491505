"""`model.ops.reference.sample` in few passes over the vocabulary.

Wide scores are taken a block of rows at a time, small enough that all passes over a block but the
first stay in a GPU's second-level cache. One exponential gives the entropy, the probabilities and
the sums of tiles of tokens; argmax and candidate are looked up in two levels, first the tile and
then the token in it, which is computed again from its raw scores.

The candidate is the reference's, the first token whose cumulative probability exceeds the uniform
number, but cumulative sums over tiles round less than one over the whole vocabulary: where the
number lies within such a rounding of a boundary, the neighbour on its other side may be drawn.

Legend: B seqs, L positions, T = B * L, R rows of a block, V vocab, N tiles, S tokens a tile.
"""

from collections.abc import Sequence
from math import gcd

import torch
from torch import Tensor
from torch.nn import functional as F

from model.ops.reference import FP8, ScaledRows, quantise_rows, rounded_softmax

_ONE_LEVEL_UP_TO = 1024  # tokens; below, calls cost more than passes
_BLOCK_BYTES = 8 << 20  # of a block's scores in fp32; three such tensors live at once
_TILE = 512


def sample(
    raw_BLV: Tensor, cap: float, temperature: Tensor, uniform_BL: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `model.ops.reference.sample`; the probabilities come in the dtype of the scores."""
    vocab = raw_BLV.shape[-1]
    if vocab <= _ONE_LEVEL_UP_TO:
        return _sample_narrow(raw_BLV, cap, temperature, uniform_BL)
    raw_TV = raw_BLV.reshape(-1, vocab)
    p_TV, size = torch.empty_like(raw_TV), gcd(vocab, _TILE)
    blocks = [
        _block(raw_RV, cap, temperature, size, p_RV)
        for raw_RV, p_RV in zip(_split(raw_TV), _split(p_TV), strict=True)
    ]
    decided = _decide(raw_TV, cap, temperature, uniform_BL, size, blocks)
    return *decided, p_TV.view(raw_BLV.shape)


def sample_scaled(
    raw_BLV: Tensor, cap: float, temperature: Tensor, uniform_BL: Tensor
) -> tuple[Tensor, Tensor, Tensor, ScaledRows]:
    """As `model.ops.reference.sample_scaled`: a block's probabilities are quantised while near."""
    vocab = raw_BLV.shape[-1]
    if vocab <= _ONE_LEVEL_UP_TO:
        candidate, argmax, entropy, p_BLV = _sample_narrow(raw_BLV, cap, temperature, uniform_BL)
        return candidate, argmax, entropy, quantise_rows(p_BLV)
    raw_TV, size = raw_BLV.reshape(-1, vocab), gcd(vocab, _TILE)
    values_TV = torch.empty_like(raw_TV, dtype=FP8)
    blocks, scales = [], []
    for raw_RV, values_RV in zip(_split(raw_TV), _split(values_TV), strict=True):
        p_RV = torch.empty_like(raw_RV)
        blocks.append(_block(raw_RV, cap, temperature, size, p_RV))
        values, scale_R1 = quantise_rows(p_RV)
        values_RV.copy_(values)
        scales.append(scale_R1)
    decided = _decide(raw_TV, cap, temperature, uniform_BL, size, blocks)
    scale_BL1 = torch.cat(scales).view(*uniform_BL.shape, 1)
    return *decided, ScaledRows(values_TV.view(raw_BLV.shape), scale_BL1)


def _split(x_TV: Tensor) -> Sequence[Tensor]:
    """Into blocks of rows."""
    return x_TV.split(max(1, _BLOCK_BYTES // (4 * x_TV.shape[-1])))


def _decide(
    raw_TV: Tensor,
    cap: float,
    temperature: Tensor,
    uniform_BL: Tensor,
    size: int,
    blocks: Sequence[tuple[Tensor, Tensor, Tensor]],
) -> tuple[Tensor, Tensor, Tensor]:
    """Candidate, argmax and entropy [B, L] from what `_block` says of all blocks."""
    shape, uniform_T1 = uniform_BL.shape, uniform_BL.reshape(-1, 1)
    top_TN, sum_TN, moment_T1 = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    total_T1 = sum_TN.sum(-1, keepdim=True)
    entropy_T1 = total_T1.log() - moment_T1 / total_T1

    threshold_T1 = uniform_T1 * total_T1
    end_TN = sum_TN.cumsum(-1)
    drawn_T1 = _first_above(end_TN, threshold_T1)
    begin_T1 = F.pad(end_TN, (1, 0)).gather(1, drawn_T1)
    best_T1 = top_TN.argmax(-1, keepdim=True)
    tile_T2 = torch.cat((best_T1, drawn_T1), dim=1)
    raw_T2S = raw_TV.unflatten(1, (-1, size)).gather(1, tile_T2[:, :, None].expand(-1, -1, size))
    best_TS, drawn_TS = _scaled(raw_T2S, cap, temperature).unbind(1)
    argmax_T1 = best_T1 * size + best_TS.argmax(-1, keepdim=True)
    weight_TS = (drawn_TS - top_TN.gather(1, best_T1)).exp_()
    inside_T1 = _first_above(weight_TS.cumsum(-1).add_(begin_T1), threshold_T1)
    candidate_T1 = drawn_T1 * size + inside_T1
    return candidate_T1.view(shape), argmax_T1.view(shape), entropy_T1.view(shape)


def _sample_narrow(
    raw_BLV: Tensor, cap: float, temperature: Tensor, uniform_BL: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The reference's own chain; its probabilities serve self-conditioning too."""
    scaled_BLV = _scaled(raw_BLV, cap, temperature)
    log_p_BLV = F.log_softmax(scaled_BLV, dim=-1)
    p_BLV = log_p_BLV.exp()
    entropy_BL = log_p_BLV.mul_(p_BLV).sum(-1).neg_()
    cumulative_BLV = p_BLV.cumsum(-1)
    threshold_BL1 = uniform_BL[..., None] * cumulative_BLV[..., -1:]
    candidate_BL1 = _first_above(cumulative_BLV, threshold_BL1)
    if raw_BLV.dtype is not torch.float32:
        p_BLV = rounded_softmax(scaled_BLV, raw_BLV.dtype).to(raw_BLV.dtype)
    return candidate_BL1[..., 0], scaled_BLV.argmax(-1), entropy_BL, p_BLV


def _block(
    raw_RV: Tensor, cap: float, temperature: Tensor, size: int, p_RV: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Writes a block's probabilities and returns what its rows' decisions need.

    Returns:
        each tile's largest score [R, N]; its sum of w = exp(score - the row's largest) [R, N]; the
        row's sum of w (score - largest) [R, 1].
    """
    score_RV = _scaled(raw_RV, cap, temperature)
    top_RN = score_RV.unflatten(1, (-1, size)).amax(-1)
    if p_RV.dtype is not torch.float32:
        torch.softmax(score_RV.to(p_RV.dtype), dim=-1, out=p_RV)
    score_RV.sub_(top_RN.amax(-1, keepdim=True))
    weight_RV = score_RV.exp()
    sum_RN = weight_RV.unflatten(1, (-1, size)).sum(-1)
    moment_R1 = score_RV.mul_(weight_RV).sum(-1, keepdim=True)
    if p_RV.dtype is torch.float32:
        torch.div(weight_RV, sum_RN.sum(-1, keepdim=True), out=p_RV)
    return top_RN, sum_RN, moment_R1


def _scaled(raw: Tensor, cap: float, temperature: Tensor) -> Tensor:
    """softcap(raw) / temperature in fp32, rounded as the reference rounds it."""
    return torch.div(raw.float(), cap).tanh_().mul_(cap).div_(temperature)


def _first_above(ascending: Tensor, threshold: Tensor) -> Tensor:
    """Index [.., 1] of the first value above the threshold, else the last one."""
    below = ascending <= threshold
    return below.sum(-1, keepdim=True).clamp_(max=ascending.shape[-1] - 1)
