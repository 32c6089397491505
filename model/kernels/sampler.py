"""Triton kernels of the sampler: statistics of every position's distribution, and a step's end.

Logits stay in bf16 as the vocabulary product leaves them; softcap and temperature are applied where
they are read and no [T, V] tensor in fp32 exists. Nothing synchronises with the host.

Legend: B seqs, L canvas, T = B * L positions, V vocab, N tiles of V.
"""

import torch
import triton
from torch import Tensor

from model.kernels.sampler_jit import probabilities, row_statistics, settle_rows, tile_statistics
from model.ops.reference import FP8, ScaledRows

_TILE = 8192  # tokens a program of the first pass reads; the second pass searches one such tile
_SETTLE_PAIRS = 8192  # of positions, compared at once


def token_statistics(
    raw_TV: Tensor,
    softcap: float,
    temperature: Tensor,
    uniform_T: Tensor,
    *,
    tile: int = _TILE,
    num_warps: int = 8,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`model.ops.reference.token_statistics` of tanh(raw / cap) * cap / temperature.

    The candidate is the first token whose cumulative probability exceeds the position's uniform.
    A NaN among the logits makes the entropy NaN; argmax and candidate stay valid indices.

    Args:
        raw_TV: scores before the softcap, bf16.
        temperature: fp32, one element, on the device.
        uniform_T: fp32 in [0, 1).

    Returns:
        candidate [T] int64, argmax [T] int64 (the first of equals), entropy [T] in nat, and
        log sum exp [T] of the scaled logits rounded to bf16, for `soft_probabilities`.
    """
    rows, vocab = raw_TV.shape
    tile = min(tile, triton.next_power_of_2(vocab))
    num_tiles = triton.cdiv(vocab, tile)
    new = raw_TV.new_empty
    part_5TN = new((5, rows, num_tiles), dtype=torch.float32)
    index_TN = new((rows, num_tiles), dtype=torch.int32)
    tile_statistics[(num_tiles, rows)](
        raw_TV, temperature, part_5TN, index_TN, raw_TV.stride(0), rows * num_tiles, softcap, vocab,
        WHOLE=vocab % tile == 0, BLOCK=tile, num_warps=num_warps,
    )  # fmt: skip
    candidate_T, argmax_T = (new((rows,), dtype=torch.int64) for _ in range(2))
    entropy_T, lse_T = (new((rows,), dtype=torch.float32) for _ in range(2))
    row_statistics[(rows,)](
        raw_TV, temperature, uniform_T, part_5TN, index_TN,
        candidate_T, argmax_T, entropy_T, lse_T,
        raw_TV.stride(0), rows * num_tiles, softcap, vocab, num_tiles,
        BLOCK=tile, TILES=triton.next_power_of_2(num_tiles), num_warps=num_warps,
    )  # fmt: skip
    return candidate_T, argmax_T, entropy_T, lse_T


def soft_probabilities(
    raw_TV: Tensor, softcap: float, temperature: Tensor, lse_T: Tensor, *, block: int = 4096
) -> Tensor:
    """Softmax, in raw's dtype, of the scaled logits rounded to it.

    It is what self-conditioning multiplies with the embedding.

    Args:
        lse_T: the last result of `token_statistics`.
    """
    rows, vocab = raw_TV.shape
    p_TV = torch.empty_like(raw_TV, memory_format=torch.contiguous_format)
    block = min(block, triton.next_power_of_2(vocab))
    probabilities[(triton.cdiv(vocab, block), rows)](
        raw_TV, temperature, lse_T, None, p_TV, None, raw_TV.stride(0), softcap, vocab,
        BLOCK=block, num_warps=4,
    )  # fmt: skip
    return p_TV


def scaled_probabilities(
    raw_TV: Tensor,
    softcap: float,
    temperature: Tensor,
    lse_T: Tensor,
    argmax_T: Tensor,
    *,
    block: int = 4096,
) -> ScaledRows:
    """`soft_probabilities` quantised row by row (`model.ops.reference.quantise_rows`).

    Args:
        lse_T, argmax_T: of `token_statistics`.
    """
    rows, vocab = raw_TV.shape
    values_TV = torch.empty(raw_TV.shape, dtype=FP8, device=raw_TV.device)
    scale_T1 = raw_TV.new_empty((rows, 1), dtype=torch.float32)
    block = min(block, triton.next_power_of_2(vocab))
    probabilities[(triton.cdiv(vocab, block), rows)](
        raw_TV, temperature, lse_T, argmax_T, values_TV, scale_T1, raw_TV.stride(0), softcap, vocab,
        BLOCK=block, num_warps=4,
    )  # fmt: skip
    return ScaledRows(values_TV, scale_T1)


def settle(
    bound: Tensor,
    stability_steps: Tensor | None,
    confidence_nat: Tensor | None,
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
    """`model.ops.reference.settle` with the policies `EntropyBound` and `StableAndConfident`.

    A position is accepted when the entropies ranked before it sum to at most the bound. Sums are
    exact to a few ulps of fp32 in another order than torch's: where one lies that close to a
    threshold, the decision may be the other.

    Args:
        bound, confidence_nat: fp32, one element, on the device; stability_steps: an integer. The
            last two are None where no row stops.
    """
    shape = batch, length = entropy_BL.shape
    given_BL = (entropy_BL, candidate_BL, argmax_BL, renoise_BL, canvas_BL, last_argmax_BL)
    accepted_BL = done_B.new_empty(shape)
    next_BL, next_argmax_BL = canvas_BL.new_empty(shape), argmax_BL.new_empty(shape)
    next_unchanged_B, next_steps_B = torch.empty_like(unchanged_B), torch.empty_like(steps_B)
    next_done_B = torch.empty_like(done_B)
    block = triton.next_power_of_2(length)
    settle_rows[(batch,)](
        bound, stability_steps, confidence_nat,
        *(x_BL.contiguous() for x_BL in given_BL), unchanged_B, steps_B, done_B,
        accepted_BL, next_BL, next_argmax_BL, next_unchanged_B, next_steps_B, next_done_B, length,
        FREEZE=batch > 1, BLOCK=block, COLUMNS=min(max(_SETTLE_PAIRS // block, 1), block),
        num_warps=8,
    )  # fmt: skip
    return accepted_BL, next_BL, next_argmax_BL, next_unchanged_B, next_steps_B, next_done_B
