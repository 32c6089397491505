"""A profile or a difference in a terminal: one table of 100 columns at most, then a few lines."""

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.digits import digits
from bench.profile.advice import advise, main_rows
from bench.profile.diff import ProfileDiff
from bench.profile.folder import Profile
from bench.profile.words import diff_headline, group_name, headline, overhead_sentence
from bench.report.style import percent
from bench.report.view import as_number
from bench.screen import screen

_MOST_ADVICE = 3


def print_profile(profile: Profile, console: Console | None = None) -> None:
    """The step by op group, the headline, what to look at, and what profiling cost."""
    out = screen(console)
    rows = main_rows(profile)
    gap = "idle\nms" if profile.info["on_gpu"] else "Python\nms"
    table = _table("op group", ("time\nms", "share\n%", "busy\nms", gap, "floor\n% of time"))
    for row in rows.to_dict("records"):
        table.add_row(
            Text(group_name(row["op_group"])),
            digits(row["total_ms"]),
            percent(row["share"]),
            digits(row["busy_ms"]),
            digits(row["gap_ms"]),
            percent(as_number(row["floor_share"])),
        )
    out.print(table)
    out.print(Text(f"{headline(profile)}."))
    for advice in advise(profile)[:_MOST_ADVICE]:
        out.print(Text(f"{advice.title}: {advice.evidence}."))
    out.print(Text(f"Profiled: no measurement of speed. {overhead_sentence(profile)}", style="dim"))


def print_diff(diff: ProfileDiff, console: Console | None = None) -> None:
    """What differs, op groups with what became slower first, and the headline."""
    out = screen(console)
    for name, before, after in diff.facts:
        out.print(Text(f"{name}: {before} -> {after}"))
    table = _table("op group", ("A\nms", "B\nms", "change\nms", "noise\nms"), "mostly")
    for row in diff.groups.to_dict("records"):
        table.add_row(
            Text(group_name(row["op_group"])),
            digits(row["before_ms"]),
            digits(row["after_ms"]),
            digits(row["change_ms"], signed=True),
            digits(as_number(row["noise_ms"])),
            Text(str(row["mostly"])),
        )
    out.print(table)
    out.print(Text(f"{diff_headline(diff)}."))
    out.print(
        Text(
            "Both profiled, over the forwards of A's request; noise: two standard errors over "
            "forwards, one process each.",
            style="dim",
        )
    )


def _table(first: str, numbers: tuple[str, ...], last: str | None = None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    if last is not None:
        table.add_column(last, no_wrap=True, overflow="ellipsis")
    return table
