"""A run or a history as pytest-benchmark's JSON, which `pytest-benchmark compare` reads; no torch.

Its benchmarks know seconds alone. So every time and every rate of a point is a benchmark: a forward
takes its seconds, and of a rate a token takes them, so that OPS is the rate. A run has a round for
every pass over the prompts (the median forward, the ratio of sums); a history keeps no passes, so
its benchmarks have the one round that is the kept value, with its interval in `extra_info`.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bench.comparison import METRICS
from bench.comparison.metrics import Metric, process_values
from bench.history.entry import SERIES, Entry, Figure, PointEntry, entry_of
from bench.history.folder import read_history
from bench.pytest_bridge.rounds import round_stats
from bench.store import Run, open_run
from bench.writing import writing

FORMAT = "pytest-benchmark"
_FORMAT_VERSION = "5.1.0"  # of the pytest-benchmark whose JSON has exactly these fields
_PASS = ["process_id", "repeat"]
_SCALES = {"s": 1.0, "ms": 1e-3}
_TIMES = (*_SCALES, "tok/s")
_ROUND_IS_A_PASS = "a pass of a process over the prompts"
_ROUND_IS_A_VALUE = "the value kept in the history"


def export_pytest_benchmark(source: Path, into: Path) -> list[Path]:
    """Writes a file a run, numbered in the order the runs were made.

    Args:
        source: a run folder, or a history.
        into: a folder, made if it is not there.

    Raises:
        ValueError: neither of both, a damaged one, nothing valid in it, or no writable folder.
    """
    if (source / "run.json").exists():
        found = [(entry_of(source), list(_of_run(source)))]
    else:
        found = [(entry, list(_of_entry(entry))) for entry in read_history(source).entries]
    files = {
        f"{number:04}_{entry.name}.json": _document(entry, benchmarks)
        for number, (entry, benchmarks) in enumerate(found, 1)
        if benchmarks
    }
    if not files:
        raise ValueError(f"{source} has no valid point with a time")
    with writing(into):
        into.mkdir(parents=True, exist_ok=True)
        for name, document in files.items():
            text = json.dumps(document, indent=2, allow_nan=False) + "\n"
            (into / name).write_text(text, encoding="utf-8")
    return [into / name for name in files]


def _document(entry: Entry, benchmarks: list[dict[str, Any]]) -> dict[str, Any]:
    facts = entry.points[0].facts
    return {
        "machine_info": {
            "node": entry.host,
            "cpu": {"brand_raw": facts.get("cpu"), "count": facts.get("cores")},
            **{name: facts.get(name) for name in ("device", "driver", "cuda", "torch")},
        },
        "commit_info": {
            "id": entry.commit or "unknown",
            "time": None,
            "author_time": None,
            "dirty": entry.dirty == "True",
            "project": "canvasbench",
            "branch": "(unknown)",
        },
        "benchmarks": benchmarks,
        "datetime": entry.created,
        "version": _FORMAT_VERSION,
    }


def _of_run(folder: Path) -> Iterator[dict[str, Any]]:
    run = open_run(folder)
    for point in entry_of(folder).valid_points:
        tables = {name: _own(run, name, point.config_hash) for name in ("requests", "steps")}
        for metric in METRICS.values():
            rounds_s = _passes_s(metric, tables) if metric.is_speed else []
            if rounds_s:
                yield _benchmark(point, metric.name, metric.unit, rounds_s, _ROUND_IS_A_PASS)


def _own(run: Run, name: str, config_hash: str) -> pd.DataFrame:
    table = run.table(name)
    if table is None:
        raise ValueError(f"run {run.path} has no table {name}")
    return table[table["config_hash"] == config_hash]


def _passes_s(metric: Metric, tables: dict[str, pd.DataFrame]) -> list[float]:
    """Seconds of the metric in every pass; empty where one pass has none."""
    found = []
    for _, requests in tables["requests"].groupby(_PASS):
        place = requests.iloc[0][_PASS]
        steps = tables["steps"]
        own = steps[(steps[_PASS] == place).all(axis=1)]
        value = process_values(metric, {"requests": requests, "steps": own})
        if value is None:
            return []
        found.append(_seconds(float(value[0]), metric.unit))
    return found


def _of_entry(entry: Entry) -> Iterator[dict[str, Any]]:
    for point in entry.valid_points:
        for name, figure in point.figures.items():
            unit = SERIES[name][0]
            if unit in _TIMES and figure.value > 0:
                rounds_s = [_seconds(figure.value, unit)]
                yield _benchmark(point, name, unit, rounds_s, _ROUND_IS_A_VALUE)


def _seconds(value: float, unit: str) -> float:
    """A time, or what a token takes at a rate."""
    return 1 / value if unit == "tok/s" else value * _SCALES[unit]


def _benchmark(
    point: PointEntry, metric: str, unit: str, rounds_s: Sequence[float], a_round_is: str
) -> dict[str, Any]:
    name = f"{point.point_id}[{metric}]"
    per = "token" if unit == "tok/s" else "forward or wait"
    return {
        "group": metric,
        "name": name,
        "fullname": f"canvasbench::{name}",
        "params": {"point": point.point_id, "metric": metric},
        "param": metric,
        "extra_info": {"canvasbench": _facts(point, metric, f"{a_round_is}; seconds a {per}")},
        "options": {},
        "stats": round_stats(rounds_s),
    }


def _facts(point: PointEntry, metric: str, definition: str) -> dict[str, Any]:
    kept = point.figures.get(metric)
    others = {
        name: figure.value
        for name, figure in point.figures.items()
        if SERIES[name][0] not in _TIMES
    }
    return {
        "version": 1,
        "point_id": point.point_id,
        "config_hash": point.config_hash,
        "fingerprint": point.facts,
        "validity": point.validity,
        "num_processes": point.num_processes,
        "figures": others | ({} if kept is None else {metric: kept.value}),
        "interval": _interval(kept),
        "definitions": {"round": definition},
    }


def _interval(figure: Figure | None) -> list[float] | None:
    if figure is None or figure.lo is None or figure.hi is None:
        return None
    return [figure.lo, figure.hi]
