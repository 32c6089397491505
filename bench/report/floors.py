"""How near a step comes to what its device allows: time against both floors."""

from bench.digits import digits
from bench.report.style import percent
from bench.report.tables import Cell, Table, measured, name_cells
from bench.report.view import Point, View


def floors_table(view: View) -> Table | None:
    """Every point's step against its floors; None where no point has one."""
    known = [p for p in view.points if p.number("op_floor_ms") is not None]
    if not known:
        return None
    header = (
        ("decoding", ""),
        ("precision", ""),
        ("step", "ms"),
        ("op floor", "ms"),
        ("share", "% of op floor"),
        ("streaming floor", "ms"),
        ("share", "% of streaming floor"),
        ("copy", "GB/s reached"),
        ("products", "TFLOP/s reached"),
    )
    return Table(
        "A step, measured, against its floors, computed from its work. Copy and products: rates "
        "that the point's own process reached, measured.",
        header,
        tuple(_cells(point) for point in known),
    )


def _cells(point: Point) -> tuple[Cell, ...]:
    step = "step_ms" if point.decoding == "diffusion" else "decode_ms"
    fp8 = point.number("probe_fp8_flops_per_s") if point.precision == "fp8" else None
    wide = _scaled(point, "probe_wide_flops_per_s", 1e-12)
    return (
        *name_cells(point),
        measured(point.estimate(step), point),
        Cell(digits(point.number("op_floor_ms"))),
        Cell(percent(point.number("op_floor_share"))),
        Cell(digits(point.number("streaming_floor_ms"))),
        Cell(percent(point.number("streaming_floor_share"))),
        Cell(digits(_scaled(point, "probe_copy_bytes_per_s", 1e-9))),
        Cell(digits(wide), "" if fp8 is None else f"fp8 {digits(fp8 * 1e-12)}"),
    )


def _scaled(point: Point, name: str, factor: float) -> float | None:
    value = point.number(name)
    return None if value is None else value * factor
