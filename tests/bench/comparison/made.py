"""Run folders of several processes from a simulation: exact contents, speeds as chosen."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.backends.simulated import (
    ChosenTiming,
    Knobs,
    SimulatedSession,
    SyntheticConfig,
    VirtualClock,
    make_recording,
)
from bench.tables import SCHEMA_VERSION, frame
from bench.telemetry import window_row
from tests.bench.backends.driving import Tables, answers, prompts_of, tables_of, write_run

BASE = SyntheticConfig(
    num_prompts=10,
    answer_tokens=[20, 50],
    steps=[5, 9],
    canvas_length=32,
    accuracy=0.8,
    revised_share=0.1,
)
TIMING = ChosenTiming(
    prefill_s=0.02, denoise_s=0.010, commit_s=0.008, decode_s=0.01, request_s=0.003
)
MACHINE = {
    "device": "cpu",
    "cpu": "a processor",
    "cores": 2,
    "threads": 2,
    "driver": None,
    "cuda": None,
    "torch": "2.13.0",
    "python": "3.11.7",
}
COMMIT = "1" * 40
PROMPTS = "ab" * 32


def speeds(seed: int, spread: float = 0.004, n: int = 8) -> tuple[float, ...]:
    """What each process takes, in times of the chosen: a quiet machine by default."""
    drawn = np.random.default_rng(seed).normal(0, spread, n)
    return tuple(float(factor) for factor in np.exp(drawn))


def two_speeds(seed: int, apart: float = 0.12) -> tuple[float, ...]:
    """A machine with two speeds between processes, tight within: four of each."""
    rng = np.random.default_rng(seed)
    slow = rng.permutation([0, 0, 0, 0, 1, 1, 1, 1])
    return tuple(float(f) for f in np.exp(apart * slow + rng.normal(0, 0.002, 8)))


@cache
def _simulated(
    config: str, timing: ChosenTiming, factors: tuple[float, ...], decoding: str, fused: bool
) -> tuple[SimulatedSession, Tables]:
    """A session and the tables of all its processes; the configuration as JSON."""
    recording = make_recording(SyntheticConfig(**json.loads(config)), decoding=decoding)
    prompts = prompts_of(recording)
    knobs = Knobs(max_new_tokens=recording.max_new_tokens, fused_commit=fused)
    sessions = [
        SimulatedSession(
            recording,
            replace(timing, process_factor=factor),
            knobs=knobs,
            clock=VirtualClock(),
        )
        for factor in factors
    ]
    records = [
        record
        for process_id, session in enumerate(sessions)
        for record in answers(session, prompts, process_id=process_id)
    ]
    return sessions[-1], tables_of(sessions[-1], prompts, records)


def _windows(peaks: Sequence[int]) -> pd.DataFrame:
    """Two repeats of each process, of which the second holds the most."""
    seen = window_row([], 0.0, 1.0, gpu=False)
    rows = [
        seen | {"process_id": process_id, "repeat": repeat, "peak_rss_bytes": held}
        for process_id, peak in enumerate(peaks)
        for repeat, held in enumerate((peak // 2, peak))
    ]
    return frame("windows", rows, {"config_hash": "", "point_id": "", "host": ""})


def make_run(
    folder: Path,
    *,
    config: SyntheticConfig = BASE,
    timing: ChosenTiming = TIMING,
    factors: Sequence[float] = (1.0,),
    decoding: str = "diffusion",
    fused: bool = False,
    peaks: Sequence[int] = (),
    info: dict[str, Any] | None = None,
    **row: Any,
) -> Path:
    """A finished run of one point.

    Args:
        factors: a process each.
        fused: whether canvases are committed in the next one's first step.
        peaks: bytes that each process held at most; not told by default.
        info: added to run.json.
        row: columns of the point's row.
    """
    session, tables = _simulated(
        json.dumps(asdict(config)), timing, tuple(factors), decoding, fused
    )
    known = {
        "point_id": f"{decoding}-bf16",
        "config_hash": "abcdefabcdef",
        "precision": "bf16",
        "backend": "simulated",
        "weights": "synthetic",
        "prompts_sha256": PROMPTS,
        "host": "host1",
        "commit": COMMIT,
        "dirty": False,
        "condition": "clean",
        "commit_mode": ("fused" if fused else "separate") if decoding == "diffusion" else None,
        **{name: MACHINE[name] for name in ("device", "cpu", "torch")},
        **row,
    }
    keys = {name: known[name] for name in ("point_id", "config_hash")}
    tables = tables | {"windows": _windows(peaks)}
    own = {name: table.assign(**keys) for name, table in tables.items()}
    write_run(folder, session, own, **known)
    told = {
        "schema_version": SCHEMA_VERSION,
        "created": "2026-11-01T10:00:00+00:00",
        "git": {"commit": COMMIT, "dirty": False},
        "host": "host1",
        "machine": MACHINE,
        "prompts_sha256": PROMPTS,
        "finished": True,
        "interrupted": False,
    }
    (folder / "run.json").write_text(json.dumps(told | (info or {})))
    return folder
