"""What is compared, and how its value is read from a point's tables.

A speed has one value a process: a ratio of sums for rates, the median for the time of a forward, as
in `points`. So has memory: the most that the process held until its last repeat had ended, whatever
else it had measured before. A content metric has a numerator and a denominator a prompt, of the
first repeat of the first process, as all others repeat it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.metrics import RATES, first_repeat, request_times
from bench.phases import FUSED, SEPARATE, TIMED
from bench.stats import Better, PromptSums, process_means

Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric that runs are compared by.

    Attributes:
        better: which way it improves; None where neither is better.
        by_process: judged between processes; else by prompt.
        relative: an effect of it is a share of the baseline; else a difference of shares.
    """

    name: str
    unit: str
    better: Better | None
    by_process: bool
    relative: bool = True

    @property
    def is_speed(self) -> bool:
        """A time or a rate."""
        return self.by_process and self.name not in PEAKS


PEAKS = ("peak_rss_bytes", "peak_device_allocated_bytes")
"""The most memory a process held: the processor's, and the device's where that is known."""


METRICS = {
    metric.name: metric
    for metric in (
        Metric("delivered_tok_per_s", "tok/s", Better.MORE, True),
        Metric("decode_tok_per_s", "tok/s", Better.MORE, True),
        Metric("step_ms", "ms", Better.LESS, True),
        Metric("commit_ms", "ms", Better.LESS, True),
        Metric("fused_ms", "ms", Better.LESS, True),
        Metric("prefill_ms", "ms", Better.LESS, True),
        Metric("decode_ms", "ms", Better.LESS, True),
        *(Metric(name, "bytes", Better.LESS, True) for name in PEAKS),
        Metric("steps_per_canvas", "steps", Better.LESS, False),
        Metric("accuracy", "of prompts", Better.MORE, False, relative=False),
        Metric("tokens_per_answer", "tokens", None, False),
        Metric("revised_after_accept", "a token", None, False),
        Metric("argmax_flip_rate", "a step and token", None, False),
        Metric("revocations_per_token", "a token", None, False),
    )
}

COMMITS = {"commit_ms": SEPARATE, "fused_ms": FUSED}
"""Metrics that only one way of committing has, with that way (`commit_mode` of `points`)."""
_CANVAS_SUMS = {
    "steps_per_canvas": ("steps", None),
    "revised_after_accept": ("revised_after_accept", "content_tokens"),
    "argmax_flip_rate": ("flips", "flip_opportunities"),
    "revocations_per_token": ("revocations", "content_tokens"),
}


def chosen(names: list[str] | None) -> list[Metric]:
    """The metrics asked for, all by default.

    Raises:
        ValueError: an unknown name.
    """
    for name in names or ():
        if name not in METRICS:
            raise ValueError(f"metric {name!r} is unknown; valid: {', '.join(METRICS)}")
    return [METRICS[name] for name in names or METRICS]


def process_values(metric: Metric, tables: Tables) -> np.ndarray | None:
    """(processes,) of a speed or of memory, positive, in the metric's unit; None without any."""
    if metric.name in PEAKS:
        peaks = tables["windows"].groupby("process_id")[metric.name].max().dropna()
        return peaks.to_numpy(dtype=float) if len(peaks) else None
    if metric.name in TIMED:
        steps = tables["steps"]
        own = steps[steps["phase"] == TIMED[metric.name]]
        values = own.groupby("process_id")["device_ms"].median().to_numpy(dtype=float)
        return values if len(values) and (values > 0).all() else None
    requests = tables["requests"]
    top, bottom = RATES[metric.name]
    known = request_times(requests).assign(process_id=requests["process_id"])
    known = known[[top, bottom, "process_id"]].dropna()
    if known.empty or not (known.groupby("process_id")[[top, bottom]].sum() > 0).all(axis=None):
        return None
    return process_means(
        known[top].to_numpy(float), known[bottom].to_numpy(float), known["process_id"]
    )[1]


def prompt_sums(metric: Metric, tables: Tables) -> tuple[np.ndarray, PromptSums] | None:
    """Ids of the prompts and the metric's sums by prompt; None where the point has none."""
    requests = first_repeat(tables["requests"])
    if metric.name == "accuracy":
        judged = requests.dropna(subset=["correct"])
        return _sums(judged["request_id"], judged["correct"].astype(float), None)
    if metric.name == "tokens_per_answer":
        return _sums(requests["request_id"], requests["delivered_tokens"], None)
    canvases = first_repeat(tables["canvases"])
    top, bottom = _CANVAS_SUMS[metric.name]
    if canvases.empty or canvases[top].isna().any():
        return None
    return _sums(canvases["request_id"], canvases[top], canvases[bottom] if bottom else None)


def _sums(
    prompt: pd.Series, numerator: pd.Series, denominator: pd.Series | None
) -> tuple[np.ndarray, PromptSums] | None:
    if not len(prompt):
        return None
    below = np.ones(len(prompt)) if denominator is None else denominator.to_numpy(dtype=float)
    rows = pd.DataFrame({"prompt": prompt.to_numpy(), "top": numerator.to_numpy(dtype=float)})
    sums = rows.assign(bottom=below).groupby("prompt").sum().sort_index()
    if sums["bottom"].sum() <= 0:
        return None
    return sums.index.to_numpy(), PromptSums(sums["top"].to_numpy(), sums["bottom"].to_numpy())
