"""Where a point's wall time went, from its tables: what `bench.stats.attribute` compares.

Tables hold a batched forward once for every row that was active in it; time passes once.
"""

import pandas as pd

from bench.phases import DENOISING
from bench.stats import Phase, RunTime

_REQUEST = ["process_id", "repeat", "request_id"]
_FORWARD = ["batch", "phase", "canvas_index", "step"]


def forwards_by_phase(requests: pd.DataFrame, steps: pd.DataFrame) -> dict[str, int]:
    """How many forwards of each phase ran: those of a batch once, and a fused one once."""
    own = requests[_REQUEST].assign(batch=_batches(requests))
    rows = steps.merge(own, on=_REQUEST, validate="many_to_one").drop_duplicates(_FORWARD)
    return {str(phase): int(count) for phase, count in rows["phase"].value_counts().items()}


def run_time(requests: pd.DataFrame, steps: pd.DataFrame, canvases: pd.DataFrame | None) -> RunTime:
    """Forwards and seconds by phase, the host's rest and what was delivered, repeats together."""
    batch = _batches(requests)
    own = requests[_REQUEST].assign(batch=batch)
    rows = steps.merge(own, on=_REQUEST, validate="many_to_one")
    forwards = rows.drop_duplicates(_FORWARD)
    by_phase = forwards.groupby("phase")["device_ms"].agg(["size", "mean"])
    phases = {
        str(phase): Phase(forwards=float(row["size"]), mean_s=float(row["mean"]) / 1e3)
        for phase, row in by_phase.iterrows()
    }
    wall_s = float(requests["wall_s"].groupby(batch).first().sum())
    device_s = sum(phase.seconds for phase in phases.values())
    has_canvases = canvases is not None and len(canvases) > 0
    main = forwards[forwards["phase"].isin([*DENOISING, "decode"])]
    row_steps = float(rows["phase"].isin(DENOISING).sum())
    return RunTime(
        delivered_tokens=float(requests["delivered_tokens"].sum()),
        phases=phases,
        host_s=max(wall_s - device_s, 0.0),
        canvases=float(len(canvases)) if canvases is not None and has_canvases else None,
        denoise_row_steps=row_steps or None,
        batch_size=float(batch.value_counts().loc[main["batch"]].mean()),
    )


def _batches(requests: pd.DataFrame) -> pd.Series:
    """The batch of every request: rows of one follow each other and share their very time."""
    shared = requests[["process_id", "repeat", "wall_s"]]
    stretch = (shared != shared.shift()).any(axis=1).cumsum()
    part = requests.groupby(stretch).cumcount() // requests["batch_size"]
    return pd.DataFrame({"stretch": stretch, "part": part}).groupby(["stretch", "part"]).ngroup()
