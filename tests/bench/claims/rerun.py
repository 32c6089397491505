"""An independent rerun of the published commands on one H100, as a run of ours.

Its raw times (`data/`, with their source) are put into our tables; everything else is computed by
our own definitions. What the source does not tell stays unknown: the prefill apart from the first
canvas, every forward, the steps a canvas took (16 as configured).
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from bench.claims.observed import Observed
from bench.merge import empty
from bench.parquet import write_table
from bench.summary import _speed
from bench.tables import SCHEMA_VERSION, frame

FILE = Path(__file__).parent / "data" / "h100_fp8_rerun_2026-08-03.json"
CANVAS, STEPS = 256, 16
KEYS = {"config_hash": "a" * 12, "point_id": "diffusion-fp8", "host": "unknown"}
UNKNOWN = ("host_share", "generation_tok_per_s_excl_prefill")


def raw() -> dict[str, Any]:
    found = json.loads(FILE.read_text())
    assert isinstance(found, dict)
    return found


@dataclass(frozen=True)
class Rerun:
    """The rerun's tables; `point` is a row of `points`."""

    requests: pd.DataFrame
    canvases: pd.DataFrame
    point: pd.DataFrame

    def observed(self) -> Observed:
        row = {str(key): value for key, value in self.point.iloc[0].items()}
        return Observed.of(row, self.requests, self.canvases, empty("steps"))

    def write(self, folder: Path) -> Path:
        """A run folder of it."""
        folder.mkdir(parents=True)
        info = {
            "schema_version": SCHEMA_VERSION,
            "created": "2026-08-03",
            "machine": {"device": raw()["conditions"]["gpu"]},
        }
        (folder / "run.json").write_text(json.dumps(info))
        for name in ("requests", "canvases"):
            write_table(folder / f"{name}.parquet", getattr(self, name))
        write_table(folder / "points.parquet", self.point)
        return folder


@cache
def rerun() -> Rerun:
    """The tables; nobody may change them."""
    data = raw()
    firsts, gaps = data["ttft_s"], data["canvas_gap_s"]
    requests = [_request(i, data["conditions"], firsts[i], gaps[i]) for i in range(len(firsts))]
    canvases = [
        _canvas(i, index, gap)
        for i, own in enumerate(gaps)
        for index, gap in enumerate([None, *own])
    ]
    tables = frame("requests", requests, KEYS), frame("canvases", canvases, KEYS)
    row = _point(data["conditions"], len(firsts)) | _speed(*tables, empty("steps"))
    row |= dict.fromkeys(name + end for name in UNKNOWN for end in ("", "_lo", "_hi"))
    known = {name: value for name, value in row.items() if value is not None}
    return Rerun(*tables, frame("points", [known], KEYS))


def _request(index: int, told: dict[str, Any], first_s: float, gaps: list[float]) -> dict[str, Any]:
    wall_s = first_s + sum(gaps)
    slots = CANVAS * (1 + len(gaps))
    return {
        "request_id": index,
        "process_id": 0,
        "repeat": 0,
        "task": "fixed_work",
        "prompt": "",
        "text": "",
        "prompt_tokens": told["input_len"],
        "delivered_tokens": told["output_len"],
        "first_delivery_tokens": CANVAS,
        "num_canvases": slots // CANVAS,
        "wall_s": wall_s,
        "prefill_s": 0.0,
        "first_canvas_s": first_s,
        "last_delivery_s": wall_s,
        "finish_reason": "length",
        "batch_size": told["max_concurrency"],
        "slots_committed": slots,
        "after_eos_slots": 0,
        "over_limit_slots": slots - told["output_len"],
        "row_ended_slots": 0,
        "active_row_steps": STEPS * (slots // CANVAS),
        "waiting_row_steps": 0,
        "ended_row_steps": 0,
    }


def _canvas(request: int, index: int, gap_s: float | None) -> dict[str, Any]:
    return {
        "request_id": request,
        "process_id": 0,
        "repeat": 0,
        "task": "fixed_work",
        "canvas_index": index,
        "steps": STEPS,
        "stop_reason": "forced",
        "content_tokens": CANVAS,
        "canvas_fill": 1.0,
        "gap_s": gap_s,
    }


def _point(told: dict[str, Any], num_requests: int) -> dict[str, Any]:
    assert told["diffusion_confidence_threshold"] == 0  # a mean entropy is never below it
    return {
        "decoding": "diffusion",
        "precision": "fp8",
        "emulated": False,
        "backend": "openai",
        "model": "diffusiongemma-26b-a4b",
        "weights": told["model"],
        "device": told["gpu"],
        "driver": told["driver"],
        "cuda": told["cuda"],
        "workload": "fixed_work",
        "eos_policy": "ignore" if told["ignore_eos"] else "stop",
        "max_new_tokens": told["output_len"],
        "measure": "screening",
        "trace": "counts",
        "timed": "first text and gaps between canvases, by the client",
        "batch_size": told["max_concurrency"],
        "seed": 0,
        "num_processes": 1,
        "num_repeats": 1,
        "num_prompts": num_requests,
        "num_requests": num_requests,
        "canvas_length": told["canvas_length"],
        "max_denoising_steps": told["max_denoising_steps"],
        "early_stop": False,
        "validity": "valid",
    }
