"""The run in a terminal: a table of at most 100 columns, what limits it, and what stands out."""

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.digits import digits
from bench.report.findings import standout
from bench.report.notices import notices
from bench.report.style import Estimate
from bench.report.tables import Cell, measured, share, steps
from bench.report.view import Point, Run, View
from bench.screen import screen

_NOTE = 26  # characters that the first column has room for


def print_summary(run: Run, console: Console | None = None) -> None:
    """Prints the table, every serious notice of the page, and the line of what stands out.

    A log that is no terminal gets the full 100 columns.
    """
    view = View.of(run)
    out = screen(console)
    out.print(_table(view))
    for notice in notices(view):
        if notice.serious:
            out.print(Text.assemble((f"{notice.title}.", "bold"), f" {notice.lead}"))
    out.print(Text(standout(view)))
    remarks = []
    if view.one_process:
        remarks.append("Screening: one process a point, no between-process interval.")
    if view.emulated:
        remarks.append("Precision is emulated on this CPU; its ratios say nothing about GPUs.")
    remarks += [_load(point) for point in view.points if point.served]
    if remarks:
        out.print(Text(" ".join(remarks), style="dim"))


def _load(point: Point) -> str:
    """The rate of a load as a whole, and what it lacks."""
    reason = point.text("validity_reason")
    said = f"; {reason}" if reason and point.usable else ""
    return f"{point.name}: {digits(point.number('system_tok_per_s'))} tok/s all together{said}."


def _table(view: View) -> Table:
    # The box puts one space between columns; more does not fit into 100 columns.
    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    for name in ("decoding", "prec."):
        table.add_column(name, no_wrap=True)
    for name in (
        "delivered\ntok/s",
        "steps\nmed / p90",
        "cap\nrate %",
        "accuracy\n%",
        "net corr.\n% of probl.",
        "repaired\n% of tok.",
    ):
        table.add_column(name, justify="right", no_wrap=True)
    for point in view.points:
        table.add_row(*(_text(cell) for cell in _cells(point)))
    return table


def _cells(point: Point) -> tuple[Cell, ...]:
    speed = point.estimate("delivered_tok_per_s")
    return (
        Cell(point.decoding, _standing(point)),
        Cell(point.precision, "emul." if point.flag("emulated") else ""),
        measured(speed, point),
        steps(point),
        share(Estimate(point.number("cap_rate"))),
        share(point.estimate("accuracy")),
        share(point.estimate("net_correction"), signed=True),
        share(point.estimate("repaired_share")),
    )


def _standing(point: Point) -> str:
    """What tells a point from others of its kind, and that it is invalid; cut to what fits."""
    said = " ".join(filter(None, ("" if point.usable else "INVALID", point.variant)))
    return said if len(said) <= _NOTE else f"{said[: _NOTE - 1]}…"


def _text(cell: Cell) -> str:
    """Value, and its interval dimmed on the line below."""
    return escape(cell.text) + (f"\n[dim]{escape(cell.note)}[/dim]" if cell.note else "")
