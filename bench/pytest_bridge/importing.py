"""pytest-benchmark's JSON into a history: an entry a file, a series a benchmark; no torch.

Series go by environment here, too. A benchmark of `canvasbench_point` brings its fingerprint and
its own metrics; of any other, pytest-benchmark tells processor, system and Python, and its metric
is the seconds of a round. Rounds share a process, so no interval is taken from them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.comparison import digest
from bench.comparison.environment import MACHINE
from bench.history.entry import SERIES, Entry, Figure, PointEntry
from bench.history.folder import add_entry

ROUND = "round_s"
_UNVERSIONED = ("unversioned", "unknown")


def import_pytest_benchmark(file: Path, into: Path) -> Path:
    """Adds what a JSON of pytest-benchmark holds to a history, which is made if it is not there.

    Args:
        file: of `--benchmark-json`, `--benchmark-save` or `--benchmark-autosave`.

    Returns:
        the history's new file; nothing in a history is ever rewritten.

    Raises:
        ValueError: no readable JSON of pytest-benchmark, no benchmark with a figure that a history
            keeps, one that is in the history already, or no writable folder.
    """
    return add_entry(_entry(file, _read(file)), into, str(file))


def _read(file: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{file} is no JSON: {error}") from error
    needed = ("benchmarks", "datetime", "machine_info", "commit_info")
    lacking = [key for key in needed if not isinstance(found, dict) or key not in found]
    if lacking:
        raise ValueError(f"{file} is no JSON of pytest-benchmark: it has no {lacking[0]}")
    return found


def _entry(file: Path, document: Mapping[str, Any]) -> Entry:
    try:
        made = _parsed(document)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        told = f"no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{file} is no JSON of pytest-benchmark: {told}") from error
    if not made.points:
        raise ValueError(f"{file} has no benchmark with a figure that a history keeps")
    text = json.dumps(made.as_json(), sort_keys=True)
    short = hashlib.sha256(text.encode()).hexdigest()[:8]
    return replace(made, name=f"{made.time:%Y%m%dT%H%M%S}-{short}")


def _parsed(document: Mapping[str, Any]) -> Entry:
    created = datetime.fromisoformat(document["datetime"])
    created = created.astimezone(UTC) if created.tzinfo else created.replace(tzinfo=UTC)
    commit, machine = document["commit_info"], document["machine_info"]
    versioned = commit.get("id") not in (None, *_UNVERSIONED)
    node = machine.get("node")
    points = (_point(benchmark, machine) for benchmark in document["benchmarks"])
    return Entry(
        name="",
        created=created.isoformat(timespec="seconds"),
        commit=commit["id"] if versioned else None,
        dirty=str(bool(commit.get("dirty"))) if versioned else None,
        # A host's name is nobody's business; what tells two apart is enough.
        host=None if node is None else hashlib.sha256(str(node).encode()).hexdigest()[:8],
        points=tuple(point for point in points if point.figures),
    )


def _point(benchmark: Mapping[str, Any], machine: Mapping[str, Any]) -> PointEntry:
    own = benchmark.get("extra_info", {}).get("canvasbench", {})
    name = str(benchmark["fullname"])
    facts = dict(own["fingerprint"]) if own else _machine_facts(machine)
    figures = _figures(benchmark["stats"], own)
    return PointEntry(
        point_id=name,
        config_hash=str(own.get("config_hash") or digest({"benchmark": name})),
        fingerprint=digest(facts),
        facts=facts,
        validity=str(own.get("validity", "valid")),
        num_processes=int(own.get("num_processes", 1)),
        figures={key: Figure(value, None, None) for key, value in figures.items()},
    )


def _figures(stats: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, float]:
    """By metric, what a history keeps of: the median round, the benchmark's own figures, and the
    rate of all its rounds."""
    found = {ROUND: float(stats["median"])}
    found |= {name: float(value) for name, value in own.get("figures", {}).items()}
    delivered = own.get("delivered_tokens")
    if delivered is not None:
        found["delivered_tok_per_s"] = float(delivered) / float(stats["mean"])
    return {name: value for name, value in found.items() if name in SERIES}


def _machine_facts(machine: Mapping[str, Any]) -> dict[str, str | None]:
    """What pytest-benchmark knows of an environment, in the names of a fingerprint."""
    cpu = machine.get("cpu") or {}
    known = {
        "cpu": cpu.get("brand_raw"),
        "cores": cpu.get("count"),
        "system": f"{machine.get('system')} {machine.get('machine')}",
        "python": f"{machine.get('python_implementation')} {machine.get('python_version')}",
    }
    told = {name: None if value is None else str(value) for name, value in known.items()}
    return dict.fromkeys(MACHINE) | told
