"""One invocation of `run`: points composed and loaded, measured, written, reported."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench import provenance
from bench.build import build_session, build_workload, decoding_of
from bench.collect import Collector
from bench.compose import Point, compose_points
from bench.report import print_summary, render
from bench.runner import PointRun, run_points
from bench.store import RunWriter, open_run

_RUNS = Path("results") / "runs"


def run_sweep(overrides: Sequence[str], *, default_sweep: bool) -> Path:
    """Runs the sweep that `overrides` describe and returns the run's report.

    Interrupted, it keeps every finished repeat, marks the run and re-raises KeyboardInterrupt.

    Raises:
        ValueError: anything the user can cause, before the first measurement.
    """
    points = compose_points(overrides, decoding_of, default_sweep=default_sweep)
    threads = points[0].config.threads or os.cpu_count() or 1
    torch.set_num_threads(threads)
    runs = [PointRun(p, build_session(p.config), build_workload(p.config)) for p in points]
    for run in runs:
        run.session.check([run.session.encode(prompt.text) for prompt in run.workload.prompts])
    folder = _run_folder(points)
    writer = RunWriter(folder, _info(runs, threads))
    begin = time.monotonic()
    try:
        _measure(runs, writer)
    except KeyboardInterrupt:
        writer.close(finished=False, wall_s=time.monotonic() - begin)
        raise
    writer.close(finished=True, wall_s=time.monotonic() - begin)
    opened = open_run(folder)
    report = render(opened)
    print_summary(opened)
    return report


def _measure(runs: list[PointRun], writer: RunWriter) -> None:
    total = sum(
        -(-len(run.workload.prompts) // run.point.config.batch_size)
        * run.point.config.measure.num_repeats
        for run in runs
    )
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    collectors = {run.point.point_id: Collector(run) for run in runs}

    def write(run: PointRun) -> None:
        name = run.point.point_id
        writer.write_point(name, collectors[name].tables())

    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{len(runs)} points", total=total)
        run_points(
            runs,
            seed=runs[0].point.config.seed,
            on_repeat=write,
            on_request=lambda: progress.advance(task),
        )


def _run_folder(points: list[Point]) -> Path:
    """The folder asked for, or results/runs/<timestamp>-<short config hash>."""
    asked = points[0].config.run_dir
    if asked is not None:
        return Path(asked)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return _RUNS / f"{stamp}-{_run_hash(points)[:8]}"


def _run_hash(points: list[Point]) -> str:
    return hashlib.sha256("".join(p.config_hash for p in points).encode()).hexdigest()[:12]


def _info(runs: list[PointRun], threads: int) -> dict[str, Any]:
    """What run.json says before the first measurement."""
    points = [run.point for run in runs]
    identities = {run.session.identity.model: run.session.identity for run in runs}
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "config_hash": _run_hash(points),
        "command": provenance.command_line(),
        "points": [p.point_id for p in points],
        "config": {p.point_id: json.loads(json.dumps(p.resolved)) for p in points},
        "git": provenance.git_state(),
        "machine": provenance.machine(points[0].config.device, threads),
        "packages": provenance.packages(),
        "prompts_sha256": runs[0].workload.sha256,
        "weights": {
            name: {"kind": identity.weights, "sha256": identity.weights_sha256}
            for name, identity in identities.items()
        },
    }
