"""A made-up run with the tables of a real one: plausible numbers, no model, any part removable."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

TASKS = {
    "add": (3, 5.0),
    "count": (20, 7.0),
    "edit": (28, 12.0),
    "reverse": (6, 8.0),
    "sort": (6, 9.0),
}
HASHES = {
    "diffusion-bf16": "0123456789ab",
    "diffusion-fp8": "1123456789ab",
    "autoregressive-bf16": "2123456789ab",
    "autoregressive-fp8": "3123456789ab",
}
CANVAS, CAP = 32, 48
_LETTERS = "abcdefghijklmnopqrstuvwxyz "


@dataclass
class SyntheticRun:
    """The attributes that `bench.open_run` gives."""

    path: Path
    info: dict[str, Any]
    points: pd.DataFrame | None
    requests: pd.DataFrame | None = None
    canvases: pd.DataFrame | None = None
    steps: pd.DataFrame | None = None
    positions: pd.DataFrame | None = None
    repairs: pd.DataFrame | None = None
    failures: pd.DataFrame | None = field(default=None)


def synthetic_run(
    path: Path,
    *,
    num_prompts: int = 200,
    num_repeats: int = 3,
    task_names: dict[str, str] | None = None,
) -> SyntheticRun:
    """A default sweep: {diffusion, autoregressive} x {bf16, fp8}, screening on an emulating CPU."""
    rng = np.random.default_rng(7)
    tables: dict[str, list[pd.DataFrame]] = {
        name: [] for name in ("points", "requests", "canvases", "steps", "positions", "repairs")
    }
    for decoding, rate, right in (("diffusion", 640.0, 0.87), ("autoregressive", 212.0, 0.97)):
        for precision, factor in (("bf16", 1.0), ("fp8", 0.82)):
            point_id = f"{decoding}-{precision}"
            ids = {"schema_version": 1, "point_id": point_id, "config_hash": HASHES[point_id]}
            requests = _requests(rng, num_prompts, num_repeats, rate * factor, right, decoding)
            made = {"requests": requests}
            if decoding == "diffusion":
                first = requests[requests["repeat"] == 0]
                made["canvases"] = _canvases(rng, requests)
                made["steps"] = _denoise_steps(rng, made["canvases"])
                made["positions"] = _positions(rng, first)
                made["repairs"] = _repairs(rng, first.head(60))
            else:
                made["steps"] = _decode_steps(rng, requests)
            made["points"] = _point(decoding, precision, requests, made.get("canvases"))
            for name, frame in made.items():
                tables[name].append(frame.assign(**ids))
    frames = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    for frame in frames.values():
        if task_names and "task" in frame:
            frame["task"] = frame["task"].replace(task_names)
    return SyntheticRun(path=path, info=_info(), **frames)


def _requests(
    rng: np.random.Generator, prompts: int, repeats: int, rate: float, right: float, decoding: str
) -> pd.DataFrame:
    names = list(TASKS)
    rows = []
    for prompt in range(prompts):
        task = names[prompt % len(names)]
        delivered = max(2, int(rng.normal(TASKS[task][0], 2)) + 1)
        correct = bool(rng.random() < right - 0.02 * names.index(task))
        late = correct and rng.random() < 0.08
        spoiled = not correct and rng.random() < 0.2
        same = not correct and not spoiled and rng.random() < 0.7
        diffusion = decoding == "diffusion"
        for repeat in range(repeats):
            wall = delivered / rate * rng.lognormal(0, 0.08)
            rows.append(
                {
                    "request_id": prompt,
                    "process_id": 0,
                    "repeat": repeat,
                    "task": task,
                    "prompt": f"{task} {prompt}=",
                    "prompt_tokens": 12,
                    "delivered_tokens": delivered,
                    "num_canvases": -(-delivered // CANVAS),
                    "wall_s": wall,
                    "correct": correct,
                    "batch_size": 1,
                    "correct_half": (correct and not late) or spoiled if diffusion else None,
                    "correct_accept": (correct and not late) or spoiled if diffusion else None,
                    "correct_parse": (correct and rng.random() > 0.1) or spoiled
                    if diffusion
                    else None,
                    "correct_ever": correct or spoiled if diffusion else None,
                    "unchanged_half": (correct and not late) or same if diffusion else None,
                    "unchanged_accept": (correct and not late) or same if diffusion else None,
                    "unchanged_parse": correct or same if diffusion else None,
                }
            )
    return pd.DataFrame(rows)


def _canvases(rng: np.random.Generator, requests: pd.DataFrame) -> pd.DataFrame:
    rows = requests.loc[requests.index.repeat(requests["num_canvases"])].copy()
    keys = ["request_id", "repeat"]
    rows["canvas_index"] = rows.groupby(keys).cumcount()
    mean = rows["task"].map(lambda task: TASKS[task][1])
    drawn = pd.Series(2 + rng.gamma(3, (mean - 2) / 3), index=rows.index).round()
    rows["steps"] = drawn.groupby([rows[k] for k in (*keys, "canvas_index")]).transform("first")
    rows["steps"] = rows["steps"].clip(2, CAP).astype(int)
    rows["stop_reason"] = np.where(rows["steps"] >= CAP, "cap", "converged")
    rows["content_tokens"] = rows["delivered_tokens"].clip(upper=CANVAS)
    names = ["request_id", "process_id", "repeat", "task", "canvas_index", "steps", "stop_reason"]
    return rows[[*names, "content_tokens"]].reset_index(drop=True)


def _denoise_steps(rng: np.random.Generator, canvases: pd.DataFrame) -> pd.DataFrame:
    rows = canvases.loc[canvases.index.repeat(canvases["steps"])].copy()
    rows["step"] = rows.groupby(level=0).cumcount() + 1
    share = 1 - np.exp(-3.2 * rows["step"] / rows["steps"])
    rows["accepted"] = np.minimum(
        rng.binomial(rows["content_tokens"], share), rows["content_tokens"]
    )
    rows["renoised"] = rows["content_tokens"] - rows["accepted"]
    rows["revoked"] = rng.binomial(rows["accepted"], 0.06 * (1 - share)) * (rows["step"] > 1)
    rows["phase"] = "denoise"
    rows["mean_entropy_nat"] = 2.5 * (1 - share)
    rows["device_ms"] = rng.lognormal(1.2, 0.1, len(rows))
    commits = canvases.assign(phase="commit", step=1, device_ms=3.1)
    return pd.concat([rows, commits], ignore_index=True)


def _decode_steps(rng: np.random.Generator, requests: pd.DataFrame) -> pd.DataFrame:
    rows = requests.loc[requests.index.repeat(requests["delivered_tokens"])]
    rows = rows[["request_id", "process_id", "repeat", "task"]].copy()
    rows["step"] = rows.groupby(level=0).cumcount() + 1
    return rows.assign(phase="decode", canvas_index=0, device_ms=rng.lognormal(1.0, 0.1, len(rows)))


def _positions(rng: np.random.Generator, requests: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for task in TASKS:
        for _, request in requests[requests["task"] == task].head(2).iterrows():
            parts.append(_one_canvas(rng, int(request["request_id"]), task))
    return pd.concat(parts, ignore_index=True)


def _one_canvas(rng: np.random.Generator, request_id: int, task: str) -> pd.DataFrame:
    length, mean = TASKS[task]
    steps = int(rng.integers(max(4, mean), mean * 1.6 + 1))
    content = min(length + 1, CANVAS)
    final = rng.integers(0, 26, CANVAS)
    ready = np.sort(rng.uniform(0, 0.75, CANVAS)) * steps + rng.normal(0, 1.2, CANVAS)
    wrong_until = np.where(rng.random(CANVAS) < 0.15, ready + 2.0, 0)
    wrong = rng.integers(0, 26, CANVAS)
    rows = []
    for step in range(1, steps + 1):
        settled = step > ready
        revoked = settled & (rng.random(CANVAS) < 0.05) & (step < steps - 1)
        noise = rng.integers(0, 26, CANVAS)
        argmax = np.where(settled, np.where(step < wrong_until, wrong, final), noise)
        argmax = np.where((step >= steps - 1), final, argmax)
        entropy = np.where(settled, rng.uniform(0, 0.02, CANVAS), rng.uniform(0.5, 2.9, CANVAS))
        for position in range(CANVAS):
            eos = position == content - 1
            letter = _LETTERS[int(argmax[position])]
            rows.append(
                {
                    "request_id": request_id,
                    "task": task,
                    "canvas_index": 0,
                    "step": step,
                    "position": position,
                    "candidate": int(argmax[position]),
                    "accepted": bool(
                        (settled[position] or step >= steps - 1) and not revoked[position]
                    ),
                    "argmax": 99 if eos and settled[position] else int(argmax[position]),
                    "entropy_nat": float(entropy[position]),
                    "argmax_text": "<eos>" if eos and settled[position] else letter,
                    "content": position < content,
                }
            )
    return pd.DataFrame(rows)


def _repairs(rng: np.random.Generator, requests: pd.DataFrame) -> pd.DataFrame:
    rows = requests[["request_id", "task"]].copy()
    rows["corrupted"] = 3
    rows["repaired"] = rng.binomial(3, 0.84, len(rows))
    rows["untouched"] = (requests["delivered_tokens"] - 3).clip(lower=0)
    rows["preserved"] = rng.binomial(rows["untouched"], 0.985)
    return rows.assign(steps=7, correct=rows["repaired"] == 3)


def _point(
    decoding: str, precision: str, requests: pd.DataFrame, canvases: pd.DataFrame | None
) -> pd.DataFrame:
    rate = float(requests["delivered_tokens"].sum() / requests["wall_s"].sum())
    accuracy = float(requests["correct"].mean())
    row: dict[str, Any] = {
        "decoding": decoding, "precision": precision, "emulated": True, "kernels": "torch",
        "execution": "eager", "backend": "native", "model": f"tiny-{decoding}", "weights": "tiny",
        "weights_sha256": "ab" * 32, "device": "AMD EPYC 7B13, 2 threads", "workload": "tiny",
        "batch_size": 1, "num_processes": 1, "num_repeats": int(requests["repeat"].nunique()),
        "num_prompts": int(requests["request_id"].nunique()), "num_requests": len(requests),
        "timed": "handing over the prompt to the last text in hand, host clock, tokenizer excluded",
        "delivered_tok_per_s": rate, "delivered_tok_per_s_lo": None, "delivered_tok_per_s_hi": None,
        "decode_tok_per_s": 1.2 * rate, "decode_tok_per_s_median": 1.18 * rate,
        "accuracy": accuracy, "accuracy_lo": accuracy - 0.04, "accuracy_hi": accuracy + 0.03,
        "validity": "valid", "validity_reason": None, "joules_per_token": None,
        "empty_share": 0.0, "truncated_share": 0.01,
    }  # fmt: skip
    if canvases is not None:
        first = canvases[canvases["repeat"] == 0]
        row |= {
            "num_canvases": len(first), "steps_per_canvas_median": float(first["steps"].median()),
            "steps_per_canvas_p90": float(first["steps"].quantile(0.9)), "cap_rate": 0.004,
            "cap_rate_lo": 0.001, "cap_rate_hi": 0.02, "tokens_per_forward_denoise": 1.61,
            "canvas_fill": 0.41, "revocations_per_token": 0.068, "revised_after_accept": 0.031,
            "net_correction": 0.055, "net_correction_lo": 0.021, "net_correction_hi": 0.089,
            "wrong_to_right_half": 0.07, "right_to_wrong_half": 0.015, "unresolved_accept": 3,
            "repaired_share": 0.842, "repaired_share_lo": 0.79, "repaired_share_hi": 0.88,
            "step_ms": 3.2, "argmax_flip_rate": 0.11,
        }  # fmt: skip
    return pd.DataFrame([row])


def _info() -> dict[str, Any]:
    return {
        "schema_version": 1,
        "created": "2026-11-24T10:11:46+00:00",
        "config_hash": "0123456789ab",
        "config": {"sampler": {"max_denoising_steps": CAP, "entropy_bound": 0.1}, "seed": 0},
        "command": "canvasbench run",
        "git": {"commit": "f" * 40, "dirty": False},
        "machine": {"cpu": "AMD EPYC 7B13", "cores": 2, "threads": 2, "memory_bytes": 8 << 30,
                    "device": "AMD EPYC 7B13, 2 threads", "driver": None, "cuda": None,
                    "torch": "2.11.0", "python": "3.11.2"},
        "packages": {"numpy": "2.4.6", "pandas": "3.1.1"},
        "prompts_sha256": "cd" * 32,
        "weights": {"tiny-diffusion": {"id": "tiny", "sha256": "ab" * 32, "kind": "trained"}},
        "points": ["diffusion-bf16", "diffusion-fp8", "autoregressive-bf16", "autoregressive-fp8"],
        "finished": True,
        "interrupted": False,
        "wall_s": 341.2,
    }  # fmt: skip
