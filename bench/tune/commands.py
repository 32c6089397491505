"""What `canvasbench tune` does: load, search, write the table."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import torch

from bench.tune.search import Trial, search
from bench.tune.timing import WholeStep
from model.kernels.tile_files import file_of, table_for, write_table
from model.kernels.tiles import FP8

_DTYPES = {"fp8": FP8, "bf16": torch.bfloat16}


def tune(model: str, precision: str, seconds: float, into: Path | None) -> Path:
    """Times every candidate on the GPU that is here; returns the table's file.

    Raises:
        ValueError: no GPU, a precision without kernels, or no time.
    """
    if precision not in _DTYPES:
        raise ValueError(f"precision {precision!r} has no tiles to tune; valid: bf16, fp8")
    if seconds <= 0:
        raise ValueError(f"seconds {seconds:g} must be above 0")
    if not torch.cuda.is_available():
        raise ValueError("tune needs a CUDA device, and none is available here")
    device = torch.device("cuda", torch.cuda.current_device())
    name = torch.cuda.get_device_name(device)
    deadline = time.monotonic() + seconds
    step = WholeStep(model, precision, device)
    found = search(
        table_for(device),
        step.loaded.config,
        _DTYPES[precision],
        step.tokens,
        step,
        deadline,
        _show,
    )
    path = into or file_of(name)
    today = datetime.now(UTC).date()
    source = f"canvasbench tune, whole steps at batch 1, {today}, torch {torch.__version__}"
    write_table(replace(found.table, device=name, source=source), path)
    tried = len(found.trials)
    print(f"best: {found.step_ms:.3f} ms a step after {tried} trials\ntable: {path}")
    return path


def _show(trial: Trial) -> None:
    tried = trial.tiles or {}
    tiles = " ".join(f"{k}={v}" for k, v in tried.items()) or "without tiles"
    took = trial.error if trial.step_ms is None else f"{trial.step_ms:.3f} ms"
    print(f"{trial.what}: {'' if trial.what == 'so far' else tiles + ': '}{took}", flush=True)
