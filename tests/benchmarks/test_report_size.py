"""The report of a large run: wall time and peak memory of `canvasbench report` at 1,000,000 steps.

    pytest tests/benchmarks/test_report_size.py --benchmark-enable -s

A made-up publish run of the default sweep, {diffusion, autoregressive} x {bf16, fp8}, eight
processes and three repeats a point, as the default trace level writes it: positions are two
canvases a task and diffusion point, of 256 positions at every step, 185,344 rows. The process
measured is the command's own, imports included; on a shared machine its processor time says more
than the wall. The bar: at most 15 s and 2 GB. Nothing asserts on time or memory.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench import open_run
from bench.parquet import write_table
from bench.store import RunFolder
from bench.tables import COLUMNS, SCHEMA_VERSION, check

NUM_ROWS = 1_000_000
NUM_PROCESSES, NUM_REPEATS = 8, 3
CANVAS, CAP, SAMPLES_A_TASK = 256, 48, 2
TASKS = {"add": 6.0, "count": 9.0, "edit": 14.0, "reverse": 8.0, "shuffle": 18.0, "sort": 11.0}
PRECISIONS = ("bf16", "fp8")
VOCABULARY = np.array([f" w{i}" for i in range(500)] + ["<eos>"])

# In a process of its own: what a large parent held at the fork would count as the child's memory.
_MEASURED = """
import json, resource, subprocess, sys, time
begin = time.perf_counter()
found = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL)
wall_s = time.perf_counter() - begin
used = resource.getrusage(resource.RUSAGE_CHILDREN)
cost = {"wall_s": wall_s, "cpu_s": used.ru_utime + used.ru_stime}
print(json.dumps(cost | {"peak_mb": used.ru_maxrss * 1024 / 1e6, "rc": found.returncode}))
"""


def report_cost(run_folder: Path) -> dict[str, float]:
    """Seconds of wall and processor, and megabytes, of the command on a run folder."""
    command = [sys.executable, "-m", "bench.cli", "report", str(run_folder)]
    found = subprocess.run(
        [sys.executable, "-c", _MEASURED, *command], stdout=subprocess.PIPE, check=True
    )
    cost: dict[str, float] = json.loads(found.stdout)
    assert cost.pop("rc") == 0
    return cost


def build_run(path: Path, num_rows: int) -> dict[str, int]:
    """A run folder with at least so many steps, whole prompts only; returns every table's rows."""
    rng = np.random.default_rng(7)
    prompts = _prompts(rng, num_rows)
    tables: dict[str, list[pd.DataFrame]] = {}
    for decoding in ("diffusion", "autoregressive"):
        for precision in PRECISIONS:
            point_id, config_hash = f"{decoding}-{precision}", f"{len(tables):012x}"
            for name, rows in _point_tables(rng, prompts, decoding, precision).items():
                keys = {"config_hash": config_hash, "point_id": point_id, "host": "0a1b2c3d"}
                tables.setdefault(name, []).append(rows.assign(**keys))
    folder = RunFolder.create(
        path, {"config_hash": "0" * 12, "config": {}, "created": "2026-11-25"}
    )
    sizes = {}
    for name, parts in tables.items():
        table = pd.concat(parts, ignore_index=True).assign(schema_version=SCHEMA_VERSION)
        unknown = [column for column in COLUMNS[name] if column not in table]
        whole = check(name, table.assign(**dict.fromkeys(unknown)))
        write_table(path / f"{name}.parquet", whole)
        sizes[name] = len(whole)
    folder.note(finished=True, wall_s=1.0)
    folder.release()
    return sizes


def _prompts(rng: np.random.Generator, num_rows: int) -> pd.DataFrame:
    """A row a prompt with both canvases' denoise steps and the tokens of its answer."""
    most = num_rows // (10 * NUM_PROCESSES * NUM_REPEATS) + 100
    names = np.array(list(TASKS))[np.arange(most) % len(TASKS)]
    mean = np.array([TASKS[name] for name in names])
    prompts = pd.DataFrame({"request_id": np.arange(most), "task": names})
    for canvas in range(2):
        drawn = 2 + rng.gamma(3, (mean - 2) / 3)
        prompts[f"steps_{canvas}"] = drawn.round().clip(2, CAP).astype(int)
    prompts["tokens"] = rng.integers(8, 40, most)
    prompts["correct"] = rng.random(most) < 0.9
    steps = prompts["steps_0"] + prompts["steps_1"]
    # Prefill, steps and one commit; prefill and decode: in two precisions each.
    rows = NUM_PROCESSES * NUM_REPEATS * len(PRECISIONS) * (2 + steps + prompts["tokens"])
    wanted = int(np.searchsorted(rows.cumsum(), num_rows)) + 1
    return prompts.head(max(wanted, len(TASKS) * SAMPLES_A_TASK))


def _point_tables(
    rng: np.random.Generator, prompts: pd.DataFrame, decoding: str, precision: str
) -> dict[str, pd.DataFrame]:
    diffusion = decoding == "diffusion"
    requests = _repeated(prompts)
    tables = {"requests": _requests(rng, requests, diffusion)}
    if diffusion:
        canvases = _canvases(rng, prompts)
        tables["canvases"] = _repeated(canvases)
        tables["positions"] = _positions(rng, canvases)
        tables["repairs"] = _repairs(rng, prompts.head(100))
        lengths = [
            ("prefill", 0, np.ones(len(prompts), int)),
            ("denoise", 0, prompts["steps_0"].to_numpy()),
            ("commit", 0, np.ones(len(prompts), int)),
            ("denoise", 1, prompts["steps_1"].to_numpy()),
        ]
    else:
        lengths = [
            ("prefill", 0, np.ones(len(prompts), int)),
            ("decode", 0, prompts["tokens"].to_numpy() - 1),
        ]
    steps = pd.concat([_steps(rng, prompts, *length) for length in lengths], ignore_index=True)
    order = steps.sort_values("request_id", kind="stable")
    tables["steps"] = _repeated(order)
    n = len(tables["steps"])
    tables["steps"]["device_ms"] = rng.lognormal(1.0, 0.1, n)
    tables["steps"]["host_ms"] = tables["steps"]["device_ms"] + 0.1
    tables["points"] = _point(decoding, precision, len(prompts), len(requests))
    return tables


def _repeated(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows in every process and repeat: the same seed gives the same contents."""
    parts = NUM_PROCESSES * NUM_REPEATS
    found = pd.concat([rows] * parts, ignore_index=True)
    part = np.repeat(np.arange(parts), len(rows))
    return found.assign(process_id=part // NUM_REPEATS, repeat=part % NUM_REPEATS)


def _requests(rng: np.random.Generator, rows: pd.DataFrame, diffusion: bool) -> pd.DataFrame:
    text = rows["task"] + " answer of prompt " + rows["request_id"].astype(str)
    wall_s = rows["tokens"] / 400 * rng.lognormal(0, 0.05, len(rows))
    first = rows["repeat"] == 0
    steps = rows["steps_0"] + rows["steps_1"] if diffusion else 0
    found = rows[["request_id", "process_id", "repeat", "task", "correct"]].assign(
        prompt=text.str.replace("answer", "question"),
        answer=text,
        text=text,
        prompt_tokens=16,
        delivered_tokens=rows["tokens"],
        first_delivery_tokens=rows["tokens"] // 2 if diffusion else 1,
        num_canvases=2 if diffusion else 0,
        wall_s=wall_s,
        prefill_s=0.1 * wall_s,
        first_canvas_s=0.5 * wall_s,
        last_delivery_s=wall_s,
        finish_reason="eos",
        batch_size=1,
        slots_committed=2 * CANVAS if diffusion else rows["tokens"],
        after_eos_slots=0,
        over_limit_slots=0,
        row_ended_slots=0,
        active_row_steps=steps,
        waiting_row_steps=0,
        ended_row_steps=0,
    )
    if diffusion:
        flipped = rng.random(len(rows)) < 0.1
        for reference in ("half", "accept", "parse"):
            right = pd.Series(rows["correct"] ^ flipped, dtype="boolean")
            found[f"correct_{reference}"] = right.where(first)
            found[f"unchanged_{reference}"] = pd.Series(~flipped, dtype="boolean").where(first)
        found["correct_ever"] = pd.Series(rows["correct"] | flipped, dtype="boolean").where(first)
    return found


def _canvases(rng: np.random.Generator, prompts: pd.DataFrame) -> pd.DataFrame:
    parts = []
    for canvas in range(2):
        steps = prompts[f"steps_{canvas}"]
        counted = {
            name: rng.integers(0, 9, len(prompts))
            for name, kind in COLUMNS["canvases"].items()
            if kind == "int?" and name != "steps"
        }
        parts.append(
            prompts[["request_id", "task"]].assign(
                canvas_index=canvas,
                steps=steps,
                stop_reason=np.where(steps >= CAP, "cap", "converged"),
                content_tokens=CANVAS,
                canvas_fill=1.0,
                gap_s=0.02 if canvas else np.nan,
                **counted,
            )
        )
    return pd.concat(parts, ignore_index=True)


def _steps(
    rng: np.random.Generator, prompts: pd.DataFrame, phase: str, canvas: int, lengths: np.ndarray
) -> pd.DataFrame:
    rows = np.repeat(np.arange(len(prompts)), lengths)
    step = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths) + 1
    found = prompts[["request_id", "task"]].iloc[rows].reset_index(drop=True)
    found = found.assign(canvas_index=canvas, step=step, phase=phase)
    if phase == "decode":  # a token is a block of one step
        return found.assign(canvas_index=step, step=1)
    if phase != "denoise":
        return found
    accepted = np.minimum(CANVAS, (step * CANVAS * rng.uniform(0.05, 0.2, len(rows))).astype(int))
    return found.assign(
        accepted=accepted,
        renoised=CANVAS - accepted,
        revoked=rng.binomial(accepted, 0.02),
        flips=rng.integers(0, 20, len(rows)),
        accepted_slots=accepted,
        mean_entropy_nat=rng.exponential(0.5, len(rows)),
    )


def _positions(rng: np.random.Generator, canvases: pd.DataFrame) -> pd.DataFrame:
    """The longest denoised canvases of each task, at every step."""
    longest = canvases.sort_values("steps", ascending=False).groupby("task").head(SAMPLES_A_TASK)
    parts = []
    for sample in longest.itertuples(index=False):
        steps = int(sample.steps)
        step, position = (grid.ravel() + 1 for grid in np.indices((steps, CANVAS)))
        final, ready = rng.integers(0, 500, CANVAS), rng.uniform(0, 0.8, CANVAS) * steps
        settled = step > ready[position - 1]
        noise = rng.integers(0, 500, len(step))
        argmax = np.where(settled, final[position - 1], noise)
        parts.append(
            pd.DataFrame(
                {
                    "request_id": sample.request_id,
                    "task": sample.task,
                    "canvas_index": sample.canvas_index,
                    "step": step,
                    "position": position - 1,
                    "candidate": np.where(settled, argmax, noise),
                    "accepted": settled & ((rng.random(len(step)) > 0.05) | (step == steps)),
                    "argmax": argmax,
                    "argmax_text": VOCABULARY[argmax],
                    "entropy_nat": np.where(settled, 0.01, rng.uniform(0.5, 6, len(step))),
                    "content": True,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def _repairs(rng: np.random.Generator, prompts: pd.DataFrame) -> pd.DataFrame:
    return prompts[["request_id", "task"]].assign(
        corrupted=4,
        repaired=rng.binomial(4, 0.9, len(prompts)),
        untouched=40,
        preserved=rng.binomial(40, 0.98, len(prompts)),
        steps=6,
        correct=True,
    )


def _point(decoding: str, precision: str, num_prompts: int, num_requests: int) -> pd.DataFrame:
    unknown = {"int": 1, "bool": False, "str": "n/a"}
    row: dict[str, Any] = {n: unknown.get(kind) for n, kind in COLUMNS["points"].items()}
    row |= {
        "decoding": decoding,
        "precision": precision,
        "weights": "tiny",
        "device": "cpu",
        "num_processes": NUM_PROCESSES,
        "num_repeats": NUM_REPEATS,
        "num_prompts": num_prompts,
        "num_requests": num_requests,
        "validity": "valid",
    }
    known = {"delivered_tok_per_s": 400.0, "decode_tok_per_s": 440.0, "accuracy": 0.9}
    if decoding == "diffusion":
        known |= {"steps_per_canvas_median": 10.0, "cap_rate": 0.01, "net_correction": 0.05}
        known |= {"repaired_share": 0.9, "preserved_share": 0.98, "step_ms": 2.7}
    for name, value in known.items():
        row |= {name: value, f"{name}_lo": 0.9 * value, f"{name}_hi": 1.1 * value}
    return pd.DataFrame([row])


def test_a_made_up_run_has_the_tables_of_a_real_one(tmp_path: Path) -> None:
    sizes = build_run(tmp_path / "run", 5_000)
    run = open_run(tmp_path / "run")
    for name, rows in sizes.items():
        table = run.table(name)
        assert table is not None
        assert len(table) == rows
    assert sizes["points"] == 4
    assert sizes["steps"] >= 5_000


def test_report_size(benchmark, tmp_path: Path) -> None:
    if not benchmark.enabled:
        benchmark(lambda: None)
        return
    sizes = build_run(tmp_path / "run", NUM_ROWS)
    print({name: f"{rows:,}" for name, rows in sizes.items()})
    costs: list[dict[str, float]] = []
    benchmark.pedantic(lambda: costs.append(report_cost(tmp_path / "run")), rounds=3)
    for cost in costs:
        wall_s, cpu_s, peak_mb = cost["wall_s"], cost["cpu_s"], cost["peak_mb"]
        print(f"{wall_s:.1f} s wall, {cpu_s:.1f} s processor, {peak_mb:,.0f} MB")
    benchmark.extra_info.update(rows=sizes, costs=costs)
