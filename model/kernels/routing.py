"""Which expert gets which row: softmax, top k and a padded sort by expert, all on the device.

No host sync, no atomics, static shapes: everything here can sit in a CUDA graph.

Legend: T tokens, E experts, K experts a token, N = T * K assignments (assignment t * K + k), M row
tiles, B rows a tile, P = M * B places.
"""

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from model.kernels.launch import begin, launch_options

_SORT_CHUNK = 2048


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


def route(scores_TE: Tensor, per_expert_scale_E: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """fp32 softmax over experts, top k, renormalised to one, times each expert's scale.

    Returns:
        expert indices [T, K] int32, by falling probability (equal ones by index), and weights
        [T, K] fp32.
    """
    tokens, num_experts = scores_TE.shape
    expert_TK = scores_TE.new_empty((tokens, top_k), dtype=torch.int32)
    weight_TK = scores_TE.new_empty((tokens, top_k), dtype=torch.float32)
    _route_kernel[(tokens,)](
        scores_TE,
        per_expert_scale_E,
        expert_TK,
        weight_TK,
        scores_TE.stride(0),
        NUM_EXPERTS=num_experts,
        EXPERTS_POW2=triton.next_power_of_2(num_experts),
        TOP_K=top_k,
        TOP_K_POW2=triton.next_power_of_2(top_k),
        num_warps=1,
        **launch_options(),
    )
    return expert_TK, weight_TK


def sort_rows(expert_TK: Tensor, num_experts: int, block_rows: int) -> SortedRows:
    """Stable sort of the assignments by expert, every expert padded to whole tiles.

    Args:
        expert_TK: expert indices, int32, contiguous.
    """
    assignments = expert_TK.numel()
    tiles = max_tiles(assignments, num_experts, block_rows)
    out = SortedRows(
        expert_TK.new_empty(tiles * block_rows, dtype=torch.int32),
        expert_TK.new_empty(tiles, dtype=torch.int32),
        expert_TK.new_empty(1, dtype=torch.int32),
    )
    chunk = min(max(triton.next_power_of_2(assignments), 32), _SORT_CHUNK)
    _sort_kernel[(num_experts,)](
        expert_TK,
        *out,
        assignments,
        tiles,
        EXPERTS_POW2=triton.next_power_of_2(num_experts),
        TILES_POW2=triton.next_power_of_2(tiles),
        BLOCK_ROWS=block_rows,
        CHUNK=chunk,
        num_warps=min(max(chunk // 256, 1), 8),
        **launch_options(),
    )
    return out


@triton.jit
def _route_kernel(
    scores_TE,
    per_expert_scale_E,
    expert_TK,
    weight_TK,
    stride_T,
    NUM_EXPERTS: tl.constexpr,
    EXPERTS_POW2: tl.constexpr,
    TOP_K: tl.constexpr,
    TOP_K_POW2: tl.constexpr,
    PDL: tl.constexpr,
):
    """One program a token."""
    begin(PDL)
    token = tl.program_id(0)
    expert = tl.arange(0, EXPERTS_POW2)
    real = expert < NUM_EXPERTS
    score = tl.load(scores_TE + token * stride_T + expert, mask=real, other=float("-inf"))
    score = score.to(tl.float32)
    exp = tl.exp(score - tl.max(score, axis=0))
    left = tl.where(real, exp / tl.sum(exp, axis=0), -1.0)
    slot = tl.arange(0, TOP_K_POW2)
    chosen = tl.zeros([TOP_K_POW2], tl.int32)
    probability = tl.zeros([TOP_K_POW2], tl.float32)
    for k in tl.static_range(TOP_K):
        best, index = tl.max(left, axis=0, return_indices=True)
        chosen = tl.where(slot == k, index, chosen)
        probability = tl.where(slot == k, best, probability)
        left = tl.where(expert == index, -1.0, left)
    scale = tl.load(per_expert_scale_E + chosen).to(tl.float32)
    weight = probability / tl.sum(probability, axis=0) * scale
    tl.store(expert_TK + token * TOP_K + slot, chosen, mask=slot < TOP_K)
    tl.store(weight_TK + token * TOP_K + slot, weight, mask=slot < TOP_K)


@triton.jit
def _sort_kernel(
    expert_N,
    assignment_P,
    tile_expert_M,
    num_tiles_1,
    assignments,
    max_tiles,
    EXPERTS_POW2: tl.constexpr,
    TILES_POW2: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    CHUNK: tl.constexpr,
    PDL: tl.constexpr,
):
    """One program an expert: each counts all of them, so none waits for another."""
    begin(PDL)
    mine = tl.program_id(0)
    lane = tl.arange(0, CHUNK)
    bins = tl.arange(0, EXPERTS_POW2)
    counts = tl.zeros([EXPERTS_POW2], tl.int32)
    for start in range(0, assignments, CHUNK):
        inside = start + lane < assignments
        expert = tl.load(expert_N + start + lane, mask=inside, other=0)
        counts += tl.histogram(expert, EXPERTS_POW2, mask=inside)
    tiles = (counts + (BLOCK_ROWS - 1)) // BLOCK_ROWS
    first = tl.sum(tl.where(bins < mine, tiles, 0), axis=0)
    own_tiles = tl.sum(tl.where(bins == mine, tiles, 0), axis=0)
    own_rows = tl.sum(tl.where(bins == mine, counts, 0), axis=0)
    base = first * BLOCK_ROWS

    done = 0
    for start in range(0, assignments, CHUNK):
        inside = start + lane < assignments
        expert = tl.load(expert_N + start + lane, mask=inside, other=-1)
        hit = (expert == mine).to(tl.int32)
        place = base + done + tl.cumsum(hit, axis=0) - 1
        tl.store(assignment_P + place, start + lane, mask=hit != 0)
        done += tl.sum(hit, axis=0)
    padding = own_rows + tl.arange(0, BLOCK_ROWS)
    tl.store(assignment_P + base + padding, assignments, mask=padding < own_tiles * BLOCK_ROWS)

    tile = tl.arange(0, TILES_POW2)
    tl.store(tile_expert_M + tile, mine, mask=(tile >= first) & (tile < first + own_tiles))
    if mine == 0:
        total = tl.sum(tiles, axis=0)
        tl.store(tile_expert_M + tile, -1, mask=(tile >= total) & (tile < max_tiles))
        tl.store(num_tiles_1, total)
