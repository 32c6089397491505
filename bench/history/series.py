"""A history as series: one a point, metric and fingerprint, in order of time, with its changes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.comparison.environment import Difference, differences
from bench.history.changes import Change, find_changes
from bench.history.entry import SERIES, Entry, PointEntry
from bench.history.folder import History, read_history
from bench.stats import Better, Status


@dataclass(frozen=True, slots=True)
class Observation:
    """A run's value.

    Attributes:
        known: texts of the annotations that begin with this run.
    """

    entry: str
    created: str
    commit: str | None
    host: str | None
    value: float
    lo: float | None
    hi: float | None
    num_processes: int
    known: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Series:
    """Runs of a point whose times may be compared.

    Attributes:
        began: facts that changed since the point's series before; empty for its first.
        changes: confirmed, known shifts apart.
    """

    point_id: str
    metric: str
    fingerprint: str
    facts: dict[str, str | None]
    began: tuple[Difference, ...]
    observations: tuple[Observation, ...]
    changes: tuple[Change, ...]

    @property
    def unit(self) -> str:
        return SERIES[self.metric][0]

    @property
    def better(self) -> Better | None:
        return SERIES[self.metric][1]

    def status(self, change: Change) -> Status:
        """Whether a change was for the worse."""
        if self.better is None:
            return Status.CHANGED
        grew = change.effect > 0
        return Status.IMPROVEMENT if grew is (self.better is Better.MORE) else Status.REGRESSION


def read_series(folder: Path, metric: str, points: Sequence[str] | None = None) -> list[Series]:
    """The series of a metric in a history, by point and then by time.

    Raises:
        ValueError: an unknown metric or point, or a history that cannot be read.
    """
    if metric not in SERIES:
        raise ValueError(f"metric {metric!r} is unknown; valid: {', '.join(SERIES)}")
    return series_of(read_history(folder), metric, points)


def series_of(history: History, metric: str, points: Sequence[str] | None = None) -> list[Series]:
    """The series of a metric; invalid points are in none.

    Raises:
        ValueError: an unknown point, or no run with the metric.
    """
    known = dict.fromkeys(p.point_id for entry in history.entries for p in entry.points)
    for name in points or ():
        if name not in known:
            raise ValueError(f"point {name!r} is not in {history.path}; valid: {', '.join(known)}")
    found = [
        series
        for point_id in sorted(points or known)
        for series in _of_point(history, metric, point_id)
    ]
    if not found:
        raise ValueError(f"no valid point of {history.path} has {metric}")
    return found


def _of_point(history: History, metric: str, point_id: str) -> list[Series]:
    groups: dict[str, list[tuple[Entry, PointEntry]]] = {}
    for entry in history.entries:
        for point in entry.points:
            usable = point.validity != "invalid" and metric in point.figures
            if point.point_id == point_id and usable:
                groups.setdefault(point.fingerprint, []).append((entry, point))
    found: list[Series] = []
    for fingerprint, own in groups.items():
        facts = own[0][1].facts
        began = differences(found[-1].facts, facts) if found else ()
        seen = tuple(_observation(history, metric, *pair) for pair in own)
        starts = tuple(place for place, each in enumerate(seen) if each.known)
        changes = tuple(find_changes([each.value for each in seen], starts))
        found.append(Series(point_id, metric, fingerprint, facts, began, seen, changes))
    return found


def _observation(history: History, metric: str, entry: Entry, point: PointEntry) -> Observation:
    figure = point.figures[metric]
    return Observation(
        entry=entry.name,
        created=entry.created,
        commit=entry.commit,
        host=entry.host,
        value=figure.value,
        lo=figure.lo,
        hi=figure.hi,
        num_processes=point.num_processes,
        known=tuple(
            each.text
            for each in history.annotations
            if each.entry == entry.name and each.concerns(point.point_id, metric)
        ),
    )


def plain_series(found: Sequence[Series]) -> list[dict[str, Any]]:
    """Series in plain types, for JSON."""
    return [
        {
            **asdict(series),
            "unit": series.unit,
            "changes": [
                asdict(change)
                | {
                    "entry": series.observations[change.index].entry,
                    "status": series.status(change).value,
                }
                for change in series.changes
            ],
        }
        for series in found
    ]
