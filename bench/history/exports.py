"""A history in the formats of other trackers, which know nothing of environments.

So each name carries the fingerprint: a new driver starts a new series there, too. Formats as their
projects document them: Apache Otava 0.8 (docs/CSV.md: a header, a time column, attributes, metrics
with a direction in its YAML, no missing value), github-action-benchmark 1.22 (a list of name, unit,
value, range, extra; a file for each direction; a range is "± " and two characters or more), Bencher
(Bencher Metric Format JSON: benchmark -> measure -> value, lower_value, upper_value).
"""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from bench.history.entry import SERIES, Entry, Figure, PointEntry
from bench.history.folder import History, read_history
from bench.stats import Better
from bench.writing import writing

_ATTRIBUTES = ("commit", "run", "host")
_DIRECTIONS = {Better.MORE: 1, Better.LESS: -1}


def export(folder: Path, form: str, into: Path) -> list[Path]:
    """Writes a history in another tracker's format.

    Args:
        form: otava (every series), github-action-benchmark or bencher (the last run: both keep
            what came before themselves).
        into: a folder, made if it is not there.

    Returns:
        the files written.

    Raises:
        ValueError: an unknown format, no such history, or no writable folder.
    """
    if form not in FORMATS:
        raise ValueError(f"format {form!r} is unknown; valid: {', '.join(FORMATS)}")
    files = FORMATS[form](read_history(folder))
    with writing(into):
        into.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (into / name).write_text(text, encoding="utf-8", newline="")
    return [into / name for name in files]


def otava(history: History) -> dict[str, str]:
    """A CSV file a series, and the otava.yaml that names them; run Otava in that folder."""
    groups: dict[str, list[tuple[Entry, PointEntry]]] = {}
    for entry in history.entries:
        for point in entry.valid_points:
            groups.setdefault(f"{point.point_id}.{point.fingerprint}", []).append((entry, point))
    files, tests = {}, {}
    for name, own in groups.items():
        metrics = [
            metric
            for metric, (_, better) in SERIES.items()
            if better is not None and all(metric in point.figures for _, point in own)
        ]
        if not metrics:
            continue
        files[f"{name}.csv"] = _csv(own, metrics)
        tests[name] = {
            "type": "csv",
            "file": f"{name}.csv",
            "time_column": "time",
            "attributes": list(_ATTRIBUTES),
            "metrics": {
                m: {"direction": _DIRECTIONS[better], "scale": 1}
                for m in metrics
                if (better := SERIES[m][1]) is not None
            },
        }
    files["otava.yaml"] = yaml.safe_dump({"tests": tests}, sort_keys=False)
    return files


def _csv(own: list[tuple[Entry, PointEntry]], metrics: list[str]) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["time", *_ATTRIBUTES, *metrics])
    for entry, point in own:
        values = [repr(point.figures[metric].value) for metric in metrics]
        writer.writerow(
            [entry.created, entry.commit or "unknown", entry.name, entry.host or "unknown", *values]
        )
    return out.getvalue()


def github_action_benchmark(history: History) -> dict[str, str]:
    """customBiggerIsBetter and customSmallerIsBetter of the last run."""
    lists: dict[Better, list[dict[str, Any]]] = {Better.MORE: [], Better.LESS: []}
    last = history.entries[-1]
    for point in last.valid_points:
        for metric, figure in point.figures.items():
            unit, better = SERIES[metric]
            if better is not None:
                row: dict[str, Any] = {
                    "name": f"{_named(point)} {metric}",
                    "unit": unit,
                    "value": figure.value,
                }
                if figure.lo is not None and figure.hi is not None:
                    row["range"] = f"\N{PLUS-MINUS SIGN} {(figure.hi - figure.lo) / 2:#.6g}"
                row["extra"] = _extra(last, point)
                lists[better].append(row)
    return {
        "customBiggerIsBetter.json": _json(lists[Better.MORE]),
        "customSmallerIsBetter.json": _json(lists[Better.LESS]),
    }


def bencher(history: History) -> dict[str, str]:
    """Bencher Metric Format of the last run."""
    found = {
        _named(point): {
            metric: _measure(figure)
            for metric, figure in point.figures.items()
            if SERIES[metric][1] is not None
        }
        for point in history.entries[-1].valid_points
    }
    return {"bencher.json": _json({name: own for name, own in found.items() if own})}


def _measure(figure: Figure) -> dict[str, float]:
    limits = {"lower_value": figure.lo, "upper_value": figure.hi}
    return {"value": figure.value} | {
        name: limit for name, limit in limits.items() if limit is not None
    }


def _named(point: PointEntry) -> str:
    return f"{point.point_id} [{point.fingerprint}]"


def _extra(entry: Entry, point: PointEntry) -> str:
    facts = [
        f"{name}: {point.facts[name]}"
        for name in ("device", "driver", "cuda", "torch")
        if point.facts[name] is not None
    ]
    return "\n".join([f"run: {entry.name}", f"processes: {point.num_processes}", *facts])


def _json(found: object) -> str:
    return json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[History], dict[str, str]]] = {
    "otava": otava,
    "github-action-benchmark": github_action_benchmark,
    "bencher": bencher,
}
"""By name: a history to files, by their names."""
