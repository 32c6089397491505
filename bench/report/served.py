"""What a report says of servers and of what backends cannot tell: loads, failures, other tools."""

import pandas as pd

from bench.digits import NOT_AVAILABLE, digits, tidy
from bench.report.tables import Cell, Table, measured, name_cells
from bench.report.view import Point, View

_MOST_EXAMPLES = 20
_LONGEST_SERVER = 160


def load_table(view: View) -> Table | None:
    """Requests sent to servers, and what became of them; None where no server was asked."""
    points = [p for p in view.points if p.served]
    if not points:
        return None
    header = (
        ("decoding", ""),
        ("precision", ""),
        ("server", ""),
        ("load", ""),
        ("answered", "requests"),
        ("failed", "requests"),
        ("all together", "tok/s"),
        ("first text", "s, median"),
        ("first text", "s, p95"),
        ("whole answer", "s, median"),
        ("whole answer", "s, p95"),
        ("sent late", "ms, at most"),
        ("server's canvases", ""),
        ("server's steps", "a canvas, mean"),
    )
    return Table(
        "Servers and their loads. All together: delivered tokens of answered requests / seconds of "
        "the timed windows; every other rate is that of one request among the others. The server's "
        "canvases and steps are its own counters, commits left out; model, precision and device of "
        "a server that was not started here are its operator's word.",
        header,
        tuple(_load_cells(view, p) for p in points),
        words=4,
    )


def _load_cells(view: View, point: Point) -> tuple[Cell, ...]:
    requests, loads = (_own(view.tables[name], point) for name in ("requests", "loads"))
    late_s = loads["late_s"].max() if "late_s" in loads else None
    late = None if late_s is None or pd.isna(late_s) else 1e3 * float(late_s)
    told = loads["server_reason"].dropna() if "server_reason" in loads else pd.Series(dtype=object)
    unread = sorted({str(reason) for reason in told})
    return (
        *name_cells(point),
        Cell(point.text("server")[:_LONGEST_SERVER] or NOT_AVAILABLE),
        Cell(_load(point)),
        Cell(tidy(point.number("num_requests"))),
        Cell(tidy(point.number("failed_requests"))),
        measured(point.estimate("system_tok_per_s"), point),
        *(
            Cell(digits(_quantile(requests, column, q)))
            for column in ("first_canvas_s", "wall_s")
            for q in (0.5, 0.95)
        ),
        Cell(digits(late)),
        Cell(tidy(point.number("server_canvases")), ", ".join(unread)),
        Cell(tidy(point.number("server_steps_per_canvas"))),
    )


def _load(point: Point) -> str:
    connections, rate = point.count("connections"), point.number("rate_per_s")
    if connections is not None:
        return f"{connections} at a time"
    if rate is not None:
        return f"{tidy(rate)} a second at random times"
    return "at the times of a file"


def _quantile(requests: pd.DataFrame, column: str, q: float) -> float | None:
    return None if requests.empty else float(requests[column].quantile(q))


def _own(table: pd.DataFrame, point: Point) -> pd.DataFrame:
    return table if table.empty else table[table["point_id"] == point.point_id]


def changed_servers(view: View) -> list[str]:
    """A sentence an address at which different servers answered different points of the run."""
    configs = view.info.get("config") or {}
    found: dict[str, dict[str, list[str]]] = {}
    for point in view.points:
        backend = (configs.get(point.point_id) or {}).get("backend") or {}
        if point.served and backend.get("url"):
            said = point.text("server") or "one that says nothing of itself"
            found.setdefault(str(backend["url"]), {}).setdefault(said, []).append(point.name)
    return [
        f"At {url} different servers answered: "
        + "; ".join(f"{said} ({', '.join(names)})" for said, names in servers.items())
        + "."
        for url, servers in found.items()
        if len(servers) > 1
    ]


def failed_requests_table(view: View) -> Table | None:
    """Requests without an answer by point and reason, with what was said of the first one."""
    failed = view.tables["failed_requests"]
    if failed.empty:
        return None
    rows = []
    for point in view.points:
        for reason, own in _own(failed, point).groupby("failure"):
            first = own.iloc[0]
            rows.append(
                (
                    *name_cells(point),
                    Cell(str(reason)),
                    Cell(f"{len(own):,}"),
                    Cell(digits(float(own["ended_s"].max()))),
                    Cell(str(first["failure_detail"]) or NOT_AVAILABLE),
                )
            )
    header = (
        *(("decoding", ""), ("precision", ""), ("reason", ""), ("requests", "")),
        *(("failed after", "s, at most"), ("what was said of the first", "")),
    )
    return Table(
        f"Requests without an answer ({len(failed)}). They count in no rate.",
        header,
        tuple(rows[:_MOST_EXAMPLES]),
        words=3,
    )


def backends_table(view: View) -> Table | None:
    """What each backend gives; None where no row says it, as in runs of older versions."""
    told = {p.text("backend"): p.capabilities for p in view.points if p.capabilities}
    if not told:
        return None
    header = (
        *(("backend", ""), ("steps known", ""), ("device time", ""), ("contents repeat", "")),
        *(("step cap by request", ""), ("batch is one's own", "")),
    )
    names = ("device_time", "seeds", "step_cap", "batch")
    rows = tuple(
        (
            Cell(backend),
            Cell(str(own.get("steps", NOT_AVAILABLE)).replace("_", " ")),
            *(Cell("yes" if own.get(name) else "no") for name in names),
        )
        for backend, own in sorted(told.items())
    )
    return Table("What each backend can tell and be told.", header, rows, words=len(header))


def missing_table(view: View) -> Table | None:
    """Metrics that a backend cannot give, and why; None where all can be given."""
    rows: dict[tuple[str, str, str], None] = {}
    for point in view.points:
        for metric, reason in point.missing.items():
            rows[point.text("backend"), metric, reason] = None
    if not rows:
        return None
    header = (("backend", ""), ("metric", ""), ("why it is n/a", ""))
    cells = tuple(tuple(map(Cell, row)) for row in sorted(rows))
    return Table("Metrics that a backend cannot give.", header, cells, words=3)


def reconciled_tables(view: View) -> list[Table]:
    """A table a tool: the median over repeats of what it would have printed for each."""
    figures = view.tables["reconciled"]
    if figures.empty:
        return []
    points = [p for p in view.points if p.served]
    found = []
    for tool, own in figures.groupby("tool", sort=False):
        medians = own.groupby(["name", "point_id"], sort=False)["value"].median()
        header = (("figure", "under the tool's own name"), *((p.name, "") for p in points))
        rows = tuple(
            (
                Cell(str(name)),
                *(Cell(tidy(_value(medians.get((name, p.point_id))))) for p in points),
            )
            for name in own["name"].unique()
        )
        caption = f"Theirs, not ours: what {tool} would print for the same answers"
        found.append(Table(f"{caption} (median over repeats).", header, rows, words=1))
    return found


def _value(found: object) -> float | None:
    number = float(found) if isinstance(found, float | int) else None
    return None if number is None or pd.isna(number) else number
