"""The report's tables as text: headers with units, cells with intervals, n/a for the unknown."""

from dataclasses import dataclass

from bench.digits import NOT_AVAILABLE, digits, tidy
from bench.report.detectable import detectable_change
from bench.report.style import Estimate, percent, plural, told
from bench.report.view import Point, View
from bench.stats import LEVEL, POWER


@dataclass(frozen=True, slots=True)
class Cell:
    """A value and, below it, its interval or a remark; the first of a row can grey the row."""

    text: str
    note: str = ""
    greyed: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, a header of (name, unit) and rows of cells; the first `words` columns are text."""

    caption: str
    header: tuple[tuple[str, str], ...]
    rows: tuple[tuple[Cell, ...], ...]
    words: int = 2


_CONTENT = (
    ("steps a canvas", "median / p90"),
    ("cap rate", "%"),
    ("tokens a forward", ""),
    ("net correction", "% of problems"),
    ("repaired", "% of tokens"),
)


def points_table(view: View) -> Table:
    """Every point: speed, work, quality, correction, validity; no contents of random weights."""
    header = (
        ("decoding", ""),
        ("precision", ""),
        ("delivered", "tok/s"),
        ("accuracy", "%"),
        ("decode", "tok/s"),
        *(() if view.dummy else _CONTENT),
        ("validity", ""),
    )
    source = (
        "Numbers of a simulation."
        if view.simulated
        else "All numbers are measured; none is published, projected or assumed."
    )
    if any(p.count("connections") != 1 for p in view.points if p.served):
        source += (
            " Of several requests at a time every speed here is that of one among the others; for "
            "all together see the table of servers."
        )
    greyed = "" if all(p.usable for p in view.points) else " Grey: invalid, compared with nothing."
    return Table(
        f"Every point, with 95 % intervals. {source}{greyed}",
        header,
        tuple(_point_cells(p, content=not view.dummy) for p in view.points),
    )


_SPEEDS = (
    ("delivered", "tok/s", "delivered_tok_per_s"),
    ("decode", "tok/s", "decode_tok_per_s"),
    ("decode, median", "tok/s", "decode_tok_per_s_median"),
    ("without prefill", "tok/s", "generation_tok_per_s_excl_prefill"),
    ("slots", "tok/s", "slot_tok_per_s"),
    ("1 / TPOT", "tok/s", "inverse_tpot_tok_per_s"),
    ("first text", "s", "first_canvas_s"),
    ("canvas gap p95", "s", "canvas_gap_p95_s"),
)


def speeds_table(view: View) -> Table:
    """The same requests under every definition of speed: they differ by more than machines do."""
    rows = tuple(
        (*name_cells(p), *(measured(p.estimate(key), p) for _, _, key in _SPEEDS))
        for p in view.points
    )
    header = (("decoding", ""), ("precision", ""), *((name, unit) for name, unit, _ in _SPEEDS))
    return Table(
        "The same requests under every definition of speed; see Definitions.", header, rows
    )


_FORWARDS = (
    ("denoise step", "ms", "step_ms"),
    ("commit", "ms", "commit_ms"),
    ("prefill", "ms", "prefill_ms"),
    ("AR step", "ms", "decode_ms"),
)
_WORK = (
    ("tokens a forward", "all forwards", "tokens_per_forward_all"),
    ("slots a forward", "", "slots_per_forward"),
    ("canvas fill", "", "canvas_fill"),
    ("occupancy", "", "occupancy"),
    ("distinct experts", "a layer", "distinct_experts_per_layer"),
)


def work_table(view: View) -> Table:
    """Time of a forward by phase (median), what it produced and which weights it read."""
    rows = tuple(
        (
            *name_cells(p),
            *(measured(p.estimate(key), p) for _, _, key in _FORWARDS),
            *(Cell(tidy(p.number(key))) for _, _, key in _WORK),
            Cell(digits(_millions(p.number("weight_bytes_per_step")))),
        )
        for p in view.points
    )
    columns = (*_FORWARDS, *_WORK, ("weights read", "MB a step, by precision", ""))
    header = (("decoding", ""), ("precision", ""), *((name, unit) for name, unit, _ in columns))
    return Table(
        "Forwards: median time by phase, yield, experts touched, weights read.", header, rows
    )


def _millions(value: float | None) -> float | None:
    return None if value is None else value / 1e6


def name_cells(point: Point) -> tuple[Cell, Cell]:
    """Decoding and precision, with what else a reader must see to know which point a row is."""
    first = Cell(point.decoding, point.variant, greyed=not point.usable)
    return first, Cell(point.precision, "emulated" if point.flag("emulated") else "")


def sizes_table(view: View) -> Table:
    """n at each level of sampling."""
    columns = (
        ("processes", "num_processes"),
        ("repeats", "num_repeats"),
        ("prompts", "num_prompts"),
        ("requests", "num_requests"),
        ("canvases", "num_canvases"),
        ("correction", "correction_n"),
        ("repair", "repair_n"),
        ("batch", "batch_size"),
    )
    rows = tuple(
        (*name_cells(p), *(Cell(_whole(p, key)) for _, key in columns), _detectable(view, p))
        for p in view.points
    )
    header = (
        ("decoding", ""),
        ("precision", ""),
        *((name, "one repeat" if name == "canvases" else "") for name, _ in columns),
        ("detectable", "% of delivered tok/s"),
    )
    return Table(
        "n at each level. The unit of inference for speed is the process. Detectable: the smallest "
        "change of delivered tok/s that a comparison of two such points, each with as many "
        f"processes, finds with power {POWER:g} at alpha {LEVEL:.2g} (two-sided t test), from the "
        "spread of these processes; below it the 95 % interval that so few processes leave. n/a "
        "with one process.",
        header,
        rows,
    )


def _detectable(view: View, point: Point) -> Cell:
    found = detectable_change(view, point)
    if found.value is None:
        return Cell(NOT_AVAILABLE)
    value, interval = told(found, scale=100)
    wide = found.hi is not None and found.hi > 1
    return Cell(value, f"{percent(found.lo)} to > 100" if wide else interval)


def failures_table(view: View) -> Table | None:
    """What went wrong, if anything did: at most 20 rows, columns as recorded."""
    frame = view.tables["failures"]
    if frame.empty:
        return None
    columns = [c for c in frame.columns if c not in ("schema_version", "config_hash")]
    rows = tuple(
        tuple(Cell(str(value)) for value in row)
        for row in frame[columns].head(20).itertuples(index=False)
    )
    header = tuple((str(c), "") for c in columns)
    return Table(f"Failures ({len(frame)} recorded).", header, rows, words=len(columns))


def measured(estimate: Estimate, point: Point) -> Cell:
    """A speed: without an interval the cell says from how many processes it comes."""
    if estimate.value is None:
        return Cell(NOT_AVAILABLE)
    processes = point.count("num_processes") or 1
    value, interval = told(estimate)
    return Cell(value, interval or f"n = {plural(processes, 'process')}")


def share(estimate: Estimate, *, signed: bool = False) -> Cell:
    """A share in percent with its interval where there is one."""
    return Cell(*told(estimate, scale=100, signed=signed))


def steps(point: Point) -> Cell:
    """Median / p90 steps a canvas; n/a for a point without canvases."""
    median = point.number("steps_per_canvas_median")
    if median is None:
        return Cell(NOT_AVAILABLE)
    return Cell(f"{tidy(median)} / {tidy(point.number('steps_per_canvas_p90'))}")


def _point_cells(point: Point, *, content: bool) -> tuple[Cell, ...]:
    contents = (
        steps(point),
        share(point.estimate("cap_rate")),
        Cell(tidy(point.number("tokens_per_forward_denoise"))),
        share(point.estimate("net_correction"), signed=True),
        share(point.estimate("repaired_share")),
    )
    return (
        *name_cells(point),
        measured(point.estimate("delivered_tok_per_s"), point),
        share(point.estimate("accuracy")),
        measured(point.estimate("decode_tok_per_s"), point),
        *(contents if content else ()),
        Cell(point.text("validity") or NOT_AVAILABLE, point.text("validity_reason")),
    )


def _whole(point: Point, name: str) -> str:
    count = point.count(name)
    return NOT_AVAILABLE if count is None else f"{count:,}"
