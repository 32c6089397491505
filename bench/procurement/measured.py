"""Operating points of a run: what a buyer's questions need of its tables.

Intervals hold for other processes and, where content decides the work, for other prompts of the
same kind; those of a served load's rate and energy for other processes alone. Numbers of one
process have none. Quality is unknown with random weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from bench.devices import DEVICES, recognised
from bench.later import EXACT
from bench.metrics import first_repeat
from bench.metrics.speed import request_times, system_rate
from bench.phases import FUSED
from bench.procurement.cell import Cell, NumberClass
from bench.procurement.estimates import (
    FEW_PROMPTS,
    Estimate,
    Sums,
    between_processes,
    prompt_spread,
    ratio,
    with_prompts,
)
from bench.procurement.operating_point import OperatingPoint
from bench.store import Run

RANDOM_WEIGHTS = "random weights: nobody's answers"
MEASURED_TOO = "the same way was measured in"
"""How the note begins of a point that is not the only one of its way."""
_FIXED_WORK, _SERVED = "fixed_work", "openai"
_BATCH_RATE = "delivered tokens of the whole batch a second, prefill included"
_SERVED_RATE = "delivered tokens of all connections over the seconds of the load"


def measured_points(run: Run) -> tuple[list[OperatingPoint], list[str]]:
    """Every valid point of a run, and why others were left out.

    Raises:
        ValueError: the run is a rehearsal or a simulation, one of its points did not do the
            model's exact work, or none is usable.
    """
    configs = run.info.get("config") or {}
    if any(isinstance(config, dict) and config.get("rehearsal") for config in configs.values()):
        raise ValueError(
            f"run {run.path} is a rehearsal: a large experiment at a size for a processor, whose"
            " speeds stand for nothing; give a run of the experiment itself"
        )
    table, requests = run.points, run.requests
    if (table["backend"] == "simulated").any():
        raise ValueError(f"run {run.path} is a simulation; no device was measured")
    found, left_out = [], []
    rows = [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    _refuse_inexact(run, rows)
    for row in rows:
        tables = {
            name: pd.DataFrame() if whole is None else whole[whole["point_id"] == row["point_id"]]
            for name, whole in (
                ("requests", requests),
                ("canvases", run.canvases),
                ("steps", run.steps),
                ("windows", run.table("windows")),
            )
        }
        why = _why_not(row, tables)
        if why:
            left_out.append(f"{run.path} {row['point_id']}: {why}")
            continue
        found.append(_point(run, row, tables))
    if not found:
        raise ValueError(f"run {run.path} has no usable point: {'; '.join(left_out)}")
    return found, left_out


def with_others_named(points: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    """The points, with a note in each that says where the same way was measured as well.

    Processes of several runs are no sample of one population: code, driver and machine may differ.
    """
    same: dict[tuple[object, ...], list[str]] = {}
    for point in points:
        same.setdefault(_way(point), []).append(point.source)
    return [
        replace(point, notes=(*point.notes, f"{MEASURED_TOO} {', '.join(others)}; not pooled"))
        if (others := [source for source in same[_way(point)] if source != point.source])
        else point
        for point in points
    ]


def _way(point: OperatingPoint) -> tuple[object, ...]:
    return point.device, point.decoding, point.precision, point.batch_size


def _refuse_inexact(run: Run, rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuses points that left out work which the model asks for.

    Raises:
        ValueError: logits by another arithmetic than the model's, or beliefs cut off.
    """
    for row in rows:
        for key, exact in EXACT.items():
            value = row.get(key.rpartition(".")[2])
            if not pd.isna(value) and value != exact:
                raise ValueError(
                    f"run {run.path} {row['point_id']} was measured with {key}={value}, which is"
                    f" not the model's exact work; give runs with {key}={exact}"
                )


def _why_not(row: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> str:
    """Why a point cannot be used; empty where it can."""
    if row["validity"] == "invalid":
        return str(row["validity_reason"])
    if tables["requests"].empty:
        return "it has no request"
    if row["backend"] == _SERVED and pd.isna(row.get("connections")):
        return "an open load has no batch; measure with backend.connections"
    if row["backend"] == _SERVED and tables["windows"].empty:
        return "the load was not timed"
    return ""


def _point(run: Run, row: Mapping[str, Any], tables: Mapping[str, pd.DataFrame]) -> OperatingPoint:
    requests = tables["requests"]
    source, stream = f"{run.path} {row['point_id']}", f"{run.path}/{row['point_id']}"
    varies = row["workload"] != _FIXED_WORK
    times = request_times(requests).assign(
        process_id=requests["process_id"], request_id=requests["request_id"]
    )
    served = row["backend"] == _SERVED
    at_once = int(row["connections" if served else "batch_size"])
    spent = _sums(times, "tokens", "wall_s")
    if served:
        system = system_rate(requests, tables["windows"])
        rate = between_processes((system["tokens"] / system["window_s"]).to_numpy(float), stream)
    else:
        rate = ratio(spent, stream, content_varies=varies)
    deliveries = _deliveries(requests, row)
    waits = times.assign(
        first_s=requests["first_canvas_s"],
        wall_s=requests["wall_s"],
        gap_s=requests["last_delivery_s"] - requests["first_canvas_s"],
        gaps=deliveries - 1,
        ones=1.0,
    )
    gaps = waits[waits["gaps"] > 0]

    def mean_time(name: str, unit: str, definition: str) -> Cell:
        found = ratio(_sums(waits, name, "ones"), stream, content_varies=varies)
        return found.cell(unit=unit, definition=definition, source=source)

    return OperatingPoint(
        device=device_of(row),
        label=f"{row['decoding']} {row['precision']}, "
        + (f"{at_once} connections" if served else f"batch {at_once}"),
        decoding=str(row["decoding"]),
        precision=str(row["precision"]),
        batch_size=at_once,
        prompt_tokens=round(float(requests["prompt_tokens"].mean())),
        reply_tokens=round(float(requests["delivered_tokens"].mean())),
        steps=mean_steps(tables["canvases"]),
        kind=NumberClass.MEASURED,
        source=source,
        system_tok_per_s=rate.cell(
            unit="tok/s",
            definition=_SERVED_RATE if served else _BATCH_RATE,
            source=source,
        ),
        first_canvas_s=mean_time("first_s", "s", "mean time to the first delivery"),
        canvas_gap_s=_unknown("s", "mean time between deliveries", "no answer has two deliveries")
        if gaps.empty
        else ratio(_sums(gaps, "gap_s", "gaps"), stream, content_varies=varies).cell(
            unit="s", definition="mean time between deliveries", source=source
        ),
        end_to_end_s=mean_time("wall_s", "s", "mean time of a whole request of this run"),
        power_w=_power(tables["windows"], stream, source),
        joules_per_token=_joules(
            tables["windows"], times, spent, stream, source, varies and not served
        ),
        accuracy=_accuracy(row, source),
        op_floor_tok_per_s=_at_floor(row, tables, row.get("op_floor_ms")),
        streaming_floor_tok_per_s=_at_floor(row, tables, row.get("streaming_floor_ms")),
        notes=_notes(row),
        model=str(row["model"]),
        tokens_per_delivery=_known(row.get("canvas_length")) or 1.0,
        first_canvas_p95_s=_p95(waits, "first_s", "time to the first delivery", stream, source),
        canvas_gap_p95_s=_gap_p95(tables, stream, source),
        tokens_per_correct_answer=_tokens_per_correct(requests, row, stream, source),
        definition="system_tok_per_s" if served else "delivered_tok_per_s",
        work=_work(row),
    )


def _sums(table: pd.DataFrame, top: str, bottom: str) -> Sums:
    """Sums by process and prompt, over prompts that every process answered."""
    table = table[["process_id", "request_id", top, bottom]].dropna()
    processes, process = np.unique(table["process_id"].to_numpy(), return_inverse=True)
    prompts, prompt = np.unique(table["request_id"].to_numpy(), return_inverse=True)
    shape, cell = (len(processes), len(prompts)), process * len(prompts) + prompt

    def summed(weights: np.ndarray | None) -> np.ndarray:
        return np.bincount(cell, weights, minlength=shape[0] * shape[1]).reshape(shape)

    answered = (summed(None) > 0).all(axis=0)
    tops, bottoms = (summed(table[name].to_numpy(dtype=float)) for name in (top, bottom))
    return Sums(tops[:, answered], bottoms[:, answered])


def _deliveries(requests: pd.DataFrame, row: Mapping[str, Any]) -> pd.Series:
    is_diffusion = row["decoding"] == "diffusion"
    return requests["num_canvases" if is_diffusion else "delivered_tokens"].astype(float)


def _p95(table: pd.DataFrame, name: str, what: str, stream: str, source: str) -> Cell:
    """95th percentile of each process; between processes."""
    by_process = table.groupby("process_id")[name].quantile(0.95).to_numpy(dtype=float)
    found = between_processes(by_process, stream)
    return found.cell(unit="s", definition=f"95th percentile of the {what}", source=source)


def _gap_p95(tables: Mapping[str, pd.DataFrame], stream: str, source: str) -> Cell | None:
    gaps = tables["canvases"].dropna(subset=["gap_s"]) if len(tables["canvases"]) else None
    if gaps is None or gaps.empty:
        return None
    return _p95(gaps, "gap_s", "time between deliveries", stream, source)


def _power(windows: pd.DataFrame, stream: str, source: str) -> Cell:
    definition = "mean power over the timed windows"
    if windows.empty or windows["power_mean_w"].isna().any():
        return _unknown("W", definition, "power was not read throughout")
    energy = (windows["power_mean_w"] * windows["window_s"]).groupby(windows["process_id"]).sum()
    seconds = windows.groupby("process_id")["window_s"].sum()
    means = (energy / seconds).to_numpy(dtype=float)
    return between_processes(means, stream).cell(unit="W", definition=definition, source=source)


def _joules(
    windows: pd.DataFrame,
    times: pd.DataFrame,
    spent: Sums,
    stream: str,
    source: str,
    content_varies: bool,
) -> Cell:
    """Between processes; prompts move it as they move seconds a token, at the same power."""
    definition = "the device's joules over the timed windows a delivered token"
    if windows.empty or windows["joules"].isna().any():
        reasons = [] if windows.empty else windows["energy_reason"].dropna().unique().tolist()
        return _unknown("J", definition, str(reasons[0]) if reasons else "energy was not measured")
    tokens = times.groupby("process_id")["tokens"].sum()
    joules = windows.groupby("process_id")["joules"].sum()
    found = between_processes((joules / tokens).to_numpy(dtype=float), stream)
    influences = spent.influences()
    if content_varies:
        inverse = None if influences is None else -influences
        found = with_prompts(found, inverse, stream)
    return found.cell(unit="J", definition=definition, source=source)


def _accuracy(row: Mapping[str, Any], source: str) -> Cell:
    definition = "share of judged answers that are right"
    if row["weights"] == "dummy":
        return _unknown("", definition, RANDOM_WEIGHTS)
    value = _known(row.get("accuracy"))
    if value is None:
        return _unknown("", definition, "no answer was judged")
    low, high = _known(row.get("accuracy_lo")), _known(row.get("accuracy_hi"))
    return Cell(value, low, high, NumberClass.MEASURED, "", definition, source)


def _tokens_per_correct(
    requests: pd.DataFrame, row: Mapping[str, Any], stream: str, source: str
) -> Cell | None:
    """Delivered tokens of judged answers over the right ones; contents are those of one process."""
    if row["weights"] == "dummy":
        return None
    first = first_repeat(requests).sort_values("request_id")
    judged = first["correct"].notna().to_numpy()
    right = first["correct"].fillna(False).to_numpy(dtype=float)
    tokens = np.where(judged, first["delivered_tokens"].to_numpy(dtype=float), 0.0)
    if right.sum() == 0:
        return None
    sums = Sums(tokens[None], right[None])
    spreads = prompt_spread(sums.influences(), stream)
    found = Estimate(float(sums.means[0]), spreads, "" if spreads else FEW_PROMPTS)
    return found.cell(
        unit="tok",
        definition="delivered tokens of all judged answers over the right ones",
        source=source,
    )


def mean_steps(canvases: pd.DataFrame) -> float | None:
    """Denoise steps a canvas; None where there is none."""
    return _known(canvases["steps"].mean()) if len(canvases) else None


def _at_floor(
    row: Mapping[str, Any], tables: Mapping[str, pd.DataFrame], floor_ms: object
) -> float | None:
    """Tokens a second if every step took its floor and nothing else took time."""
    floor = _known(floor_ms)
    if not floor:
        return None
    tokens_per_step = 1.0
    if row["decoding"] == "diffusion":
        first = tables["requests"]
        steps, canvases = mean_steps(tables["canvases"]), float(first["num_canvases"].sum())
        if not steps or not canvases:
            return None
        tokens_per_step = float(first["delivered_tokens"].sum()) / canvases / steps
    return 1e3 * float(row["batch_size"]) * tokens_per_step / floor


def _notes(row: Mapping[str, Any]) -> tuple[str, ...]:
    found = []
    if row["weights"] == "dummy":
        found.append("random weights: a speed of this shape, not of answers")
    if row.get("commit_mode") == FUSED:
        found.append("commits are fused with the next canvas's first step")
    if row["emulated"]:
        found.append("emulated precision: ratios between precisions say nothing about GPUs")
    if row["validity"] == "low_validity":
        found.append(f"low validity: {row['validity_reason']}")
    if row.get("condition") not in (None, "clean") and not pd.isna(row.get("condition")):
        found.append(f"device {row['condition']}: {row['condition_reason']}")
    return tuple(found)


def _work(row: Mapping[str, Any]) -> str:
    """What decides the work, besides the lengths that a point states itself."""
    return f"{row['workload']} with eos_policy={row['eos_policy']}"


def device_of(row: Mapping[str, Any]) -> str:
    """The listed name of a run's device, or what the run calls it: a processor by its own name."""
    reported = str(row["device"])
    listed = recognised(reported)
    if listed is None and reported == "cpu" and not pd.isna(row.get("cpu")):
        return str(row["cpu"])
    return next((name for name, known in DEVICES.items() if known is listed), reported)


def _known(value: object) -> float | None:
    return None if value is None or pd.isna(value) else float(value)  # type: ignore[arg-type, call-overload]


def _unknown(unit: str, definition: str, why: str) -> Cell:
    return Cell(None, None, None, NumberClass.MEASURED, unit, definition, why_unknown=why)
