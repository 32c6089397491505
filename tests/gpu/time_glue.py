"""`python3 -m tests.gpu.time_glue --out FILE.json --seconds 40` on a machine with a CUDA device.

Checks the sampler, glue and compacted kernels and fp8 products with the vocabulary at the model's
sizes against torch on the device, then times each, and the torch calls it replaces, as CUDA graphs
that rotate over three sets of inputs.
`--smoke` runs the same code tiny on the CPU under TRITON_INTERPRET=1.
"""

import argparse
import json
import statistics
import sys
import time
import traceback
import types
from pathlib import Path
from typing import Any

import torch

if "model" not in sys.modules:  # the package's own __init__ asks for more than this machine has
    sys.modules["model"] = types.ModuleType("model")
    sys.modules["model"].__path__ = [str(Path(__file__).parents[2] / "model")]

from tests.gpu.compacted_cases import compacted_cases
from tests.gpu.gated_cases import gated_cases
from tests.gpu.glue_cases import SETS, Call, Case, Setting, head_cases, norm_cases, row_cases
from tests.gpu.launch_cases import launch_cases
from tests.gpu.sampler_cases import sampler_cases, settling_cases
from tests.gpu.vocabulary_cases import vocabulary_cases


def _micros(call: Call, calls: int) -> float:
    """Median microseconds of one call among `calls` captured in a graph."""
    for index in range(SETS):
        call(index)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for index in range(calls):
            call(index % SETS)
    graph.replay()
    times = []
    for _ in range(9):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / calls)
    return statistics.median(times)


def _once(call: Call, calls: int) -> float:
    begin = time.monotonic()
    call(0)
    return (time.monotonic() - begin) * 1e6


def _measure(case: Case, deadline: float, smoke: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"name": case.name, "megabytes": case.megabytes}
    begin = time.monotonic()
    micros = _once if smoke else _micros
    if begin > deadline:
        return {**found, "skipped": "time is up"}
    try:
        if case.check is not None:
            found["errors"] = case.check()
        found["us"] = micros(case.fused, case.calls)
        found["GB/s"] = case.megabytes * 1000 / found["us"]
        if case.chain is not None:
            found["torch_us"] = micros(case.chain, case.calls)
    except Exception:
        found["failed"] = traceback.format_exc()[-3000:]
    found["seconds"] = round(time.monotonic() - begin, 2)
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--smoke", action="store_true", help="tiny, once, in the interpreter")
    options = parser.parse_args()
    deadline = time.monotonic() + options.seconds
    torch.manual_seed(0)
    if options.smoke:
        from tests.kernels.interpreter import patch

        patch()
        setting = Setting(torch.device("cpu"), 3, 96, 700, 40, 24, 16)
    else:
        setting = Setting(torch.device("cuda"))
    name = "smoke" if options.smoke else torch.cuda.get_device_name()
    result: dict[str, Any] = {"device": name, "torch": torch.__version__}
    cases = result["cases"] = []
    groups = (
        *(norm_cases, row_cases, head_cases, sampler_cases, settling_cases),
        *(compacted_cases, vocabulary_cases, launch_cases, gated_cases),
    )
    for group in groups:
        try:
            for case in group(setting):
                cases.append(_measure(case, deadline, options.smoke))
                options.out.write_text(json.dumps(result, indent=1))
        except Exception:
            cases.append({"name": "setup", "failed": traceback.format_exc()[-3000:]})
        if not options.smoke:
            torch.cuda.empty_cache()
    options.out.write_text(json.dumps(result, indent=1))
    print(result["device"])
    for case in cases:
        if "us" in case:
            print(
                f"{case['name']:36} {case['us']:8.1f} us {case['GB/s']:7.0f} GB/s "
                f"torch {case.get('torch_us', float('nan')):8.1f} us  {case['seconds']:4.1f} s"
            )
        for key, value in case.get("errors", {}).items():
            print(f"    {key} {value:.3g}")
        for key in ("failed", "skipped"):
            if key in case:
                print(f"{case['name']} {key}: {case[key][-600:]}")
    return int(any("failed" in case for case in cases))


if __name__ == "__main__":
    sys.exit(main())
