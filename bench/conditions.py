"""What the machine did while a point was measured, and what that says of the point."""

from typing import Any

import pandas as pd

from bench.telemetry import Condition

Row = dict[str, Any]


def machine_row(windows: pd.DataFrame, requests: pd.DataFrame) -> Row:
    """Condition, temperatures, clocks, power and energy of a point from its timed windows.

    Args:
        windows: one row a process and repeat, as `bench.telemetry.window_row` gives it.
    """
    if windows.empty:
        return {"condition": str(Condition.UNKNOWN), "condition_reason": "not sampled"}
    gravest = min(windows["condition"], key=list(Condition).index)
    reasons = windows.loc[windows["condition"] == gravest, "condition_reason"]
    row: Row = {
        "condition": str(gravest),
        "condition_reason": str(reasons.iloc[0]),
        "temperature_begin_c": _first(windows["temperature_begin_c"]),
        "temperature_end_c": _last(windows["temperature_end_c"]),
        "power_limit_w": _least(windows["power_limit_w"]),
    }
    for name in ("sm_clock_mean_mhz", "power_mean_w"):
        row[name] = _weighted(windows[name], windows["window_s"])
    joules = windows["joules"]
    tokens = float(requests["delivered_tokens"].sum())
    if joules.notna().all() and tokens:
        total = float(joules.sum())
        row["joules_per_token"] = total / tokens
        row["delivered_tok_per_s_per_w"] = tokens / total if total else None
    return row


def faults(windows: pd.DataFrame) -> list[str]:
    """Why the machine's state makes a point's numbers a measurement fault, once a condition."""
    bad = windows[windows["condition_invalidates"].astype(bool)].drop_duplicates("condition")
    return [f"{row.condition}: {row.condition_reason}" for row in bad.itertuples()]


def _first(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.iloc[0]) if len(known) else None


def _last(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.iloc[-1]) if len(known) else None


def _least(values: pd.Series) -> float | None:
    known = values.dropna()
    return float(known.min()) if len(known) else None


def _weighted(values: pd.Series, weights: pd.Series) -> float | None:
    known = values.notna()
    total = float(weights[known].sum())
    return float((values[known] * weights[known]).sum()) / total if total > 0 else None
