"""Runs a sweep's checks one after the other, each in its own process, and keeps what they find."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from bench import provenance
from bench.budget import Budget
from bench.checks import CHECKS, Finding, checks_to_do
from bench.compose import Point
from bench.failures import record_failure
from bench.shards import write_check
from bench.tables import frame


def run_checks(
    run_folder: Path, points: Sequence[Point], names: Sequence[str], budget: Budget
) -> None:
    """Does what is left of the checks while the budget allows; what fails is a failure row.

    Raises:
        DiskFullError: the run folder's disk is full.
    """
    for name, point in list(checks_to_do(run_folder, points, names)):
        if not budget.allows_another():
            return
        log = run_folder / "logs" / f"{name}-{point.config_hash}.log"
        begin = time.monotonic()
        with budget.spent_on():
            found = _run(name, point, log)
        if isinstance(found, Finding):
            _keep(run_folder, name, point, found, time.monotonic() - begin)
        else:
            record_failure(
                run_folder, point, 0, reason="exception", detail=f"{name}: {found}", log=log
            )


def _run(name: str, point: Point, log: Path) -> Finding | str:
    """The finding, or what went wrong."""
    described = {
        "point_id": point.point_id,
        "config_hash": point.config_hash,
        "resolved": point.resolved,
    }
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as errors:
        try:
            done = subprocess.run(
                [sys.executable, "-m", "bench.checks.child", name],
                input=json.dumps(described),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                timeout=point.config.measure.timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            return f"no answer for {error.timeout:g} s"
    if done.returncode:
        return f"the process ended with exit code {done.returncode}"
    return Finding(**json.loads(done.stdout))


def _keep(run_folder: Path, name: str, point: Point, found: Finding, seconds: float) -> None:
    keys = {
        "config_hash": point.config_hash,
        "point_id": point.point_id,
        "host": provenance.host(),
    }
    row = asdict(found) | {"check": name, "seconds": seconds}
    groups = row.pop("op_groups")
    tables = {"checks": frame("checks", [row], keys)}
    if groups:
        tables["op_groups"] = frame("op_groups", groups, keys)
    write_check(run_folder, point.config_hash, CHECKS.index(name), tables)
