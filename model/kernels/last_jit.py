"""Work that the last of several programs does, with what all of them wrote.

Each counts itself in a counter of zeros, which is zero again after the last: what a program wrote
comes before its count (all its threads' by the barrier), and what the last one reads after.
"""

import triton
import triton.language as tl

from model.kernels.glue_jit import divided, row_scale


@triton.jit
def is_last(arrived, programs):
    """Whether this is the last of so many programs to come here; all calls of one are one."""
    tl.debug_barrier()
    last = tl.atomic_add(arrived, 1, sem="acq_rel", scope="gpu") == programs - 1
    if last:
        tl.store(arrived, 0)
    return last


@triton.jit
def quantise_at(x_RD, out_RD, scale_R, row, inside, SIZE: tl.constexpr, BLOCK: tl.constexpr):
    """`glue.quantise_rows` of rows that other programs wrote.

    Args:
        row: which, int [rows, 1]; inside: whether there is one.
    """
    column = tl.arange(0, BLOCK)[None, :]
    place = row.to(tl.int64) * SIZE + column
    real = inside & (column < SIZE)
    x = tl.load(x_RD + place, mask=real, other=0.0, cache_modifier=".cg").to(tl.float32)
    scale = row_scale(tl.max(tl.abs(x), 1, keep_dims=True))
    tl.store(scale_R + row, scale, mask=inside)
    tl.store(out_RD + place, divided(x, scale).to(out_RD.dtype.element_ty), mask=real)
