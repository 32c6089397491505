"""`canvasbench run --dry-run`: the plan, whether it fits, how long it took before; runs nothing."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from bench.build import check_points, decoding_of
from bench.compose import Point, compose_points
from bench.memory import available_bytes, fits_together, need
from bench.plan import blocks
from bench.store import RunFolder, open_run
from bench.sweep import RUNS

_GIB = 1 << 30
_CONSIDERED_RUNS = 20


def print_plan(overrides: Sequence[str], *, default_sweep: bool) -> None:
    """Prints what `run` with the same arguments would do.

    Raises:
        ValueError: as `run` would, before its first measurement.
    """
    points = compose_points(overrides, decoding_of, default_sweep=default_sweep)
    check_points([point.config for point in points])
    asked = points[0].config.run_dir
    if asked is not None:
        RunFolder.check_creatable(Path(asked))
    planned = list(blocks(points, set(), points[0].config.seed))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for name in ("point", "config", "processes", "requests", "memory\nGiB", "expected"):
        left = name in ("point", "config")
        table.add_column(name, justify="left" if left else "right", overflow="fold")
    total: float | None = 0.0
    for point in points:
        seconds = expected_s(point)
        total = None if total is None or seconds is None else total + seconds
        table.add_row(
            point.point_id,
            point.config_hash,
            str(point.config.measure.num_processes),
            str(_num_requests(point)),
            f"{need(point.config).total / _GIB:.2f}",
            _duration(seconds),
        )
    console = Console()
    console.print(table)
    device = points[0].config.device
    groups = [[p.config for p in task.points] for task in planned[0]]
    together = "side by side, taking turns" if fits_together(groups) else "one after the other"
    console.print(
        f"{sum(map(len, planned))} processes in {len(planned)} blocks, loaded {together}; "
        f"{available_bytes(device) / _GIB:.1f} GiB free on {device} (memory is estimated)"
    )
    console.print(
        f"expected: {_duration(total)} of timed requests, from earlier runs of the same points here"
        if total is not None
        else "expected: n/a, no earlier run of every point lies in results/runs"
    )


def expected_s(point: Point) -> float | None:
    """Timed seconds of the point from the newest run that measured the same configuration."""
    for folder in _recent_runs():
        try:
            run = open_run(folder)
            requests = run.requests
        except ValueError:
            continue
        if requests is None:
            continue
        own = requests[requests["config_hash"] == point.config_hash]
        if len(own):
            together = own["batch_size"] * getattr(point.config.backend, "connections", 1)
            return float((own["wall_s"] / together).mean()) * _num_requests(point)
    return None


def _recent_runs() -> Iterator[Path]:
    found = sorted(RUNS.glob("*/run.json"), key=lambda p: p.stat().st_mtime, reverse=True)
    for path in found[:_CONSIDERED_RUNS]:
        try:
            if json.loads(path.read_text()).get("finished"):
                yield path.parent
        except (OSError, json.JSONDecodeError):
            continue


def _num_requests(point: Point) -> int:
    measure = point.config.measure
    return point.config.workload.num_prompts * measure.num_repeats * measure.num_processes


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "n/a"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
