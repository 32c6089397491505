"""Kernels compiled for sm_90a without a GPU, and what the chip would run.

A launch inside `launches` goes through Triton's own just-in-time path (signature, specialisation,
options) with the options of compute capability 9.0, so what is compiled is what a Hopper GPU would
be given; only the launch is left out. Tensors may be without data (device meta).
"""

import re
import subprocess
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest import mock

import triton
from torch import Tensor
from torch.overrides import TorchFunctionMode
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from model.kernels import overlap

SHARED_LIMIT_BYTES = 232448  # 227 KiB a program
_IS_CUDA = cast(Any, Tensor.is_cuda).__get__


@dataclass(frozen=True)
class Launch:
    """A kernel's name, its arguments, and its binary (None where it was not compiled)."""

    name: str
    args: tuple[Any, ...]
    options: dict[str, Any]
    binary: Any


@dataclass(frozen=True)
class Resources:
    """Of one compiled kernel.

    Attributes:
        spills: instructions that store to or load from local memory.
        products: matrix instructions with shapes and operand types; mma.sync ones by name.
        bulk_copies: it copies tiles through tensor descriptors (TMA).
        waits: it waits for the kernel before it and lets the one after it get ready.
    """

    registers: int
    spills: int
    shared_bytes: int
    products: tuple[str, ...]
    bulk_copies: bool
    waits: bool
    target: str


class _NoDevice:
    """What the JIT asks of a driver before it compiles; no real device shares its binaries."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_current_device(self) -> int:
        return -1

    def get_current_stream(self, device: int) -> int:
        return 0


class _OnGpu(TorchFunctionMode):
    """Tensors answer that they are on a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return True if func == _IS_CUDA else func(*args, **(kwargs or {}))


@contextmanager
def launches(
    compiled: Collection[str] | None = None, watch: Callable[[Launch], None] | None = None
) -> Iterator[list[Launch]]:
    """Inside, launching a kernel appends it to the list and runs nothing.

    compiled: names of kernels to compile for sm_90a, others are counted alone; None for all.
    watch: is given launches as they come; then none is kept, nor are its tensors.
    """
    found: list[Launch] = []
    keep = found.append if watch is None else watch
    run = JITFunction.run

    def instead(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        name, kernel = self.fn.__name__, None
        if compiled is None or name in compiled:
            kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        binary = kernel.result() if hasattr(kernel, "result") else kernel
        keep(Launch(name, args, kwargs, binary))
        return kernel

    previous = driver._active
    driver.set_active(_NoDevice())
    JITFunction.run = instead
    able = mock.patch.object(overlap, "_able", return_value=True)
    try:
        with able, _OnGpu():
            yield found
    finally:
        JITFunction.run = run
        driver.set_active(previous)


def inspect(binary: Any) -> Resources:
    """Resources of one compiled kernel, by its PTX and the toolkit's disassembler."""
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage = _output(tools / "cuobjdump", "--dump-resource-usage", file.name)
        sass = _output(tools / "nvdisasm", "-c", file.name)
    ptx = binary.asm["ptx"]
    return Resources(
        registers=int(_only(r"REG:(\d+)", usage)),
        spills=len(re.findall(r"\b(?:STL|LDL)\b", sass)),
        shared_bytes=binary.metadata.shared,
        products=_products(ptx),
        bulk_copies="cp.async.bulk.tensor" in ptx,
        waits="griddepcontrol.wait" in ptx and "griddepcontrol.launch_dependents" in ptx,
        target=_only(r"\.target (\S+?),?\s", ptx),
    )


def _products(ptx: str) -> tuple[str, ...]:
    """`m64n32k32 e4m3` for native products, `mma.sync m16n8k16 bf16` for the older ones."""
    native = re.findall(r"wgmma\.mma_async\.sync\.aligned\.(m\d+n\d+k\d+)\.f32\.(\w+)\.", ptx)
    older = re.findall(r"mma\.sync\.aligned\.(m\d+n\d+k\d+)\.\w+\.\w+\.f32\.(\w+)\.", ptx)
    assert len(native) == ptx.count("wgmma.mma_async"), "a product of another form"
    assert len(older) == ptx.count("mma.sync.aligned"), "a product of another form"
    found = {" ".join(one) for one in native} | {f"mma.sync {' '.join(one)}" for one in older}
    return tuple(sorted(found))


def _only(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found is not None, f"no {pattern} in {text[:400]}"
    return found.group(1)


def _output(*command: Any) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
