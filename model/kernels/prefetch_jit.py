"""Bytes on their way into the second-level cache while the memory bus has nothing else to do."""

import triton
import triton.language as tl

THREADS = 4  # of a program that ask, each for one piece; the chip takes them one by one

_THREADS = tl.constexpr(THREADS)
_ASK = tl.constexpr(f"""
{{
    .reg .pred asks;
    .reg .u32 thread;
    .reg .u64 from;
    mov.u32 thread, %tid.x;
    setp.lt.u32 asks, thread, {THREADS};
    mad.wide.u32 from, thread, $2, $1;
    @asks cp.async.bulk.prefetch.L2.global [from], $2;
    mov.u32 $0, 0;
}}
""")


@triton.jit
def ask_for(pointer, program, PIECE_BYTES: tl.constexpr):
    """Asks for THREADS pieces, a multiple of 16 bytes each, and waits for none of them.

    Those of a program begin `program` times as many bytes after the pointer (aligned to 16 bytes).
    """
    first = pointer.to(tl.uint64, bitcast=True) + program.to(tl.uint64) * (_THREADS * PIECE_BYTES)
    piece = tl.full([], PIECE_BYTES, tl.uint32)
    tl.inline_asm_elementwise(
        _ASK, "=r,l,r", [first, piece], dtype=tl.uint32, is_pure=False, pack=1
    )
