"""What the report reads of a run: tables that may be missing, and points with typed access.

A run that was interrupted, or that measured one decoding only, still gets a report. So every table
is a data frame here, empty when the run has none, and every number is a float or None.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from bench.report.style import Estimate

_DECODINGS = ("diffusion", "autoregressive")
_PRECISIONS = ("fp32", "bf16", "fp8")
_CONTENT_TABLES = ("canvases", "steps", "positions", "repairs")
"""What the plots of contents read; points with random weights have no place there."""
_OTHER_TABLES = ("failed_requests", "loads", "reconciled", "windows")
"""What only a run against a server has, and what the machine did in each timed window."""
_STEPS_UNTOLD = ("aggregate", "none")
_MEASURED_TABLES = (*_CONTENT_TABLES, "requests")
"""What plots and comparisons read; invalid points have no place there."""


class Run(Protocol):
    """What a run must have; other tables (requests, canvases, steps, positions, repairs, failures,
    checks, op_groups) are read when present."""

    @property
    def path(self) -> Path: ...
    @property
    def info(self) -> Mapping[str, Any]: ...
    @property
    def points(self) -> pd.DataFrame | None: ...


def as_number(value: Any) -> float | None:
    """A finite number, or None for everything else that a null or a wrong type may look like."""
    try:
        if value is None or pd.isna(value):
            return None
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if abs(number) != float("inf") else None


@dataclass(frozen=True, slots=True)
class Point:
    """One row of `points`.

    Attributes:
        variant: what tells it from points of the same decoding and precision, "" if nothing has to.
    """

    row: Mapping[str, Any]
    variant: str = ""

    def number(self, name: str) -> float | None:
        return as_number(self.row.get(name))

    def count(self, name: str) -> int | None:
        number = self.number(name)
        return None if number is None else int(number)

    def text(self, name: str) -> str:
        value = self.row.get(name)
        return "" if value is None or value is pd.NA or value != value else str(value)

    def flag(self, name: str) -> bool:
        return bool(self.number(name))

    def estimate(self, name: str) -> Estimate:
        return Estimate(self.number(name), self.number(f"{name}_lo"), self.number(f"{name}_hi"))

    @property
    def point_id(self) -> str:
        return self.text("point_id")

    @property
    def decoding(self) -> str:
        return self.text("decoding")

    @property
    def precision(self) -> str:
        return self.text("precision")

    @property
    def name(self) -> str:
        """diffusion fp8; with what else the sweep varied where that is not unique."""
        words = (self.decoding, self.precision, self.variant)
        return " ".join(word for word in words if word) or self.point_id

    @property
    def is_diffusion(self) -> bool:
        return self.decoding == "diffusion"

    @property
    def usable(self) -> bool:
        """Not invalidated by a measurement fault; an invalid point is shown, never summarised."""
        return self.text("validity") != "invalid"

    @property
    def dummy(self) -> bool:
        """Random weights: its speed means something, its contents nothing."""
        return self.text("weights") == "dummy"

    @property
    def capabilities(self) -> Mapping[str, Any]:
        """What its backend can tell (`bench.backends.capabilities`); empty in older runs."""
        try:
            told = json.loads(self.text("capabilities") or "{}")
        except ValueError:
            return {}
        return told if isinstance(told, dict) else {}

    @property
    def missing(self) -> Mapping[str, str]:
        """Metrics its backend cannot give, with reasons."""
        found = self.capabilities.get("missing")
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    @property
    def tells_steps(self) -> bool:
        """Whether the steps of each canvas are known."""
        return self.capabilities.get("steps") not in _STEPS_UNTOLD

    @property
    def served(self) -> bool:
        """Sent to a server as a load."""
        return self.text("backend") == "openai"

    @property
    def one_process(self) -> bool:
        return (self.count("num_processes") or 1) == 1


@dataclass(frozen=True, slots=True)
class View:
    """A run as the report sees it: no table is None, points come in their fixed order."""

    path: Path
    info: Mapping[str, Any]
    points: tuple[Point, ...]
    tables: Mapping[str, pd.DataFrame]

    @classmethod
    def of(cls, run: Run) -> "View":
        names = (*_MEASURED_TABLES, "failures", "checks", "op_groups")
        tables = {name: _frame(getattr(run, name, None)) for name in names}
        read = getattr(run, "table", lambda _: None)
        tables |= {name: _frame(read(name)) for name in _OTHER_TABLES}
        rows = _frame(getattr(run, "points", None)).to_dict("records")
        points = _told_apart([Point({str(k): v for k, v in row.items()}) for row in rows])
        random = {p.point_id for p in points if p.dummy}
        invalid = {p.point_id for p in points if not p.usable}
        for name in _CONTENT_TABLES:
            tables[name] = _without(tables[name], random)
        for name in _MEASURED_TABLES:
            tables[name] = _without(tables[name], invalid)
        info = getattr(run, "info", None) or {}
        return cls(Path(run.path), info, tuple(sorted(points, key=_order)), tables)

    @property
    def diffusion(self) -> tuple[Point, ...]:
        return tuple(p for p in self.points if p.is_diffusion)

    @property
    def dummy(self) -> bool:
        return bool(self.points) and all(p.dummy for p in self.points)

    @property
    def has_content(self) -> bool:
        """Whether any point can tell of steps, acceptance, self-correction or repair."""
        return any(p.usable and not p.dummy and p.tells_steps for p in self.diffusion)

    @property
    def simulated(self) -> bool:
        """No model ran for some point: its numbers are made up."""
        return any(p.text("backend") == "simulated" for p in self.points)

    @property
    def emulated(self) -> bool:
        return any(p.flag("emulated") for p in self.points)

    @property
    def one_process(self) -> bool:
        return bool(self.points) and all(p.one_process for p in self.points)

    @property
    def device(self) -> str:
        if self.simulated:
            return "simulated device"
        machine = self.info.get("machine") or {}
        named = next((p.text("device") for p in self.points if p.text("device")), "")
        device = str(machine.get("device") or named or "unknown device")
        if device == "cpu" and machine.get("cpu"):
            return f"{machine['cpu']}, {machine.get('threads', '?')} threads"
        return device

    @property
    def date(self) -> str:
        return str(self.info.get("created") or "")[:10] or "undated"

    @property
    def timed(self) -> str:
        """What the clock covers, in the run's own words."""
        return next((p.text("timed") for p in self.points if p.text("timed")), "not stated")

    def table(self, name: str, *needed: str) -> pd.DataFrame:
        """A table, or an empty one when it or a needed column is missing."""
        frame = self.tables[name]
        return frame if all(c in frame.columns for c in needed) else pd.DataFrame(columns=needed)

    def content(self, name: str, *needed: str) -> pd.DataFrame:
        """Rows of the first repeat of each point: the same seed gives the same canvases in each."""
        frame = self.table(name, "point_id", *needed)
        for level in ("process_id", "repeat"):
            if level in frame.columns and len(frame):
                frame = frame[frame[level] == frame.groupby("point_id")[level].transform("min")]
        return frame


def _frame(table: pd.DataFrame | None) -> pd.DataFrame:
    return pd.DataFrame() if table is None else table


def _without(table: pd.DataFrame, point_ids: set[str]) -> pd.DataFrame:
    if not point_ids or "point_id" not in table.columns:
        return table
    return table[~table["point_id"].isin(point_ids)]


def _told_apart(points: list[Point]) -> list[Point]:
    """Points with a variant where decoding and precision are those of another one, too."""
    names = Counter(point.name for point in points)

    def variant(point: Point) -> str:
        common = f"{point.decoding}-{point.precision}"
        return point.point_id.removeprefix(common).lstrip("-") if names[point.name] > 1 else ""

    return [replace(point, variant=variant(point)) for point in points]


def _order(point: Point) -> tuple[int, int, str]:
    def rank(value: str, known: tuple[str, ...]) -> int:
        return known.index(value) if value in known else len(known)

    ranks = rank(point.decoding, _DECODINGS), rank(point.precision, _PRECISIONS)
    return *ranks, point.point_id
