"""Throughput and energy against batch: one sibling's curve, from a run or from projections."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from bench.devices import DEVICES, recognised
from bench.metrics import request_times
from bench.phases import FUSED
from bench.procurement.cell import Cell, NumberClass
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.process_draws import log_sd
from bench.stats import process_means
from bench.store import Run

Metric = Literal["delivered_tok_per_s", "joules_per_token"]
METRICS: tuple[Metric, ...] = ("delivered_tok_per_s", "joules_per_token")
HIGHER_IS_BETTER = {"delivered_tok_per_s": True, "joules_per_token": False}
_SAME = (
    "model",
    "weights",
    "precision",
    "kernels",
    "execution",
    "backend",
    "device",
    "workload",
    "eos_policy",
    "max_new_tokens",
    "max_denoising_steps",
    "early_stop",
    "commit_mode",
    "vocabulary",
    "min_belief",
)
"""Columns of `points` in which those of one curve agree."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One sibling's metric over batch sizes.

    Attributes:
        kind: measured or projected.
        device: a name in `bench.devices`, or the run's own where it is not listed.
        prompt_tokens: None where prompts differ in length.
        steps: forced denoise steps a canvas; None when autoregressive or when content decides.
        batch_sizes: ascending.
        values: one row a process, one value a batch size; a projection has one row.
        log_sds: of a projection's error on the log scale, one a batch size; empty when measured.
        source: the run's folder, or what the projection rests on.
    """

    decoding: str
    metric: Metric
    kind: NumberClass
    device: str
    precision: str
    prompt_tokens: int | None
    reply_tokens: int
    steps: float | None
    batch_sizes: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    log_sds: tuple[float, ...] = ()
    source: str = ""

    def logs(self, batch_sizes: Sequence[int]) -> np.ndarray:
        """(processes, batch sizes): logarithms at these of the curve's batch sizes."""
        columns = [self.batch_sizes.index(size) for size in batch_sizes]
        return np.log(np.array(self.values)[:, columns])


def measured_curves(run: Run) -> list[Curve]:
    """Every curve of a run over at least two batch sizes.

    Invalid points are left out, and points of a server, whose load is its connections. A process
    counts where it measured every batch size of the curve.
    """
    points = run.points
    points = points[(points["validity"] != "invalid") & points["connections"].isna()]
    found: list[Curve] = []
    for _, group in points.groupby(list(_SAME), dropna=False, sort=False):
        if group["batch_size"].nunique() < 2:
            continue
        for metric in METRICS:
            curve = _measured(run, group.drop_duplicates("batch_size"), metric)
            if curve is not None:
                found.append(curve)
    return found


def projected_curves(points: Iterable[OperatingPoint]) -> list[Curve]:
    """Every curve of projected points over at least two batch sizes; limits become log errors."""
    groups: dict[tuple[object, ...], list[OperatingPoint]] = {}
    for point in points:
        key = (
            *(point.device, point.decoding, point.precision),
            *(point.prompt_tokens, point.reply_tokens, point.steps),
        )
        groups.setdefault(key, []).append(point)
    found: list[Curve] = []
    for group in groups.values():
        ordered = sorted(group, key=lambda point: point.batch_size)
        for metric in METRICS:
            cells = [_cell(point, metric) for point in ordered]
            if len(ordered) > 1 and all(cell.value is not None for cell in cells):
                found.append(_projected(ordered, cells, metric))
    return found


def _measured(run: Run, group: pd.DataFrame, metric: Metric) -> Curve | None:
    ordered = group.sort_values("batch_size")
    requests = run.requests
    assert requests is not None
    by_batch = [_process_values(run, point_id, metric) for point_id in ordered["point_id"]]
    if any(values is None for values in by_batch):
        return None
    known = [values for values in by_batch if values is not None]
    shared = sorted(set.intersection(*(set(values) for values in known)))
    if not shared:
        return None
    own = requests[requests["point_id"].isin(ordered["point_id"])]
    lengths = own["prompt_tokens"].unique()
    first = ordered.iloc[0]
    listed = recognised(str(first["device"]))
    is_forced = first["decoding"] == "diffusion" and not bool(first["early_stop"])
    return Curve(
        decoding=str(first["decoding"]),
        metric=metric,
        kind=NumberClass.MEASURED,
        device=next((k for k, d in DEVICES.items() if d is listed), str(first["device"])),
        precision=str(first["precision"]),
        prompt_tokens=int(lengths[0]) if len(lengths) == 1 else None,
        reply_tokens=int(first["max_new_tokens"]),
        steps=float(first["max_denoising_steps"]) if is_forced else None,
        batch_sizes=tuple(int(size) for size in ordered["batch_size"]),
        values=tuple(tuple(values[process] for values in known) for process in shared),
        source=f"{run.path}{', commits fused' * (first['commit_mode'] == FUSED)}",
    )


def _process_values(run: Run, point_id: str, metric: Metric) -> dict[int, float] | None:
    """The metric of each process; None where any of it is unknown or zero."""
    requests, windows = run.requests, run.table("windows")
    assert requests is not None
    own = requests[requests["point_id"] == point_id]
    if metric == "delivered_tok_per_s":
        times = request_times(own)
        ids, means = process_means(times["tokens"], times["wall_s"], own["process_id"])
    else:
        if windows is None:
            return None
        spent = windows[windows["point_id"] == point_id]
        joules = spent.groupby("process_id")["joules"].sum(min_count=1)
        tokens = own.groupby("process_id")["delivered_tokens"].sum().reindex(joules.index)
        if spent["joules"].isna().any() or not (tokens > 0).all():
            return None
        ids, means = joules.index.to_numpy(), (joules / tokens).to_numpy(dtype=float)
    if not len(means) or not (np.isfinite(means) & (means > 0)).all():
        return None
    return {int(i): float(mean) for i, mean in zip(ids, means, strict=True)}


def _cell(point: OperatingPoint, metric: Metric) -> Cell:
    return point.system_tok_per_s if metric == "delivered_tok_per_s" else point.joules_per_token


def _projected(points: Sequence[OperatingPoint], cells: Sequence[Cell], metric: Metric) -> Curve:
    first = points[0]
    return Curve(
        decoding=first.decoding,
        metric=metric,
        kind=NumberClass.PROJECTED,
        device=first.device,
        precision=first.precision,
        prompt_tokens=first.prompt_tokens,
        reply_tokens=first.reply_tokens,
        steps=first.steps,
        batch_sizes=tuple(point.batch_size for point in points),
        values=(tuple(float(cell.value or 0.0) for cell in cells),),
        log_sds=tuple(log_sd(cell) for cell in cells),
        source=first.source,
    )
