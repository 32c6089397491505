"""One fresh process of an arm: what it measures of a point, and the metrics' values of it.

The process is a worker of the harness (`bench.worker`) of the arm's own code. All it is to do is
known beforehand, so it is told at once and answers to its end.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from bench.ab.prepared import AskedPoint, Prepared
from bench.comparison.metrics import METRICS, Tables, process_values
from bench.merge import empty
from bench.parquet import read_parts
from bench.redact import redact
from bench.shards import shards

SPEEDS = tuple(metric for metric in METRICS.values() if metric.is_speed)
_TABLES = ("requests", "steps")


class ProcessFailedError(Exception):
    """A process did not measure what it was to; the message says why in one line."""


def measure_process(
    prepared: Prepared, point: AskedPoint, process_id: int, run_folder: Path
) -> dict[str, float]:
    """Measures a point in a process of its own, into shards of `run_folder`.

    Args:
        process_id: of the run; it also sets the order of the prompts, so that both halves of a pair
            have the same.

    Returns:
        The speeds that the point has, by name, in their metric's unit.

    Raises:
        ProcessFailedError: it died, fell silent or was refused.
        ValueError: what it wrote cannot be read.
    """
    repeats = int(point.resolved["measure"]["num_repeats"])
    task = {
        "task_id": f"{point.point_id}-p{process_id:03}",
        "process_id": process_id,
        "points": [
            {
                "point_id": point.point_id,
                "config_hash": point.config_hash,
                "resolved": dict(point.resolved),
            }
        ],
    }
    orders: list[dict[str, Any]] = [
        {"config_hash": point.config_hash, "repeat": repeat, "run_folder": str(run_folder)}
        for repeat in range(repeats)
    ]
    timeout_s = float(point.resolved["measure"]["timeout_s"])
    try:
        done = prepared.arm.run(
            "-m",
            "bench.worker",
            given="".join(f"{json.dumps(line)}\n" for line in (task, *orders)),
            timeout_s=timeout_s,
        )
    except subprocess.TimeoutExpired:
        raise ProcessFailedError(f"it did not end within {timeout_s:g} s") from None
    _check(done, repeats)
    return values(run_folder, point.config_hash, process_id)


def _check(done: subprocess.CompletedProcess[str], repeats: int) -> None:
    """Raises where a process did not say that each repeat is done."""
    try:
        replies = [json.loads(line) for line in done.stdout.splitlines()]
        kinds = [str(reply["kind"]) for reply in replies]
    except (ValueError, KeyError, TypeError):
        raise ProcessFailedError("it does not answer as a worker of canvasbench") from None
    for kind, reply in zip(kinds, replies, strict=True):
        if kind in ("refused", "failed"):
            raise ProcessFailedError(str(reply.get("detail")))
    if done.returncode or kinds.count("done") != repeats:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise ProcessFailedError(redact(f"exit code {done.returncode}: {last}"[:500]))


def values(run_folder: Path, config_hash: str, process_id: int) -> dict[str, float]:
    """The speeds of a process, by name; those that the point does not have are missing.

    Raises:
        ValueError: a shard's table is damaged or of a future version.
    """
    key = config_hash, process_id
    own = [s for s in shards(run_folder) if (s.key.config_hash, s.key.process_id) == key]
    tables: Tables = {}
    for name in _TABLES:
        paths = [path for s in own if (path := s.path / f"{name}.parquet").exists()]
        tables[name] = read_parts(name, paths) if paths else empty(name)
    found = {metric.name: process_values(metric, tables) for metric in SPEEDS}
    return {name: float(value[0]) for name, value in found.items() if value is not None}
