"""Past runs as series by environment: change points, known shifts, exports; no torch."""

from pathlib import Path
from typing import TYPE_CHECKING

from bench.history.exports import export
from bench.history.folder import add_run, annotate, read_history
from bench.history.series import Series, plain_series, read_series
from bench.history.show import print_series

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "add_run",
    "annotate",
    "export",
    "plain_series",
    "plot_series",
    "print_series",
    "read_history",
    "read_series",
]


def plot_series(found: "Sequence[Series]", path: Path) -> None:
    """Draws series to a PNG file (`bench.history.plot`; loads the plotting library)."""
    from bench.history.plot import plot_series as draw

    draw(found, path)
