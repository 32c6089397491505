"""The difference of two profiles as tables of text."""

from bench.digits import digits
from bench.profile.diff import ProfileDiff
from bench.profile.tables import number_cell, percent_cell, short_name
from bench.profile.words import group_name
from bench.report.tables import Cell, Table


def changes_table(diff: ProfileDiff) -> Table:
    """Op groups over the request, what became slower first."""
    header = (
        ("op group", ""),
        ("A", "ms"),
        ("B", "ms"),
        ("change", "ms"),
        ("change", "%"),
        ("two standard errors", "ms"),
        ("mostly", ""),
    )
    cells = tuple(
        (
            Cell(group_name(row["op_group"])),
            number_cell(row["before_ms"]),
            number_cell(row["after_ms"]),
            Cell(digits(row["change_ms"], signed=True)),
            percent_cell(row["change_ms"] / row["before_ms"] if row["before_ms"] else None, True),
            number_cell(row["noise_ms"]),
            Cell(short_name(row["mostly"])),
        )
        for row in diff.groups.to_dict("records")
    )
    return Table("Over the forwards of A's request.", header, cells, words=1)


def phase_changes_table(diff: ProfileDiff) -> Table:
    """The same a forward of each phase."""
    header = (
        ("phase", ""),
        ("op group", ""),
        ("A", "ms a forward"),
        ("B", "ms a forward"),
        ("change", "ms"),
        ("mostly", ""),
    )
    cells = tuple(
        (
            Cell(str(row["phase"])),
            Cell(group_name(row["op_group"])),
            number_cell(row["before_ms"]),
            number_cell(row["after_ms"]),
            Cell(digits(row["change_ms"], signed=True)),
            Cell(short_name(row["mostly"])),
        )
        for row in diff.phases.to_dict("records")
    )
    return Table("A forward, by phase.", header, cells)


def facts_table(diff: ProfileDiff) -> Table | None:
    """What was not the same; None where everything known was."""
    if not diff.facts:
        return None
    rows = tuple((Cell(name), Cell(a), Cell(b)) for name, a, b in diff.facts)
    return Table(
        "As noted while they were recorded.", (("", ""), ("A", ""), ("B", "")), rows, words=3
    )
