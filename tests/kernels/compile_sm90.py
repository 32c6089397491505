"""Compiles expert and dense kernels for sm_90a without a GPU; reports what the chip would run.

`python -m tests.kernels.compile_sm90` prints the table and fails on spills, too much shared memory
or a product that is no native wgmma.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

SHARED_LIMIT = 232448


@dataclass(frozen=True)
class Compiled:
    name: str
    registers: int
    spills: int
    shared: int
    products: tuple[str, ...]
    bulk_copies: bool


class _NoDevice:
    """What the JIT asks of a driver before it compiles."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


@contextmanager
def compile_only() -> Iterator[list[Any]]:
    """Inside, launching a kernel on CPU tensors compiles it as the JIT would, and runs nothing."""
    compiled: list[Any] = []
    run = JITFunction.run

    def warm_up(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        compiled.append(kernel.result() if hasattr(kernel, "result") else kernel)
        return kernel

    previous = driver._active
    driver.set_active(_NoDevice())
    JITFunction.run = warm_up
    try:
        yield compiled
    finally:
        JITFunction.run = run
        driver.set_active(previous)


def inspect(kernel: Any) -> Compiled:
    """Resources of one compiled kernel."""
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = _output(tools / "cuobjdump", "--dump-resource-usage", file.name)
        sass = _output(tools / "nvdisasm", "-c", file.name)
    ptx = kernel.asm["ptx"]
    products = set(re.findall(r"wgmma\.mma_async\.\S*?\.(m\d+n\d+k\d+\S*)", ptx))
    products |= {f"mma.sync.{shape}" for shape in re.findall(r"mma\.sync\.\S*?\.(m\d\S*)", ptx)}
    return Compiled(
        name=kernel.metadata.name,
        registers=int(re.search(r"REG:(\d+)", usage).group(1)),
        spills=len(re.findall(r"\b(?:STL|LDL)\b", sass)),
        shared=kernel.metadata.shared,
        products=tuple(sorted(products)),
        bulk_copies="cp.async.bulk.tensor" in ptx,
    )


def _output(*command: Any) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def full_size_calls() -> Iterator[tuple[str, bool, Callable[[], object]]]:
    """Every entry point at the model's sizes: label, whether wgmma is required, call."""
    from model.kernels import dense, experts, routing

    def empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty(shape, dtype=dtype)

    fp32, bf16, fp8 = torch.float32, torch.bfloat16, experts.FP8
    for tokens in (1, 64, 256, 512):
        expert = empty(tokens, 8, dtype=torch.int32)
        weight = empty(tokens, 8, dtype=fp32)
        scores, scale = empty(tokens, 128, dtype=bf16), empty(128, dtype=bf16)
        yield f"route T={tokens}", False, lambda s=scores, c=scale: routing.route(s, c, 8)
        for dtype in (fp8, bf16):
            x = empty(tokens, 2816, dtype=dtype)
            gate_up, down = empty(128, 1408, 2816, dtype=dtype), empty(128, 2816, 704, dtype=dtype)
            if dtype == bf16:
                row, weights = None, experts.ExpertWeights(gate_up, down)
            else:
                scales = empty(128, 1408, dtype=fp32), empty(128, 2816, dtype=fp32)
                row = empty(tokens, dtype=fp32)
                weights = experts.ExpertWeights(gate_up, down, *scales)
            call = lambda a=(x, row, expert, weight, weights): experts.mixed_experts(*a)  # noqa: E731
            yield f"{'fp8' if dtype == fp8 else 'bf16'} T={tokens}", tokens >= 64, call
        for channels, depth in ((8192, 2816), (2816, 4096), (4224, 2816), (2816, 2112)):
            x, row = empty(tokens, depth, dtype=fp8), empty(tokens, dtype=fp32)
            weight, scales = empty(channels, depth, dtype=fp8), empty(channels, dtype=fp32)
            arguments = (x, row, weight, scales)
            yield f"dense T={tokens}", tokens >= 64, lambda a=arguments: dense.linear_fp8(*a)


def main() -> int:
    failures = 0
    seen: set[str] = set()
    with compile_only() as compiled:
        for label, native, call in full_size_calls():
            compiled.clear()
            call()
            for kernel in compiled:
                if kernel.hash in seen:
                    continue
                seen.add(kernel.hash)
                one = inspect(kernel)
                bad = one.spills > 0 or one.shared > SHARED_LIMIT
                bad |= native and any("mma.sync" in product for product in one.products)
                failures += bad
                print(
                    f"{label:14} {one.name:16} regs {one.registers:3} spills {one.spills} "
                    f"smem {one.shared:6} tma {one.bulk_copies:d} {' '.join(one.products)}"
                    f"{'  BAD' if bad else ''}",
                    flush=True,
                )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
