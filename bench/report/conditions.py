"""What the machine did while the points were timed, one row a point."""

from bench.digits import NOT_AVAILABLE, digits, tidy
from bench.report.style import percent
from bench.report.tables import Cell, Table, name_cells
from bench.report.view import Point, View

_TELEMETRY = (
    "sm_clock_mean_mhz",
    "power_mean_w",
    "power_limit_w",
    "temperature_begin_c",
    "temperature_end_c",
    "joules_per_token",
)
_DEVICE_MEMORY = "peak_device_allocated_bytes"
NO_TELEMETRY = (
    "This run has no GPU telemetry: clocks, power, temperature and energy a token are unknown."
)


def has_gpu_telemetry(view: View) -> bool:
    """Whether anything of a GPU was sampled for any point."""
    return any(p.number(name) is not None for p in view.points for name in _TELEMETRY)


def conditions_table(view: View) -> Table:
    """Verdict and reason, GPU readings where there are any, host share, warm-up, memory."""
    sampled = has_gpu_telemetry(view)
    on_device = sampled or any(p.number(_DEVICE_MEMORY) is not None for p in view.points)
    header = [("decoding", ""), ("precision", ""), ("condition", ""), ("reason", "")]
    if sampled:
        header += [
            ("SM clock", "MHz, mean"),
            ("power", "W, mean / limit"),
            ("temperature", "\N{DEGREE SIGN}C, begin / end"),
            ("energy", "J a token"),
        ]
    header += [("host share", "% of time"), ("warm-up", "batches"), ("host memory", "GiB, peak")]
    header += [("device memory", "GiB, peak")] if on_device else []
    return Table(
        "What the machine did while the point was timed. Throttling, another process on the "
        "GPU and its memory errors make a point invalid; a power cap or a busy processor do not.",
        tuple(header),
        tuple(_cells(p, sampled, on_device) for p in view.points),
        words=4,
    )


def _cells(point: Point, sampled: bool, on_device: bool) -> tuple[Cell, ...]:
    readings = (
        Cell(tidy(_rounded(point.number("sm_clock_mean_mhz")))),
        _both(point, "power_mean_w", "power_limit_w"),
        _both(point, "temperature_begin_c", "temperature_end_c"),
        Cell(digits(point.number("joules_per_token"))),
    )
    return (
        *name_cells(point),
        Cell(point.text("condition") or NOT_AVAILABLE),
        Cell(point.text("condition_reason") or NOT_AVAILABLE),
        *(readings if sampled else ()),
        Cell(percent(point.number("host_share"))),
        _warmup(point),
        Cell(_gib(point.number("peak_rss_bytes"))),
        *([Cell(_gib(point.number(_DEVICE_MEMORY)))] if on_device else []),
    )


def _both(point: Point, first: str, second: str) -> Cell:
    """Two readings of one unit in one cell; a single n/a where neither is known."""
    values = [_rounded(point.number(name)) for name in (first, second)]
    return Cell(NOT_AVAILABLE if values == [None, None] else " / ".join(map(tidy, values)))


def _rounded(value: float | None) -> float | None:
    """To whole units: sensors of clocks, watts and degrees tell no more."""
    return None if value is None else round(value)


def _warmup(point: Point) -> Cell:
    """Untimed batches; whether they ended because forwards had become steady."""
    batches = point.count("warmup_batches")
    if batches is None:
        return Cell(NOT_AVAILABLE)
    told = {None: "steady: n/a", 1.0: "steady", 0.0: "not steady"}
    return Cell(f"{batches:,}", told[point.number("warmup_stable")])


def _gib(value: float | None) -> str:
    return digits(None if value is None else value / 2**30)
