"""An arm that is ready: its command line has run once, untimed, and told what is to be measured.

That run is the throw-away one of its arm: it fills compilers' and the system's caches. It goes
through `canvasbench run` of the arm's own code, which checks the overrides and writes a run.json.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.ab.arm import Arm
from bench.store import RunFolder, open_run

_FIRST_PROCESS_ONLY_S = 2
"""A budget that is spent once the first process has loaded torch."""
_OF_A_RUN_ONLY = ("finished", "interrupted", "wall_s", "resumed", "command", "created")


@dataclass(frozen=True, slots=True)
class AskedPoint:
    """A point as an arm's own code configures it."""

    point_id: str
    config_hash: str
    resolved: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An arm with its points.

    Attributes:
        info: run.json of its throw-away run, less what is true of that run alone.
    """

    arm: Arm
    points: tuple[AskedPoint, ...]
    info: Mapping[str, Any]

    def create(self, path: Path, **fields: Any) -> RunFolder:
        """A run folder for what its processes measure.

        Raises:
            ValueError: the folder exists already, or it cannot be made.
        """
        return RunFolder.create(path, {**self.info, **fields})


def prepare(arm: Arm, overrides: Sequence[str], folder: Path, max_pairs: int) -> Prepared:
    """Runs every point of an arm in one process.

    Args:
        overrides: arguments of `canvasbench run`.
        folder: not there yet; it is removed again.
        max_pairs: the most processes that an arm may get; preregistered in its run.json.

    Raises:
        ValueError: the arm's code cannot be run so, in the words of that code.
    """
    arm.check_code()
    budget = f"time_budget_s={_FIRST_PROCESS_ONLY_S}"
    try:
        run(arm, [*overrides, f"measure.num_processes={max_pairs}", budget], folder)
        return _prepared(arm, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def run(arm: Arm, overrides: Sequence[str], folder: Path) -> None:
    """`canvasbench run` of an arm's own code into a folder that is not there yet.

    Raises:
        ValueError: it cannot be run so, in the words of that code.
    """
    done = arm.run("-m", "bench.cli", "run", *overrides, f"run_dir={folder}")
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise ValueError(
            f"the {arm.name}, {arm.source}, cannot run this: {last.removeprefix('error: ')}"
        )


def _prepared(arm: Arm, folder: Path) -> Prepared:
    try:
        info = open_run(folder).info
        hashes, configs = info["config_hashes"], info["config"]
        points = tuple(AskedPoint(name, hashes[name], configs[name]) for name in hashes)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the {arm.name}, {arm.source}, writes results that cannot be read here: {error}"
        ) from error
    told = json.loads(json.dumps(info))
    return Prepared(arm, points, {k: v for k, v in told.items() if k not in _OF_A_RUN_ONLY})
