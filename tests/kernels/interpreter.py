"""Triton's interpreter made exact enough to test roundings against torch.

Kernel tests run only where TRITON_INTERPRET=1 was set before triton was imported; a plain pytest
run starts such a process once (test_in_interpreter.py). At the top of a test module:

    interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
    interpreter.require()
"""

import math
import os
import random
from typing import Any

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

_TORCH = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp8e4nv": torch.float8_e4m3fn,
    "fp8e5": torch.float8_e5m2,
}
_BITS = {8: (np.uint8, torch.uint8), 16: (np.uint16, torch.int16), 32: (np.uint32, torch.int32)}


def require() -> None:
    """Skips the calling test module outside of an interpreter process; else patches it."""
    if not INTERPRETED:
        import pytest

        pytest.skip("runs in test_in_interpreter.py's process", allow_module_level=True)
    patch()


def patch() -> None:
    """Replaces what the interpreter gets wrong; once a process is enough."""
    interpreter._convert_float = _convert_float
    interpreter.InterpreterBuilder.create_dot = _create_dot
    interpreter.InterpreterBuilder.create_fma = _create_fma


def exact_sums(monkeypatch: Any) -> None:
    """Until the test ends, products and sums in fp64, rounded once: no order shows in them."""

    def create_dot(self: Any, a: Any, b: Any, d: Any, *_: Any) -> Any:
        product = _as_torch(a.data, a.dtype).double() @ _as_torch(b.data, b.dtype).double()
        result = (product.numpy() + d.data).astype(d.data.dtype)
        return interpreter.TensorHandle(result, d.dtype.scalar)

    def total(self: Any, x: Any) -> Any:
        wide = x.handle.data.astype(np.float64)
        result = np.sum(wide, axis=self.axis, keepdims=self.keep_dims)
        return self.to_tensor(result.astype(x.handle.data.dtype), x.dtype)

    monkeypatch.setattr(interpreter.InterpreterBuilder, "create_dot", create_dot)
    monkeypatch.setattr(interpreter.ReduceOps, "sum", total)


def program_order(monkeypatch: Any, order: str) -> None:
    """Until the test ends, programs run `in order`, `backwards` or `mixed`, one after another."""
    builder = interpreter.interpreter_builder
    set_grid_idx = builder.set_grid_idx

    def instead(x: int, y: int, z: int) -> None:
        grid = builder.grid_dim
        place = (x * grid[1] + y) * grid[2] + z
        programs = math.prod(grid)
        if order == "backwards":
            place = programs - 1 - place
        if order == "mixed":
            place = random.Random(programs).sample(range(programs), programs)[place]
        x, rest = divmod(place, grid[1] * grid[2])
        set_grid_idx(x, *divmod(rest, grid[2]))

    monkeypatch.setattr(builder, "set_grid_idx", instead)


def _convert_float(data: np.ndarray, source: Any, target: Any, rounding_mode: Any) -> np.ndarray:
    """Rounds to nearest even and saturates fp8, as the hardware does; the original truncates."""
    wide = _as_torch(data, source).float()
    if target.primitive_bitwidth == 8:
        limit = torch.finfo(_TORCH[target.name]).max
        wide = wide.clamp(-limit, limit)
    unsigned, signed = _BITS[target.primitive_bitwidth]
    return wide.to(_TORCH[target.name]).view(signed).numpy().view(unsigned)


def _create_dot(
    self: Any, a: Any, b: Any, d: Any, input_precision: Any, max_num_imprecise_acc: Any
) -> Any:
    """Products in fp32; the original multiplies the raw bits of bf16."""
    product = _as_torch(a.data, a.dtype).float() @ _as_torch(b.data, b.dtype).float()
    result = product.numpy().astype(d.data.dtype) + d.data
    return interpreter.TensorHandle(result, d.dtype.scalar)


def _create_fma(self: Any, x: Any, y: Any, z: Any) -> Any:
    """fp32 rounded once (a product of two fp32 is exact in fp64); the original rounds twice."""
    exact = x.data.astype(np.float64) * y.data.astype(np.float64) + z.data.astype(np.float64)
    return interpreter.TensorHandle(exact.astype(z.data.dtype), z.dtype.scalar)


def _as_torch(data: np.ndarray, dtype: tl.dtype) -> torch.Tensor:
    _, signed = _BITS[dtype.scalar.primitive_bitwidth]
    bits = torch.from_numpy(np.ascontiguousarray(data).view(f"i{data.dtype.itemsize}").copy())
    return bits.view(signed).view(_TORCH[dtype.scalar.name])
