"""TensorBoard's profiler plug-in loads the traces, and counts what this project counts.

Its own loader runs, in a process of its own as it has workers, and reports what it made of a trace.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.profile.folder import TRACE, Profile
from bench.profile.panes import Panes
from tests.bench.profile.synthetic import forward, gpu_events, write_profile

_LOAD = """
import json, sys
from torch_tb_profiler.io import Cache
from torch_tb_profiler.profiler import RunLoader

found = []
with Cache() as cache:
    for folder in sys.argv[1:]:
        run = RunLoader("run", folder, cache).load()
        (profile,) = run.profiles.values()
        steps = profile.overview["steps"]
        names = [column.get("name") for column in steps["columns"]]
        found.append({
            "views": [view.display_name for view in run.views],
            "columns": names,
            "rows": steps["rows"],
            "operators": len(profile.operation_table_by_name["data"]),
            "kernels": [row[0] for row in profile.kernel_table["data"]["rows"]]
            if profile.has_kernel else [],
        })
print(json.dumps(found))
"""


def test_the_plug_in_loads_host_and_gpu_traces(autoregressive: Profile, tmp_path: Path) -> None:
    events = [*gpu_events(0, 1), *gpu_events(110, 2)]
    notes = [forward(1, "denoise", 0.11), forward(2, "denoise", 0.11)]
    gpu = write_profile(tmp_path, events, notes, on_gpu=True)
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, *(str(p.path / TRACE) for p in (autoregressive, gpu))],
        env={**os.environ, "TORCH_PROFILER_START_METHOD": "fork"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "Failed" not in done.stderr, done.stderr
    on_host, on_gpu = json.loads(done.stdout)
    assert on_host["views"] == ["Overview", "Operator", "Trace", "Memory"]
    assert on_host["operators"] == len(set(autoregressive.panes.operators["operator"]))
    assert _executing_us(on_host) == pytest.approx(_busy_us(autoregressive.panes), rel=0.01)
    assert "Kernel" in on_gpu["views"]
    assert sorted(on_gpu["kernels"]) == ["cutlass_gemm", "gate_up_kernel"]


def _executing_us(found: dict[str, list[list[float]]]) -> list[float]:
    """Every step's time in operations, as the plug-in counts it."""
    return [row[found["columns"].index("CPU Exec")] for row in found["rows"]]  # type: ignore[arg-type]


def _busy_us(panes: Panes) -> list[float]:
    busy_ms = panes.step_groups.groupby("number")["busy_ms"].sum()
    return [1e3 * value for value in busy_ms]
