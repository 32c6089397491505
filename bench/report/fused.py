"""Commits fused with a step: what such a forward takes, and how many forwards it saves."""

from bench.digits import NOT_AVAILABLE, digits, tidy
from bench.phases import FUSED
from bench.report.style import percent
from bench.report.tables import Cell, Table, measured, name_cells
from bench.report.view import Point, View


def fused_table(view: View) -> Table | None:
    """Every diffusion point by how it commits; None where none fuses its commits."""
    if not any(p.text("commit_mode") == FUSED for p in view.diffusion):
        return None
    header = (
        ("decoding", ""),
        ("precision", ""),
        ("commits", ""),
        ("denoise step", "ms"),
        ("commit", "ms"),
        ("fused commit", "ms"),
        ("op floor", "ms a fused commit"),
        ("share", "% of op floor"),
        ("weight passes", "a canvas"),
    )
    return Table(
        "A fused commit writes a canvas to the cache and is the first step of the next one at "
        "once: one reading of the weights for both. Median times, measured; its floor, computed.",
        header,
        tuple(_cells(point) for point in view.diffusion),
        words=3,
    )


def _cells(point: Point) -> tuple[Cell, ...]:
    passes, canvases = point.number("weight_passes"), point.number("num_canvases")
    return (
        *name_cells(point),
        Cell(point.text("commit_mode") or NOT_AVAILABLE),
        *(measured(point.estimate(name), point) for name in ("step_ms", "commit_ms", "fused_ms")),
        Cell(digits(point.number("fused_op_floor_ms"))),
        Cell(percent(point.number("fused_op_floor_share"))),
        Cell(tidy(passes / canvases if passes is not None and canvases else None)),
    )
