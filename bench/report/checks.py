"""What a run's checks found, and where a step's time goes by op group."""

from typing import Any

import pandas as pd

from bench.digits import NOT_AVAILABLE, digits, tidy
from bench.report.style import percent
from bench.report.tables import Cell, Table
from bench.report.view import Point, View, as_number

_NAMES = {
    "graph_equals_eager": "execution against the same steps called",
    "op_groups": "time by op group",
}


def check_tables(view: View) -> list[Table]:
    """The checks with their results, then one table of op groups a profiled point."""
    checks = view.tables["checks"]
    if checks.empty:
        return []
    names = {p.point_id: p for p in view.points}
    found = [_checks_table(checks, names)]
    groups = view.tables["op_groups"]
    for key, own in groups.groupby("point_id", sort=False) if len(groups) else ():
        point_id = str(key)
        found.append(_groups_table(own, names[point_id].name if point_id in names else point_id))
    return found


def _checks_table(checks: pd.DataFrame, names: dict[str, Point]) -> Table:
    header = (("point", ""), ("check", ""), ("result", ""), ("found", ""))
    return Table(
        "Checks, each in a process of its own. n/a: nothing to judge.",
        header,
        tuple(_check_cells(dict(row), names) for row in checks.to_dict("records")),
        words=4,
    )


def _check_cells(row: dict[Any, Any], names: dict[str, Point]) -> tuple[Cell, ...]:
    point_id, check = str(row["point_id"]), str(row["check"])
    passed = as_number(row["passed"])
    return (
        Cell(names[point_id].name if point_id in names else point_id),
        Cell(_NAMES.get(check, check)),
        Cell(NOT_AVAILABLE if passed is None else "PASS" if passed else "FAIL"),
        Cell(str(row["detail"])),
    )


def _groups_table(own: pd.DataFrame, name: str) -> Table:
    own = own.sort_values("step_ms", ascending=False)
    total = float(own["step_ms"].sum())
    rows = tuple(_group_cells(dict(row), total) for row in own.to_dict("records"))
    header = (
        ("op group", ""),
        ("time", "ms a step"),
        ("share", "% of all groups"),
        ("floor", "ms"),
        ("floor", "% of time"),
        ("launches", "a step"),
    )
    return Table(
        f"{name}: where a step's time goes, profiled and eager, so no speed. On a GPU times are "
        "its kernels', on a processor torch's operations'.",
        header,
        rows,
        words=1,
    )


def _group_cells(row: dict[Any, Any], total_ms: float) -> tuple[Cell, ...]:
    step_ms, floor_ms = row["step_ms"], as_number(row["floor_ms"])
    return (
        Cell(str(row["op_group"]).replace("_", " ")),
        Cell(digits(step_ms)),
        Cell(percent(step_ms / total_ms)),
        Cell(digits(floor_ms)),
        Cell(percent(floor_ms / step_ms if floor_ms and step_ms else None)),
        Cell(tidy(row["launches"])),
    )
