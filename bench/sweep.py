"""One invocation of `run` or `resume`: points composed, planned, measured, merged, reported."""

import contextlib
import hashlib
import itertools
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import provenance
from bench.affordable import affordable, refuse_if_none_fits
from bench.budget import Budget
from bench.build import build_workload, check_points, decoding_of
from bench.checks import check_names, checks_to_do
from bench.checks.run import run_checks
from bench.compact import write_compact
from bench.compose import Point, compose_points, restore_point
from bench.failures import raise_if_full
from bench.interruption import ended_like_interrupted
from bench.launch import Launch, launch
from bench.memory import fits_together
from bench.merge import publish_tables
from bench.plan import Task, blocks, num_batches
from bench.preregistration import preregister, verify
from bench.progress import shown_progress
from bench.report import print_summary, render
from bench.report.style import plural
from bench.shards import failure_folders, finished_processes, set_unfinished_aside, shards
from bench.store import RunFolder, TakenError, open_run

RUNS = Path("results") / "runs"


@ended_like_interrupted()
def run_sweep(
    overrides: Sequence[str], *, default_sweep: bool, claims: Sequence[Mapping[str, Any]] = ()
) -> Path:
    """Runs the sweep that `overrides` describe and returns the run's report.

    Interrupted, also by SIGTERM, it keeps every finished repeat, marks the run and re-raises
    KeyboardInterrupt.

    Args:
        claims: what the run is to judge; preregistered with it (`bench.claims.dossier.promise`).

    Raises:
        ValueError: anything the user can cause, before the first measurement.
    """
    points = compose_points(overrides, decoding_of, default_sweep=default_sweep)
    check_points([point.config for point in points])
    refuse_if_none_fits(points)
    checks = _checks(points[0])
    check_names(checks)
    info = _info(points, claims) | {"checks": checks}
    with _created(points, info) as folder:
        try:
            return _measure(folder, points, fresh=True)
        except ValueError:
            if not shards(folder.path) and not failure_folders(folder.path):
                folder.discard()
            raise


@ended_like_interrupted()
def resume_sweep(path: Path) -> Path:
    """Measures what a run still lacks, failed points included, and returns its report.

    Raises:
        ValueError: no run folder, another run is writing to it, or its configuration or its
            preregistration was changed.
    """
    with RunFolder.reopen(path) as folder:
        points = stored_points(folder.info)
        verify(folder.info, {s.key.config_hash for s in shards(path)}, _prompts_sha256(points))
        if folder.info.get("finished"):
            folder.release()
            return render(open_run(path))
        commit = provenance.git_state()["commit"]
        resumed = [*folder.info.get("resumed", []), {"at": _now(), "commit": commit}]
        folder.note(resumed=resumed)
        return _measure(folder, points, fresh=False)


def stored_points(info: dict[str, Any]) -> list[Point]:
    """The points of a run.json.

    Raises:
        ValueError: it holds no configuration, or a changed one.
    """
    hashes, configs = info.get("config_hashes"), info.get("config")
    if not isinstance(hashes, dict) or not isinstance(configs, dict) or set(hashes) != set(configs):
        raise ValueError("the run's run.json holds no configuration to resume")
    return [restore_point(name, hashes[name], configs[name]) for name in hashes]


def to_do(path: Path, points: Sequence[Point]) -> list[list[Task]]:
    """The tasks a run still lacks, block by block."""
    repeats = {p.config_hash: p.config.measure.num_repeats for p in points}
    finished = finished_processes(shards(path), repeats)
    return list(blocks(points, finished, points[0].config.seed))


def _measure(folder: RunFolder, points: list[Point], *, fresh: bool) -> Path:
    repeats = {p.config_hash: p.config.measure.num_repeats for p in points}
    set_unfinished_aside(folder.path, repeats)
    begin = time.monotonic()
    budget = Budget(points[0].config.time_budget_s)
    checks = folder.info.get("checks", [])
    planned = affordable(folder.path, to_do(folder.path, points))

    def close(*, finished: bool, interrupted: bool) -> None:
        wall_s = folder.info.get("wall_s", 0.0) + time.monotonic() - begin
        try:
            publish_tables(folder.path, keep_shards=not finished)
        except OSError as error:
            raise_if_full(error, folder.path)
            raise
        folder.note(finished=finished, interrupted=interrupted, wall_s=wall_s)
        folder.release()

    with shown_progress(plural(len(points), "point"), _num_batches(planned)) as on_batch:
        try:
            launch(
                points[0].config.launcher,
                Launch(
                    run_folder=folder.path,
                    blocks=planned,
                    seed=points[0].config.seed,
                    refusable=fresh,
                    fits_together=lambda tasks: fits_together(
                        [[p.config for p in t.points] for t in tasks]
                    ),
                    on_batch=on_batch,
                    budget=budget,
                ),
            )
            run_checks(folder.path, points, checks, budget)
        except KeyboardInterrupt:
            close(finished=False, interrupted=True)
            raise
    unchecked = list(checks_to_do(folder.path, points, checks))
    close(finished=not to_do(folder.path, points) and not unchecked, interrupted=False)
    opened = open_run(folder.path)
    if opened.table("points") is None:
        failures = opened.failures
        first = "" if failures is None else f": {failures.iloc[0]['detail']}"
        raise ValueError(
            f"no point of {folder.path} could be measured{first}; its table failures says more, "
            f"`canvasbench resume {folder.path}` tries again"
        )
    report = render(opened)
    if points[0].config.stage is not None:
        write_compact(folder.path)
    print_summary(opened)
    return report


def _checks(point: Point) -> list[str]:
    """The checks of the experiment's stage."""
    config = point.config
    return list(config.stages[config.stage].checks) if config.stage in config.stages else []


def _num_batches(planned: Sequence[Sequence[Task]]) -> int:
    return sum(num_batches(p) for block in planned for task in block for p in task.points)


def _created(points: list[Point], info: Mapping[str, Any]) -> RunFolder:
    """The folder asked for, or results/runs/<timestamp>-<short config hash>.

    A second run of the same configuration in one second gets -2 behind that, and so on.
    """
    asked = points[0].config.run_dir
    if asked is not None:
        return RunFolder.create(Path(asked), info)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    name = f"{stamp}-{_run_hash(points)[:8]}"
    for own in itertools.chain([name], (f"{name}-{i}" for i in itertools.count(2))):
        with contextlib.suppress(TakenError):
            return RunFolder.create(RUNS / own, info)
    raise AssertionError("names never end")


def _run_hash(points: list[Point]) -> str:
    return hashlib.sha256("".join(p.config_hash for p in points).encode()).hexdigest()[:12]


def _prompts_sha256(points: list[Point]) -> list[str]:
    return sorted({build_workload(p.config).sha256 for p in points})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _info(points: list[Point], claims: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What run.json says before the first measurement."""
    config = points[0].config
    configs = {p.point_id: p.resolved for p in points}
    hashes = {p.point_id: p.config_hash for p in points}
    prompts_sha256 = ",".join(_prompts_sha256(points))
    return {
        "created": _now(),
        "config_hash": _run_hash(points),
        "command": provenance.command_line(),
        "points": [p.point_id for p in points],
        "config_hashes": hashes,
        "config": configs,
        "git": provenance.git_state(),
        "host": provenance.host(),
        "machine": provenance.machine(config.device, config.threads or os.cpu_count() or 1),
        "packages": provenance.packages(),
        "prompts_sha256": prompts_sha256,
        **preregister(configs, hashes, prompts_sha256, claims),
    }
