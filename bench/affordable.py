"""Points that this machine's memory cannot hold, said before anything is loaded."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench.backends import Backend
from bench.compose import Point
from bench.failures import record_failure
from bench.memory import shortage
from bench.plan import Task
from bench.schema import Launcher


def refuse_if_none_fits(points: Sequence[Point]) -> None:
    """Refuses a run of which nothing could be measured.

    Raises:
        ValueError: no point fits; the message says what the first needs and what is free.
    """
    short = [_shortage(point) for point in points]
    if short and all(short):
        raise ValueError(short[0])


def _shortage(point: Point) -> str | None:
    """Why a point does not fit in this machine's memory; of other machines nothing is known."""
    here = point.config.launcher.name is Launcher.local
    elsewhere = point.config.backend.name in (Backend.simulated, Backend.openai)
    return shortage(point.config) if here and not elsewhere else None


def affordable(run_folder: Path, planned: Sequence[Sequence[Task]]) -> list[list[Task]]:
    """The plan without points too large for this machine, each of which becomes a failure row."""
    kept = []
    for block in planned:
        tasks = []
        for task in block:
            fitting = []
            for point in task.points:
                detail = _shortage(point)
                if detail is None:
                    fitting.append(point)
                    continue
                record_failure(
                    run_folder,
                    point,
                    task.process_id,
                    reason="out_of_memory",
                    detail=detail,
                    log=run_folder / "logs" / f"{task.task_id}.log",
                )
            if fitting:
                tasks.append(replace(task, points=tuple(fitting)))
        if tasks:
            kept.append(tasks)
    return kept
