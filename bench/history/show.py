"""A history in a terminal: every series with its runs, its change points and known shifts."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.comparison import words
from bench.history.changes import MIN_SEGMENT
from bench.history.series import Observation, Series
from bench.screen import screen

_SHOWN = ("device", "cpu", "driver", "cuda", "torch", "precision")


def print_series(found: Sequence[Series], console: Console | None = None) -> None:
    """All series, then one line that says what stands out."""
    out = screen(console)
    for series in found:
        out.print(Text(heading(series), style="bold"))
        for line in lines(series):
            out.print(Text(line))
        out.print(_table(series))
        out.print()
    out.print(Text(standout(found)))


def heading(series: Series) -> str:
    """Metric, point and fingerprint."""
    better = f", {series.better.value} is better" if series.better else ""
    return (
        f"{series.metric} of {series.point_id} ({series.unit}{better}), series {series.fingerprint}"
    )


def lines(series: Series) -> list[str]:
    """Where it was measured, why it began, and its changes."""
    facts = [f"{name} {series.facts[name]}" for name in _SHOWN if series.facts.get(name)]
    told = [", ".join(facts)] if facts else []
    if series.began:
        told.append(f"a new series, as these changed: {'; '.join(map(str, series.began))}")
    for change in series.changes:
        first = series.observations[change.index]
        told.append(
            f"{series.status(change).value} of {100 * change.effect:+.2f} % since"
            f" {_named(first)}: {change.n_before} runs at {words.value(change.before)}, then"
            f" {change.n_after} at {words.value(change.after)}"
            f" (permutation p {words.p_value(change.p_value)})"
        )
    told += [
        f"known shift at {_named(each)}: {text}"
        for each in series.observations
        for text in each.known
    ]
    if len(series.observations) < 2 * MIN_SEGMENT:
        told.append(
            f"{len(series.observations)} runs: change points need {2 * MIN_SEGMENT} in a series"
        )
    return told


def standout(found: Sequence[Series]) -> str:
    """How many change points there are, and the last of them."""
    changes = [
        (series.observations[change.index].created, series, change)
        for series in found
        for change in series.changes
    ]
    if not changes:
        return f"No change point in {len(found)} series."
    _, series, change = max(changes, key=lambda each: each[0])
    number = "1 change point" if len(changes) == 1 else f"{len(changes)} change points"
    return (
        f"{number} in {len(found)} series; the last:"
        f" {series.point_id} {series.metric} {100 * change.effect:+.2f} %,"
        f" {series.status(change).value}, since {_named(series.observations[change.index])}."
    )


def _named(seen: Observation) -> str:
    commit = f", commit {seen.commit[:12]}" if seen.commit else ""
    return f"{seen.entry} ({seen.created[:10]}{commit})"


def _table(series: Series) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("run", no_wrap=True)
    table.add_column("commit", no_wrap=True)
    table.add_column("host", no_wrap=True)
    table.add_column(f"value\n{series.unit}", justify="right", no_wrap=True)
    table.add_column("95 % interval", justify="right", no_wrap=True)
    table.add_column("processes", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    changes = {change.index: change for change in series.changes}
    for place, seen in enumerate(series.observations):
        mark = "known shift" if seen.known else ""
        if place in changes:
            mark = f"{series.status(changes[place]).value} {100 * changes[place].effect:+.1f} %"
        table.add_row(
            seen.entry,
            escape((seen.commit or words.UNKNOWN)[:12]),
            escape(seen.host or words.UNKNOWN),
            words.value(seen.value),
            _interval(seen),
            str(seen.num_processes),
            mark,
        )
    return table


def _interval(seen: Observation) -> str:
    if seen.lo is None or seen.hi is None:
        return words.UNKNOWN
    return f"{words.value(seen.lo)} to {words.value(seen.hi)}"
