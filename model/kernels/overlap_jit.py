"""Device code of `model.kernels.overlap`."""

import triton
import triton.language as tl
from triton.language.extra import cuda


@triton.jit
def begin(OVERLAP: tl.constexpr):
    """Before a kernel touches memory: the one before it is done, the one after it may get ready."""
    if OVERLAP:
        cuda.gdc_wait()
        cuda.gdc_launch_dependents()
