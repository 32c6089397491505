"""Checks beside a sweep: what no timed request can show, each in a process of its own.

A check looks at one point of every loaded model (`bench.plan.clean_slate`). What it finds lies in
the run folder as a shard of its own, so a check that is there is not done again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.backends import Backend
from bench.compose import Point
from bench.plan import clean_slate
from bench.shards import checks_done

CHECKS = ("graph_equals_eager", "op_groups")
"""Every check's name; its place here numbers its shards, so new ones come last."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found.

    Attributes:
        passed: None where the check measures and judges nothing, or had nothing to compare.
        detail: one line, with figures.
        op_groups: rows of the table of that name.
    """

    passed: bool | None
    detail: str
    op_groups: list[dict[str, Any]] = field(default_factory=list)


def check_names(names: Sequence[str]) -> None:
    """Refuses a check that does not exist.

    Raises:
        ValueError: naming it and those that do.
    """
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise ValueError(f"check {unknown[0]!r} is unknown; valid: {', '.join(CHECKS)}")


def checks_to_do(
    run_folder: Path, points: Sequence[Point], names: Sequence[str]
) -> Iterator[tuple[str, Point]]:
    """Checks that a run still lacks, each with the point it looks at."""
    done = checks_done(run_folder)
    for name in names:
        seen: set[tuple[object, ...]] = set()
        for point in points:
            slate = clean_slate(point.config)
            if point.config.backend.name is not Backend.native or slate in seen:
                continue
            seen.add(slate)
            if (point.config_hash, CHECKS.index(name)) not in done:
                yield name, point
