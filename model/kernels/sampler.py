"""Triton kernels of the sampler: statistics of every position's distribution, and acceptance.

Logits stay in bf16 as the vocabulary product leaves them; softcap and temperature are applied where
they are read and no [T, V] tensor in fp32 exists. Nothing synchronises with the host.

Legend: B seqs, L canvas, T = B * L positions, V vocab, N tiles of V.
"""

import torch
import triton
from torch import Tensor

from model.kernels.sampler_jit import accept, probabilities, row_statistics, tile_statistics

_TILE = 8192  # tokens a program of the first pass reads; the second pass searches one such tile


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
        raw_TV, temperature, lse_T, p_TV, raw_TV.stride(0), softcap, vocab, BLOCK=block, num_warps=4
    )
    return p_TV


def accept_and_renoise(
    entropy_BL: Tensor, bound: Tensor, candidate_BL: Tensor, renoise_BL: Tensor
) -> tuple[Tensor, Tensor]:
    """`policies.EntropyBound`, then the candidate where accepted and fresh noise elsewhere.

    A position is accepted when the entropies ranked before it sum to at most `bound` (fp32, one
    element); equal entropies rank by position and NaN is never accepted.

    Returns:
        accepted [B, L] bool, canvas [B, L] int64.
    """
    batch, length = entropy_BL.shape
    accepted_BL = torch.empty_like(entropy_BL, dtype=torch.bool)
    canvas_BL = torch.empty_like(candidate_BL)
    rows = min(32, triton.next_power_of_2(length))
    columns = min(128, triton.next_power_of_2(length))
    accept[(triton.cdiv(length, rows), batch)](
        entropy_BL, bound, candidate_BL, renoise_BL, accepted_BL, canvas_BL,
        length, ROWS=rows, COLUMNS=columns, num_warps=4,
    )  # fmt: skip
    return accepted_BL, canvas_BL
