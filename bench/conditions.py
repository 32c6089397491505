"""What the machine did while a point was measured, and what that says of the point."""

import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from bench.telemetry import Condition

Row = dict[str, Any]

_COUNTED = re.compile(r"in (\d+)(?: of \d+)? samples")
"""Where a window's reason counts its samples (`bench.telemetry.verdict`)."""
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def machine_row(windows: pd.DataFrame, requests: pd.DataFrame) -> Row:
    """Condition, temperatures, clocks, power and energy of a point from its timed windows.

    Args:
        windows: one row a process and repeat, as `bench.telemetry.window_row` gives it.
    """
    if windows.empty:
        return {"condition": str(Condition.UNKNOWN), "condition_reason": "not sampled"}
    row: Row = state(windows) | {
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


def state(windows: pd.DataFrame) -> Row:
    """The gravest condition of a point's timed windows, and why."""
    gravest = min(windows["condition"], key=list(Condition).index)
    return {"condition": str(gravest), "condition_reason": _reason(windows, gravest)}


def faults(windows: pd.DataFrame) -> list[str]:
    """Why the machine's state makes a point's numbers a measurement fault, once a condition."""
    bad = windows[windows["condition_invalidates"].astype(bool)].drop_duplicates("condition")
    return [f"{condition}: {_reason(windows, condition)}" for condition in bad["condition"]]


def _reason(windows: pd.DataFrame, condition: str) -> str:
    """Why windows were in a condition: each reason once, with its figures in all windows."""
    own = windows.loc[windows["condition"] == condition, "condition_reason"]
    wanted = dict.fromkeys(_shape(part) for reason in own for part in _parts(reason))
    parts = [part for reason in windows["condition_reason"] for part in _parts(reason)]
    total = int(windows["num_samples"].sum())
    return "; ".join(
        _over_windows([part for part in parts if _shape(part) == shape], total) for shape in wanted
    )


def _parts(reason: str) -> list[str]:
    return str(reason).split("; ")


def _shape(part: str) -> str:
    return _NUMBER.sub("#", part)


def _over_windows(told: Sequence[str], num_samples: int) -> str:
    """What windows told in the same words: samples are added up, other figures become a range."""
    counts = [int(found[1]) for part in told if (found := _COUNTED.search(part))]
    plain = [_COUNTED.sub("", part) for part in told]
    columns = zip(*(_NUMBER.findall(part) for part in plain), strict=True)
    figures = iter([sorted(set(column), key=float) for column in columns])

    def over_all(found: re.Match[str]) -> str:
        own = next(figures)
        bound = found.string[: found.start()].endswith("up to ")
        return own[-1] if bound or len(own) == 1 else f"{own[0]} to {own[-1]}"

    said = _NUMBER.sub(over_all, plain[0])
    if not counts:
        return said
    of = f" of {num_samples}" if "in # of # samples" in _shape(told[0]) else ""
    return f"{said}in {sum(counts)}{of} samples"


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
