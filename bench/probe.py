"""What the device at hand reaches: copy bandwidth and matrix products, measured in a moment.

Data sheets give peaks that no program reaches; `op_floor` divides by these instead. A copy counts
the bytes read and the bytes written. Best of a few tries, as disturbance only ever slows.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch

from model.precision import has_bf16_units, has_fp8_units, quantise_rows

_TRIES = 5
_COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 26}
_GEMM_SIZE = {"cuda": 8192, "cpu": 1024}


@dataclass(frozen=True, slots=True)
class Probe:
    """Rates a device reached; products by the type of their factors, None without units for it."""

    copy_bytes_per_s: float
    fp32_flops: float
    bf16_flops: float | None
    fp8_flops: float | None


@cache
def probe(device: str) -> Probe:
    """Measures a device once a process; about 0.2 s."""
    on = torch.device(device)
    found = Probe(
        copy_bytes_per_s=_copy_bytes_per_s(on),
        fp32_flops=_product_flops(on, torch.float32),
        bf16_flops=_product_flops(on, torch.bfloat16) if has_bf16_units(on) else None,
        fp8_flops=_fp8_flops(on) if has_fp8_units(on) else None,
    )
    if on.type == "cuda":  # what a probe took is not what measuring takes
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(on)
    return found


def _copy_bytes_per_s(on: torch.device) -> float:
    size = _COPY_BYTES[on.type]
    source = torch.ones(size, dtype=torch.uint8, device=on)
    target = torch.empty_like(source)
    return 2 * size / _fastest_s(lambda: target.copy_(source), on)


def _product_flops(on: torch.device, dtype: torch.dtype) -> float:
    size = _GEMM_SIZE[on.type]
    a, b = (torch.randn(size, size, device=on).to(dtype) for _ in range(2))
    out = torch.empty(size, size, dtype=dtype, device=on)
    return 2 * size**3 / _fastest_s(lambda: torch.mm(a, b, out=out), on)


def _fp8_flops(on: torch.device) -> float:
    size = _GEMM_SIZE[on.type]
    (a, a_scale), (b, b_scale) = (
        quantise_rows(torch.randn(size, size, device=on)) for _ in range(2)
    )
    weight, weight_scale = b.t(), b_scale.t().contiguous()

    def product() -> torch.Tensor:
        return torch._scaled_mm(
            a, weight, a_scale, weight_scale, out_dtype=torch.bfloat16, use_fast_accum=True
        )

    return 2 * size**3 / _fastest_s(product, on)


def _fastest_s(run: Callable[[], object], on: torch.device) -> float:
    """Seconds of the fastest try, on the device's own clock; the first call is not counted."""
    run()
    return min(_seconds(run, on) for _ in range(_TRIES))


def _seconds(run: Callable[[], object], on: torch.device) -> float:
    if on.type != "cuda":
        begin = time.perf_counter()
        run()
        return time.perf_counter() - begin
    begin_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin_event.record()
    run()
    end_event.record()
    end_event.synchronize()
    return begin_event.elapsed_time(end_event) / 1e3
