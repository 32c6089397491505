"""When each step of an answer ended, on the clock of its request.

Deliveries are measured on the host's clock (`first_canvas_s`, `gap_s`, `last_delivery_s`). Between
two of them the time is shared out in proportion to the forwards' own times, so that host work which
no forward carries cannot shift what comes later.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bench.phases import DENOISING
from bench.report.view import as_number

_ORDER = {"prefill": 0, "commit": 1, "fused": 1, "denoise": 2, "decode": 2}


def canvas_step_ends_s(
    forwards: pd.DataFrame, deliveries_s: Mapping[int, float]
) -> dict[int, np.ndarray]:
    """When each denoise step of each canvas ended, seconds since the request began.

    Args:
        forwards: rows of `steps` of one request that ran alone.
        deliveries_s: when each canvas was in hand, by canvas index, in order.

    Returns:
        Ends by canvas index; canvases without recorded forwards are missing.
    """
    ends: dict[int, np.ndarray] = {}
    begin_s = 0.0
    for index, delivered_s in deliveries_s.items():
        own = _in_order(forwards[forwards["canvas_index"] == index])
        if len(own):
            denoised = own["phase"].isin(DENOISING).to_numpy()
            ends[index] = _shared_out(own, begin_s, delivered_s)[denoised]
        begin_s = delivered_s
    return ends


def token_ends_s(forwards: pd.DataFrame, row: Mapping[str, Any], tokens: int) -> np.ndarray | None:
    """When each autoregressive token was in hand; the first comes from the prefill.

    Args:
        row: of `requests`.

    Returns:
        None where the forwards recorded are not one a token.
    """
    first_s, last_s = (as_number(row.get(name)) for name in ("first_canvas_s", "last_delivery_s"))
    own = _in_order(forwards)
    if first_s is None or last_s is None or len(own) != tokens:
        return None
    return np.concatenate(([first_s], _shared_out(own.iloc[1:], first_s, last_s)))


def deliveries_s(row: Mapping[str, Any], canvases: pd.DataFrame) -> dict[int, float] | None:
    """When each canvas of a request was in hand, by index; None where that was not recorded."""
    first_s = as_number(row.get("first_canvas_s"))
    if first_s is None or canvases.empty or "gap_s" not in canvases.columns:
        return None
    ordered = canvases.sort_values("canvas_index")
    gaps_s = ordered["gap_s"].fillna(0.0).to_numpy(dtype=float)  # the first has none
    ends_s = first_s + np.cumsum(gaps_s)
    return dict(zip(ordered["canvas_index"].astype(int), ends_s.tolist(), strict=True))


def _in_order(forwards: pd.DataFrame) -> pd.DataFrame:
    rank = forwards["phase"].map(_ORDER)
    by = forwards.assign(_rank=rank).sort_values(["canvas_index", "_rank", "step"], kind="stable")
    return by.drop(columns="_rank")


def _shared_out(forwards: pd.DataFrame, begin_s: float, end_s: float) -> np.ndarray:
    """Ends of forwards that fill the time between two moments, in proportion to their own times."""
    taken = forwards["device_ms"]
    if "host_ms" in forwards.columns and forwards["host_ms"].notna().all():
        taken = forwards["host_ms"]
    summed = np.cumsum(taken.to_numpy(dtype=float))
    whole = summed[-1] if len(summed) else 0.0
    if whole <= 0:
        return np.full(len(summed), end_s)
    return begin_s + (end_s - begin_s) * summed / whole
