"""Which expert gets which row: softmax, top k and a padded sort by expert, all on the device.

No host sync, static shapes: everything here can sit in a CUDA graph.

Legend: T tokens, D model, E experts, K experts a token, N = T * K assignments (assignment
t * K + k), M row tiles, B rows a tile, P = M * B places, S parts of the depth.
"""

from typing import NamedTuple

import torch
import triton
from torch import Tensor
from torch.nn import functional as F

from model.kernels import route_and_sort_jit
from model.kernels import routing_jit as jit
from model.kernels.overlap import overlapped

_SORT_CHUNK = 2048
_PART = 256  # of the depth a program
_FEW = 512  # tokens; with more, one product fills the chip without parts
_ROWS = 16  # tokens of a program that may route them, too: each routed at once is a wait less
_MOST_PLACES = 2**15  # that fit into a word beside the bits of _ROWS tokens
MOST_TILES = _FEW // _ROWS


class SortedRows(NamedTuple):
    """Assignments in expert order; each expert's rows fill up whole tiles."""

    assignment_P: Tensor
    """int32; N where a used tile has no row, undefined in unused tiles."""
    tile_expert_M: Tensor
    """int32; -1 for unused tiles, which all come last."""
    num_tiles_1: Tensor
    """int32."""


def max_tiles(assignments: int, num_experts: int, block_rows: int) -> int:
    """Most tiles that any distribution of the assignments over the experts can need."""
    touched = min(assignments, num_experts)
    return touched + (assignments - touched) // block_rows


def router_scores(x_TD: Tensor, weight_ED: Tensor) -> Tensor:
    """x @ weight.T in bf16: [T, E], or for few tokens its fp32 parts [S, T, E], which `route` sums.

    Both contiguous. A product this narrow keeps most of the chip idle unless its depth is split.
    """
    tokens, depth = x_TD.shape
    if tokens > _FEW or x_TD.dtype is not torch.bfloat16:
        return F.linear(x_TD, weight_ED)
    num_experts, parts = weight_ED.shape[0], triton.cdiv(depth, _PART)
    parts_STE = x_TD.new_empty((parts, tokens, num_experts), dtype=torch.float32)
    rows = 16 if tokens <= 16 else 32
    jit.score_parts_kernel[(triton.cdiv(tokens, rows), parts)](
        x_TD,
        weight_ED,
        parts_STE,
        tokens,
        D=depth,
        NUM_EXPERTS=num_experts,
        EXPERTS_POW2=max(triton.next_power_of_2(num_experts), 16),
        PART=_PART,
        BLOCK_ROWS=rows,
        BLOCK_INNER=64,
        **overlapped(x_TD),
        num_warps=4,
        num_stages=4,
    )
    return parts_STE


def route_and_sort(
    x_TD: Tensor,
    weight_ED: Tensor,
    per_expert_scale_E: Tensor,
    top_k: int,
    block_rows: int,
    arrived: Tensor,
) -> tuple[Tensor, Tensor, SortedRows]:
    """`route` of `router_scores` and `sort_rows` of it, in one launch for few bf16 tokens.

    Args:
        arrived: MOST_TILES + 1 zeros, int32, which stay zeros; of no other launch at the same time.
    """
    tokens, depth = x_TD.shape
    num_experts = weight_ED.shape[0]
    tiles = max_tiles(tokens * top_k, num_experts, block_rows)
    if tokens > _FEW or x_TD.dtype is not torch.bfloat16 or tiles * block_rows > _MOST_PLACES:
        expert_TK, weight_TK = route(router_scores(x_TD, weight_ED), per_expert_scale_E, top_k)
        return expert_TK, weight_TK, sort_rows(expert_TK, num_experts, block_rows)
    token_tiles, parts = triton.cdiv(tokens, _ROWS), triton.cdiv(depth, _PART)
    expert_TK = x_TD.new_empty((tokens, top_k), dtype=torch.int32)
    weight_TK = x_TD.new_empty((tokens, top_k), dtype=torch.float32)
    out = _unsorted(expert_TK, tiles, block_rows)
    route_and_sort_jit.route_and_sort_kernel[(token_tiles, parts)](
        x_TD,
        weight_ED,
        x_TD.new_empty((parts, tokens, num_experts), dtype=torch.float32),
        arrived,
        per_expert_scale_E,
        expert_TK,
        weight_TK,
        expert_TK.new_empty((num_experts, MOST_TILES)),
        *out,
        tokens,
        tiles * block_rows,
        tiles,
        top_k,
        D=depth,
        PARTS=parts,
        NUM_EXPERTS=num_experts,
        EXPERTS_POW2=max(triton.next_power_of_2(num_experts), 16),
        TOP_K=top_k,
        TOP_K_POW2=triton.next_power_of_2(top_k),
        PART=_PART,
        TOKEN_ROWS=_ROWS,
        MOST_TOKEN_TILES=MOST_TILES,
        TOKEN_TILES_POW2=triton.next_power_of_2(token_tiles),
        BLOCK_INNER=64,
        BLOCK_ROWS=block_rows,
        FILL=triton.next_power_of_2(triton.cdiv(tiles * block_rows, token_tiles * parts)),
        **overlapped(x_TD),
        maxnreg=80,  # three programs a multiprocessor: all of _FEW tokens at once
        num_warps=8,
        num_stages=4,
    )
    return expert_TK, weight_TK, out


def route(scores: Tensor, per_expert_scale_E: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """fp32 softmax over experts, top k, renormalised to one, times each expert's scale.

    Args:
        scores: [T, E], or fp32 parts of them [S, T, E] (`router_scores`).

    Returns:
        expert indices [T, K] int32, by falling probability (equal ones by index), and weights
        [T, K] fp32.
    """
    scores_STE = scores[None] if scores.dim() == 2 else scores
    parts, tokens, num_experts = scores_STE.shape
    expert_TK = scores.new_empty((tokens, top_k), dtype=torch.int32)
    weight_TK = scores.new_empty((tokens, top_k), dtype=torch.float32)
    jit.route_kernel[(tokens,)](
        scores_STE,
        per_expert_scale_E,
        expert_TK,
        weight_TK,
        *scores_STE.stride()[:2],
        PARTS=0 if scores.dim() == 2 else parts,
        NUM_EXPERTS=num_experts,
        EXPERTS_POW2=triton.next_power_of_2(num_experts),
        TOP_K=top_k,
        TOP_K_POW2=triton.next_power_of_2(top_k),
        **overlapped(scores),
        num_warps=1,
    )
    return expert_TK, weight_TK


def sort_rows(expert_TK: Tensor, num_experts: int, block_rows: int) -> SortedRows:
    """Stable sort of the assignments by expert, every expert padded to whole tiles.

    Args:
        expert_TK: expert indices, int32, contiguous.
    """
    assignments = expert_TK.numel()
    tiles = max_tiles(assignments, num_experts, block_rows)
    out = _unsorted(expert_TK, tiles, block_rows)
    chunk = min(max(triton.next_power_of_2(assignments), 32), _SORT_CHUNK)
    jit.sort_kernel[(num_experts,)](
        expert_TK,
        *out,
        assignments,
        tiles,
        EXPERTS_POW2=triton.next_power_of_2(num_experts),
        TILES_POW2=triton.next_power_of_2(tiles),
        BLOCK_ROWS=block_rows,
        CHUNK=chunk,
        **overlapped(expert_TK),
        num_warps=min(max(chunk // 256, 1), 8),
    )
    return out


def _unsorted(expert_TK: Tensor, tiles: int, block_rows: int) -> SortedRows:
    return SortedRows(*(expert_TK.new_empty(size) for size in (tiles * block_rows, tiles, 1)))
