"""Where a point's wall time went, from its tables: what `bench.stats.attribute` compares."""

import pandas as pd

from bench.stats import Phase, RunTime


def run_time(requests: pd.DataFrame, steps: pd.DataFrame, canvases: pd.DataFrame | None) -> RunTime:
    """Forwards and seconds by phase, the host's rest, and what was delivered, all repeats together.

    Raises:
        ValueError: batches of several rows, whose forwards the tables hold once for every row.
    """
    if (requests["batch_size"] != 1).any():
        raise ValueError(
            f"batch_size is {requests['batch_size'].max()}; times are attributed at batch_size 1"
        )
    by_phase = steps.groupby("phase")["device_ms"].agg(["size", "mean"])
    phases = {
        str(phase): Phase(forwards=float(row["size"]), mean_s=float(row["mean"]) / 1e3)
        for phase, row in by_phase.iterrows()
    }
    device_s = sum(phase.seconds for phase in phases.values())
    has_canvases = canvases is not None and len(canvases) > 0
    return RunTime(
        delivered_tokens=float(requests["delivered_tokens"].sum()),
        phases=phases,
        host_s=max(float(requests["wall_s"].sum()) - device_s, 0.0),
        canvases=float(len(canvases)) if canvases is not None and has_canvases else None,
        denoise_row_steps=phases["denoise"].forwards if "denoise" in phases else None,
        batch_size=1.0,
    )
