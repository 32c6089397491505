"""A comparison in a terminal: what differs around the numbers first, then a table a point."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.comparison import words
from bench.comparison.result import ComparedPoint, Comparison, Judged
from bench.screen import screen
from bench.stats import HypothesisTest, Status


def print_comparison(found: Comparison, console: Console | None = None) -> None:
    """Environment, points, verdicts and causes; the verdict's line last."""
    out = screen(console)
    for line in environment_lines(found):
        out.print(Text(line))
    for point in found.points:
        out.print()
        out.print(Text(f"{point.point_id}", style="bold"))
        for line in point_lines(point):
            out.print(Text(line))
        if point.judged:
            out.print(metrics_table(point))
        for line in reason_lines(point):
            out.print(Text(line))
    out.print()
    for line in method_lines(found):
        out.print(Text(line, style="dim"))
    out.print(Text(verdict_line(found)))


def environment_lines(found: Comparison) -> list[str]:
    """The two runs and everything around the numbers in which they differ."""
    lines = []
    for role, side in (("baseline ", found.baseline), ("candidate", found.candidate)):
        commit = side.environment.get("commit")
        code = f", commit {commit[:12]}" if commit else ""
        lines.append(f"{role}  {side.name} ({side.created or 'undated'}{code})")
        lines += [f"           note: {note}" for note in side.notes]
    if found.environment:
        lines.append("The environments differ:")
        lines += [f"  {difference}" for difference in found.environment]
    else:
        lines.append("The environments are the same.")
    lines += [f"Only the {run} has {point}; it is not compared." for run, point in found.alone]
    return lines


def point_lines(point: ComparedPoint) -> list[str]:
    """What limits a point's numbers; said before them."""
    lines = [f"configurations differ in {each}" for each in point.config]
    return lines + [f"note: {note}" for note in point.notes]


def reason_lines(point: ComparedPoint) -> list[str]:
    """Why each metric that is not EQUIVALENT has its verdict, and where a change comes from."""
    reasons: dict[str, list[Judged]] = {}
    for judged in point.judged:
        if judged.verdict.status is not Status.EQUIVALENT:
            reasons.setdefault(judged.verdict.reason, []).append(judged)
    lines = [
        f"{', '.join(j.metric.name for j in own)}: {own[0].verdict.status.value}: {reason}"
        for reason, own in reasons.items()
    ]
    return [*lines, *point.cause_lines]


def method_lines(found: Comparison) -> list[str]:
    """How the verdicts were made, and what they cannot know."""
    if not found.family:
        return []
    told = f"p adjusted over {found.family} tests (Benjamini-Hochberg); detectable: with power 0.8."
    drift = "The runs were not interleaved: what changed between them in time is in every effect."
    speeds = any(j.metric.is_speed for point in found.points for j in point.judged)
    return [told, drift] if speeds else [told]


def verdict_line(found: Comparison) -> str:
    """One line that says what the exit code says."""
    if not found.points:
        return (
            "INSUFFICIENT_DATA: the runs have no point in common; nothing was compared"
            f" (baseline: {_alone(found, 'baseline')}; candidate: {_alone(found, 'candidate')})"
        )
    status = found.status
    if status is Status.EQUIVALENT:
        return (
            f"{status.value}: nothing differs by more than its bound in {len(found.points)} points"
        )
    named = [
        f"{point.point_id} {judged.metric.name}"
        for point in found.points
        for judged in point.judged
        if judged.verdict.status is status and judged.metric.better is not None
    ]
    told = f": {', '.join(named[:4])}{f' and {len(named) - 4} more' if len(named) > 4 else ''}"
    return f"{status.value}{told}"


def _alone(found: Comparison, run: str) -> str:
    return ", ".join(point for own, point in found.alone if own == run) or "no point"


def metrics_table(point: ComparedPoint, interval: str = "95 %") -> Table:
    """A row a metric; `interval` says what stands in brackets."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("metric", no_wrap=True)
    for name in ("baseline", "candidate", f"effect ({interval})\nits test", "detectable"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for judged in point.judged:
        name, found = escape(judged.metric.name), escape(words.effect(judged))
        if judged.verdict.test is HypothesisTest.EQUALITY:
            found = f"{found}, [dim]n {judged.verdict.n} prompts[/dim]"
        else:
            name += f"\n[dim]{escape(words.unit(judged))}[/dim]"
            found += f"\n[dim]{escape(words.test(judged))}[/dim]"
        table.add_row(
            name,
            words.value(judged.baseline, judged.metric.unit),
            words.value(judged.candidate, judged.metric.unit),
            found,
            words.detectable(judged),
            judged.verdict.status.value,
        )
    return table
