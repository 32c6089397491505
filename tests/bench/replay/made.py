"""Made-up runs with traced canvases: the columns that a replay reads, no model.

Legend: T steps, L canvas positions.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.replay import Replay, replayable
from bench.report.view import View

STEP_MS, PREFILL_MS, COMMIT_MS, TOKEN_MS = 4.0, 2.0, 3.0, 5.0
WORDS = tuple("abcdefghijklmnopqrstuvwxyz")


@dataclass
class MadeRun:
    """The attributes that `bench.open_run` gives; tables as data frames."""

    path: Path
    points: pd.DataFrame
    requests: pd.DataFrame
    canvases: pd.DataFrame
    steps: pd.DataFrame
    positions: pd.DataFrame
    info: dict[str, Any] = field(default_factory=dict)

    def replay(self) -> Replay:
        return replayable(View.of(self))


def made_run(
    path: Path,
    *,
    num_requests: int = 2,
    num_canvases: int = 2,
    num_steps: int = 6,
    length: int = 12,
    words: Sequence[str] = WORDS,
    task: str = "sort",
    prompt: str = "sort hgf=",
) -> MadeRun:
    """Points diffusion-bf16 and autoregressive-bf16; each request ends in its last canvas."""
    made = _made(num_requests, num_canvases, num_steps, length, tuple(words), task, prompt)
    names = ("points", "requests", "canvases", "steps", "positions")
    tables = {name: getattr(made, name).copy() for name in names}
    return replace(made, path=path, info=deepcopy(made.info), **tables)


@cache
def _made(
    num_requests: int,
    num_canvases: int,
    num_steps: int,
    length: int,
    words: tuple[str, ...],
    task: str,
    prompt: str,
) -> MadeRun:
    rng = np.random.default_rng(3)
    tables: dict[str, list[Any]] = {"requests": [], "canvases": [], "steps": [], "positions": []}
    for request_id in range(num_requests):
        contents = [length] * (num_canvases - 1) + [max(1, length * 3 // 4)]
        key = {"point_id": "diffusion-bf16", "request_id": request_id, "process_id": 0, "repeat": 0}
        for index, content in enumerate(contents):
            tables["positions"].append(
                _positions(rng, num_steps, length, content, words).assign(
                    point_id="diffusion-bf16",
                    request_id=request_id,
                    task=task,
                    canvas_index=index,
                )
            )
            begin = ("commit", COMMIT_MS) if index else ("prefill", PREFILL_MS)
            tables["steps"] += [
                key | {"canvas_index": index, "step": step, "phase": phase, "device_ms": ms}
                for phase, ms, step in (
                    (*begin, 1),
                    *(("denoise", STEP_MS, step + 1) for step in range(num_steps)),
                )
            ]
            gap_s = (COMMIT_MS + num_steps * STEP_MS) / 1e3 if index else None
            tables["canvases"].append(
                key
                | {"canvas_index": index, "steps": num_steps, "content_tokens": content}
                | {"gap_s": gap_s, "task": task}
            )
        first_s = (PREFILL_MS + num_steps * STEP_MS) / 1e3
        last_s = first_s + (num_canvases - 1) * (COMMIT_MS + num_steps * STEP_MS) / 1e3
        tokens = sum(contents)
        both = {"request_id": request_id, "process_id": 0, "repeat": 0, "task": task}
        both |= {"prompt": prompt, "answer": "fgh", "text": "fgh" * tokens, "correct": True}
        both |= {"batch_size": 1, "delivered_tokens": tokens}
        tables["requests"].append(
            both
            | {"point_id": "diffusion-bf16", "wall_s": last_s, "num_canvases": num_canvases}
            | {"first_canvas_s": first_s, "last_delivery_s": last_s}
        )
        ends_s = (PREFILL_MS + TOKEN_MS * np.arange(tokens)) / 1e3
        tables["requests"].append(
            both
            | {"point_id": "autoregressive-bf16", "wall_s": ends_s[-1], "num_canvases": tokens}
            | {"first_canvas_s": ends_s[0], "last_delivery_s": ends_s[-1]}
        )
        sibling = key | {"point_id": "autoregressive-bf16", "step": 1}
        tables["steps"] += [
            sibling
            | {"canvas_index": block, "phase": "decode" if block else "prefill"}
            | {"device_ms": TOKEN_MS if block else PREFILL_MS}
            for block in range(tokens)
        ]
    return MadeRun(
        Path(),
        pd.DataFrame([made_point("diffusion"), made_point("autoregressive")]),
        pd.DataFrame(tables["requests"]),
        pd.DataFrame(tables["canvases"]),
        pd.DataFrame(tables["steps"]),
        pd.concat(tables["positions"], ignore_index=True),
        {"created": "2026-11-26T10:00:00+00:00", "machine": {"device": "made-up device"}},
    )


def paired(run: MadeRun) -> MadeRun:
    """The run with a second point that answered request 0 without self-conditioning."""
    point = pd.DataFrame([made_point("diffusion", point_id="off")])
    tables = {
        name: pd.concat([table, table[of_first(table)].assign(point_id="off")], ignore_index=True)
        for name, table in (("positions", run.positions), ("requests", run.requests))
    }
    config = {"sampler": {"self_conditioning": True, "max_denoising_steps": 8}, "seed": 0}
    off = {"sampler": {"self_conditioning": False, "max_denoising_steps": 8}, "seed": 0}
    info = run.info | {"config": {"diffusion-bf16": config, "off": off}}
    points = pd.concat([run.points, point], ignore_index=True)
    return replace(run, points=points, info=info, **tables)


def of_first(table: pd.DataFrame) -> pd.Series:
    return (table["request_id"] == 0) & (table["point_id"] == "diffusion-bf16")


def made_point(decoding: str, precision: str = "bf16", **columns: Any) -> dict[str, Any]:
    return {
        "point_id": f"{decoding}-{precision}",
        "decoding": decoding,
        "precision": precision,
        "device": "made-up device",
        "weights": "tiny",
        "validity": "valid",
        "batch_size": 1,
        "backend": "native",
    } | columns


def _positions(
    rng: np.random.Generator, num_steps: int, length: int, content: int, words: Sequence[str]
) -> pd.DataFrame:
    """A canvas whose positions settle one after the other, with some taken back on the way."""
    shape = num_steps, length
    step_TL = np.arange(num_steps)[:, None]
    ready_L = rng.uniform(0, num_steps - 1, length)
    early_TL = step_TL >= ready_L - 2
    accepted_TL = early_TL & (rng.random(shape) > 0.15) | (step_TL == num_steps - 1)
    final_L = rng.integers(0, len(words), length)
    argmax_TL = np.where(step_TL >= ready_L, final_L, rng.integers(0, len(words), shape))
    entropy_TL = np.where(early_TL, rng.uniform(0, 0.05, shape), rng.uniform(0.3, 3.0, shape))
    return pd.DataFrame(
        {
            "step": np.repeat(np.arange(1, num_steps + 1), length),
            "position": np.tile(np.arange(length), num_steps),
            "accepted": accepted_TL.ravel(),
            "argmax": argmax_TL.ravel(),
            "argmax_text": np.array(words, dtype=object)[argmax_TL.ravel()],
            "entropy_nat": entropy_TL.ravel(),
            "content": np.tile(np.arange(length) < content, num_steps),
        }
    )


def counts_from_table(
    positions: pd.DataFrame, request_id: int, canvas_index: int, step: int
) -> dict[str, int]:
    """Positions by state at a step, by the definitions read literally, one position at a time."""
    own = positions[
        (positions["request_id"] == request_id) & (positions["canvas_index"] == canvas_index)
    ]
    counts = dict.fromkeys(("noise", "accepted", "revoked", "revised", "settled", "after_eos"), 0)
    for _, rows in own.groupby("position"):
        rows = rows.sort_values("step")
        accepted, argmax = rows["accepted"].tolist(), rows["argmax"].tolist()
        now = step - 1
        if not rows["content"].iloc[-1]:
            state = "after_eos"
        elif now and argmax[now] != argmax[now - 1] and any(accepted[:now]):
            state = "revised"
        elif now and accepted[now - 1] and not accepted[now]:
            state = "revoked"
        elif not accepted[now]:
            state = "noise"
        else:
            state = "settled" if len(set(argmax[now:])) == 1 else "accepted"
        counts[state] += 1
    return counts
