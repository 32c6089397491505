"""`python3 -m tests.gpu.time_attention --out FILE.json --seconds 40` on a Hopper GPU.

Every shape of a pass: relative error against the reference in fp32, then microseconds a call in
CUDA graphs that rotate over three sets of queries and caches, of torch and of each configuration (a
wrong one is not timed).
`--only TEXT` picks shapes; `--smoke` runs tiny on the CPU under TRITON_INTERPRET=1.
"""

import argparse
import multiprocessing
import os
import sys
import time
import types
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

if "model" not in sys.modules:  # the package's own __init__ asks for more than this machine has
    sys.modules["model"] = types.ModuleType("model")
    sys.modules["model"].__path__ = [str(Path(__file__).parents[2] / "model")]

from model.kernels.attention import Tiles, TwoProducts, attention
from model.ops import reference, torch_native
from tests.gpu.attention_cases import CANDIDATES, SETS, SHAPES, Shape, inputs
from tests.gpu.report import Call, Report, guarded, microseconds

LIMIT = 1e-2


def precompile(shapes: list[Shape], seconds: float) -> int:
    """Other processes fill triton's disk cache; returns how many variants are done in time."""
    pairs = [(s, tiles) for s in shapes for _, tiles in [("", None), *CANDIDATES[s.kind]]]
    workers = max(1, (os.cpu_count() or 2) - 1)
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    started = [pool.submit(compile_one, *pair) for pair in pairs]
    done = sum(not one.exception() for one in wait(started, timeout=seconds).done)
    pool.shutdown(wait=False, cancel_futures=True)
    return done


def compile_one(shape: Shape, tiles: Tiles | TwoProducts | None) -> None:
    from tests.kernels.compiling import launches

    q, k, v, sight = inputs(shape, torch.device("meta"))
    with launches():
        attention(q[0], k[0], v[0], sight=sight, tiles=tiles)


def time_shape(shape: Shape, device: torch.device, report: Report) -> None:
    q, k, v, sight = inputs(shape, device)
    mask = sight.mask(shape.length, shape.keys)
    assert mask is not None
    want = reference.attention(q[0].float(), k[0].float(), v[0].float(), mask)
    visible = int(mask.sum()) * (shape.length // mask.shape[2])
    flops = visible * 16 * shape.size * 4
    held = min(shape.cached + shape.length, shape.keys)
    megabytes = 2 * shape.groups * held * shape.size * 2 / 1e6
    report.add(shape.name, gflop=round(flops / 1e9, 2), kv_megabytes=round(megabytes, 1))

    def record(label: str, call: Call) -> None:
        def run() -> None:
            got = call(0)
            assert isinstance(got, Tensor)
            error = ((got.float() - want).norm() / want.norm()).item()
            report.add(name, error=error)
            if not error < LIMIT:
                raise ValueError(f"wrong: relative error {error:.2e}")
            took = microseconds(call, 20)
            report.add(name, us=round(took, 2), tflops=round(flops / took * 1e-6))

        name = f"{shape.name} | {label}"
        guarded(name, report, run)

    def ours(tiles: Tiles | TwoProducts | None) -> Call:
        return lambda i: attention(q[i % SETS], k[i % SETS], v[i % SETS], sight=sight, tiles=tiles)

    def sdpa(index: int) -> Tensor:
        at = index % SETS
        out = F.scaled_dot_product_attention(
            q[at], k[at], v[at], attn_mask=mask, scale=1.0, enable_gqa=True
        )
        return out.transpose(1, 2).flatten(2)

    def native(index: int) -> Tensor:
        at = index % SETS
        return torch_native.attention(q[at], k[at], v[at], mask)

    record("default", ours(None))
    for label, tiles in CANDIDATES[shape.kind]:
        record(label, ours(tiles))
    record("torch_native", native)
    record("scaled_dot_product_attention", sdpa)


def tiny(shape: Shape) -> Shape:
    length = min(shape.length, 3)
    return replace(shape, length=length, keys=20 + length, cached=20, size=shape.size // 16)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--only", default="")
    parser.add_argument("--smoke", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    begin = time.monotonic()
    report = Report(options.out, begin + options.seconds)
    shapes = [shape for shape in SHAPES if options.only in shape.name]
    if options.smoke:
        from tests.kernels.interpreter import patch

        patch()
        device, name, shapes = torch.device("cpu"), "smoke", [tiny(shape) for shape in shapes]
    else:
        done = precompile(shapes, options.seconds / 2)
        print(f"{done} variants compiled in {time.monotonic() - begin:.1f} s", flush=True)
        device, name = torch.device("cuda"), torch.cuda.get_device_name()
    report.data.update(device=name, torch=torch.__version__)
    for shape in shapes:
        guarded(shape.name, report, time_shape, shape, device, report)
    report.add("end", seconds=round(time.monotonic() - begin, 1))
    print(name)
    failed = False
    for label, row in report.data["rows"].items():
        failed |= "failed" in row
        print(f"{label:66} " + "  ".join(
            f"{key} {value:.2e}" if key == "error" else f"{key} {str(value)[:300]}"
            for key, value in row.items()
        ))  # fmt: skip
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
