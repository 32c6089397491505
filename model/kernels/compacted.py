"""The soft embedding over the tokens in play alone, found and multiplied on the device.

Three launches and a sum: tokens that no position believes in are told from the rest, the rest are
listed in ascending order with their columns of the probabilities side by side, and the product
gathers the table's rows by that list. How long it is stays on the device, where it ends the
product's loop: nothing synchronises with the host, launches and shapes are always the same, and a
graph can hold them. All sums run in a fixed order.

In early steps most tokens may be in play; then this does all of the dense product's work, less
well. The columns side by side need as much room as the probabilities, for the worst case.

Legend: T positions, V vocab, D model, N blocks of V, U tokens in play, S parts of them.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from model.kernels import compacted_jit as jit
from model.kernels.dense_jit import sum_kernel

_BLOCK, _BLOCK_ROWS = 256, 16  # tokens and positions at once, when marking and listing
_PROGRAMS = 132  # that the parts of a product fill, the multiprocessors of a Hopper GPU


@dataclass(frozen=True, slots=True)
class Tile:
    """Of the product: positions, channels and listed tokens a program, and how it is run."""

    rows: int = 128
    out: int = 256
    inner: int = 64
    warps: int = 8
    stages: int = 7


def soft_embedding(
    p_BLV: Tensor, weight_VD: Tensor, min_belief: Tensor, tile: Tile | None = None
) -> Tensor:
    """`model.ops.reference.soft_embedding` of bf16 probabilities and a bf16 table.

    Args:
        p_BLV, weight_VD: contiguous.
        min_belief: fp32, one element, on the device.
        tile: None for the shipped one.
    """
    tile = tile or Tile()
    token_U, packed_TU, total_1 = compact(p_BLV.flatten(0, 1), min_belief, tile.inner)
    rows, size = packed_TU.shape[0], weight_VD.shape[1]
    tiles = triton.cdiv(rows, tile.rows) * triton.cdiv(size, tile.out)
    parts = max(1, _PROGRAMS // tiles)
    part_STD = packed_TU.new_empty((parts, rows, size), dtype=torch.float32)
    jit.packed_product[tiles, parts](
        packed_TU, token_U, total_1, weight_VD, part_STD, rows, packed_TU.stride(0), size,
        BLOCK_ROWS=tile.rows, BLOCK_OUT=tile.out, BLOCK_INNER=tile.inner, PARTS=parts,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip
    out_BLD = weight_VD.new_empty((*p_BLV.shape[:-1], size))
    count = out_BLD.numel()
    sum_kernel[(triton.cdiv(count, 1024),)](
        part_STD, out_BLD, count, PARTS=parts, BLOCK=1024, num_warps=4
    )
    return out_BLD


def compact(p_TV: Tensor, min_belief: Tensor, pad: int) -> tuple[Tensor, Tensor, Tensor]:
    """The tokens in play and their columns.

    Args:
        p_TV: contiguous.
        pad: what the list is filled up to a multiple of, by token 0 at probability zero.

    Returns:
        token ids int32 [V or a little more], ascending; the columns [T, as many]; how many of
        either count, int32 [1].
    """
    rows, vocab = p_TV.shape
    blocks, room = triton.cdiv(vocab, _BLOCK), triton.cdiv(vocab, pad) * pad
    new = p_TV.new_empty
    kept_V = new((vocab,), dtype=torch.int8)
    count_N, token_U, total_1 = (new((n,), dtype=torch.int32) for n in (blocks, room, 1))
    jit.mark_tokens[(blocks,)](
        p_TV, min_belief, kept_V, count_N, rows, vocab,
        BLOCK=_BLOCK, BLOCK_ROWS=_BLOCK_ROWS, num_warps=4,
    )  # fmt: skip
    packed_TU = new((rows, room))
    jit.pack_tokens[(blocks,)](
        p_TV, kept_V, count_N, token_U, packed_TU, total_1, rows, vocab, room, blocks,
        BLOCK=_BLOCK, BLOCKS_POW2=triton.next_power_of_2(blocks), BLOCK_ROWS=_BLOCK_ROWS, PAD=pad,
        num_warps=4,
    )  # fmt: skip
    return token_U, packed_TU, total_1
