"""Requests and canvases that stand out of an otherwise even run: cold starts, canvases cut short.

Where steps are forced every canvas is the same work, so one that took half the time was fewer
steps, and a first delivery many times the median paid for something else. Named, never removed.
"""

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from bench.claims.observed import Observed

_LATE, _SHORT = 5.0, 0.5
"""Times the median above which a first delivery, below which a canvas, is not like the rest."""
_SHOWN = 12


def oddities(point: Observed) -> list[str]:
    """One sentence each, in the order of the requests; nothing where a canvas may stop early."""
    steps = point.conditions["steps"]
    if steps is not None and not str(steps).startswith("forced"):
        return []
    found = [*_late_starts(point), *_short_canvases(point)]
    more = len(found) - _SHOWN
    return found if more <= 0 else [*found[:_SHOWN], f"and {more} more like these"]


def _late_starts(point: Observed) -> Iterator[str]:
    requests = point.requests
    median = float(requests["first_canvas_s"].median())
    begins = ~requests.duplicated("process_id")
    for row, is_first in zip(requests.to_dict("records"), begins, strict=True):
        seconds = float(row["first_canvas_s"])
        if seconds > _LATE * median:
            yield (
                f"{_named(point, row)} waited {seconds:.3g} s for its first text, "
                f"{seconds / median:.3g} times the median: "
                f"{'a cold start' if is_first else 'something held it up'}"
            )


def _short_canvases(point: Observed) -> Iterator[str]:
    if point.canvases.empty:
        return
    gaps = point.canvases["gap_s"]
    median = float(gaps.median())
    for row in point.canvases[gaps < _SHORT * median].to_dict("records"):
        seconds = float(row["gap_s"])
        yield (
            f"canvas {row['canvas_index']} (from 0) of {_named(point, row)} took "
            f"{seconds * 1e3:.3g} ms, {seconds / median:.2g} of the median: it stopped early"
        )


def _named(point: Observed, row: Mapping[Hashable, Any]) -> str:
    """A request, with what tells it from its repetitions."""
    name = f"request {row['request_id']}"
    for column in ("process", "repeat"):
        key = column if column == "repeat" else f"{column}_id"
        if point.requests[key].nunique() > 1:
            name += f" of {column} {row[key]}"
    return name
