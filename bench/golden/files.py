"""A golden on disk: `golden.json` and a table a point, of one JSON line a prompt.

Made to be read in a review: sorted, facts a line each, and the point's figures beside them, so that
a change of the code shows which prompts it changed and by how much in all.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.comparison.metrics import METRICS, prompt_sums
from bench.golden.table import COLUMNS, Answer, Facts, GoldenPoint, golden_points
from bench.store import Run
from bench.writing import writing

VERSION = 1
_INDEX = "golden.json"
_COLLECT = "`canvasbench golden collect` makes one"
_NOT_KEPT = ("run_dir",)


@dataclass(frozen=True, slots=True)
class Golden:
    """Golden points and where they come from.

    Attributes:
        overrides: of `canvasbench run`, which measure it again.
        provenance: when and with which code it was collected.
    """

    overrides: tuple[str, ...]
    provenance: Facts
    points: tuple[GoldenPoint, ...]


def collected(run: Run, overrides: Sequence[str]) -> Golden:
    """A golden of a run that has just been made with `overrides`.

    Raises:
        ValueError: the run is unfinished, has an invalid point, or none with weights
            that have a hash.
    """
    if not run.info.get("finished") or run.failures is not None:
        raise ValueError(f"run {run.path} is unfinished or has failures; `canvasbench resume` it")
    points = golden_points(run)
    if not points:
        raise ValueError(f"run {run.path} has no point whose weights have a hash")
    for point in points:
        if point.fault is not None:
            raise ValueError(f"point {point.point_id} of run {run.path} is {point.fault}")
    git = run.info["git"]
    return Golden(
        overrides=tuple(o for o in overrides if o.partition("=")[0] not in _NOT_KEPT),
        provenance={
            "collected": str(run.info["created"]),
            "commit": git["commit"],
            "uncommitted changes": None if git["dirty"] is None else str(git["dirty"]),
        },
        points=tuple(points),
    )


def write_golden(golden: Golden, folder: Path) -> list[Path]:
    """Writes a golden, in the place of one that is there, and returns its files.

    Raises:
        ValueError: the folder cannot be written.
    """
    files = {f"{point.point_id}.jsonl": _lines(point) for point in golden.points}
    index = {
        "golden_version": VERSION,
        "overrides": list(golden.overrides),
        **golden.provenance,
        "points": {
            point.point_id: {
                "work": point.work,
                "machine": point.machine,
                "prompts": len(point.answers),
                "figures": _figures(point),
                "sha256": _sha256(files[f"{point.point_id}.jsonl"]),
            }
            for point in golden.points
        },
    }
    files[_INDEX] = json.dumps(index, indent=2, allow_nan=False) + "\n"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in _table_names(folder) - set(files):
            (folder / name).unlink(missing_ok=True)
        for name, text in files.items():
            part = folder / f"{name}.part"
            part.write_text(text, encoding="utf-8")
            part.replace(folder / name)
    return [folder / name for name in files]


def read_golden(folder: Path) -> Golden:
    """A golden from its folder.

    Raises:
        ValueError: no golden, one of another version, or a table that is missing or was changed.
    """
    path = folder / _INDEX
    index = _index(path)
    if (version := index.get("golden_version")) != VERSION:
        raise ValueError(
            f"{path} has golden version {version!r}; this canvasbench reads {VERSION}:"
            " collect it anew"
        )
    try:
        return Golden(
            overrides=tuple(str(each) for each in index["overrides"]),
            provenance={
                name: index[name] for name in ("collected", "commit", "uncommitted changes")
            },
            points=tuple(
                GoldenPoint(
                    name,
                    dict(point["work"]),
                    dict(point["machine"]),
                    _answers(folder / f"{name}.jsonl", point["sha256"]),
                )
                for name, point in index["points"].items()
            ),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}; collect it anew") from error


def _index(path: Path) -> dict[str, Any]:
    found = _parsed(path, _text(path))
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: no mapping; collect it anew")
    return found


def _answers(path: Path, sha256: str) -> tuple[Answer, ...]:
    text = _text(path)
    if _sha256(text) != sha256:
        raise ValueError(f"{path} was changed after it was collected; collect it anew")
    return tuple(_answer(_parsed(path, line)) for line in text.splitlines())


def _answer(found: Mapping[str, Any]) -> Answer:
    columns: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in found.items()
    }
    return Answer(**columns)


def _lines(point: GoldenPoint) -> str:
    rows = ({name: asdict(answer)[name] for name in COLUMNS} for answer in point.answers)
    return "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def _figures(point: GoldenPoint) -> dict[str, float | None]:
    """The point's metrics of contents, for whoever reviews a change; never read back."""
    tables = point.measured().tables
    figures: dict[str, float | None] = {}
    for metric in METRICS.values():
        if not metric.by_process:
            found = prompt_sums(metric, tables)
            figures[metric.name] = None if found is None else round(found[1].ratio, 6)
    return figures


def _table_names(folder: Path) -> set[str]:
    """Of the golden that is there; a folder's other files are left alone."""
    try:
        points = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["points"]
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {f"{name}.jsonl" for name in points}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"golden {path.parent} has no {path.name}; {_COLLECT}") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}; collect it anew") from error


def _parsed(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: {error}; collect it anew") from error


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
