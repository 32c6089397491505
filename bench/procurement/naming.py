"""Names beside the points of a figure, where they hide no point and no other name."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import Normal, Stroke
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from bench.report.style import INK, MUTED, PAPER

_HALO = [Stroke(linewidth=2.5, foreground=PAPER), Normal()]
_OFFSETS_PT = tuple(
    (x, y)
    for reach in (1, 2, 3.5)
    for x, y in (
        *((9 * reach, 7 * reach), (-9 * reach, 7 * reach)),
        *((9 * reach, -11 * reach), (-9 * reach, -11 * reach)),
        *((10 * reach, -3), (-10 * reach, -3)),
    )
)
"""Where a name may stand, the nearest first."""
_LINE_FROM_PT = 24.0
"""From that far on a line leads from a name to its point."""
_POINT_PT = 6.0
"""Half the side of the room that a point takes."""


@dataclass(frozen=True, slots=True)
class Name:
    """A text and the point it belongs to, in data coordinates; a bold one is placed in any case."""

    text: str
    at: tuple[float, float]
    is_bold: bool = False


def name_points(axes: Axes, names: Sequence[Name], points: Sequence[tuple[float, float]]) -> None:
    """Writes the names, the first ones first; one that has room nowhere is left out.

    Args:
        points: that no name may hide, in data coordinates.
    """
    figure = axes.figure
    figure.draw_without_rendering()  # type: ignore[union-attr]  # sizes hold from here on
    pixels = figure.dpi / 72
    room = _POINT_PT * pixels
    taken = [
        Bbox.from_extents(x - room, y - room, x + room, y + room)
        for x, y in axes.transData.transform(np.array(points).reshape(-1, 2))
    ]
    inside = axes.get_window_extent()
    for name in names:
        box = _placed(axes, name, taken, inside)
        if box is not None:
            taken.append(box)


def _placed(axes: Axes, name: Name, taken: Sequence[Bbox], inside: Bbox) -> Bbox | None:
    """Writes one name at the first place that is free; its box, None where none is."""
    for offset in _OFFSETS_PT:
        text = _written(axes, name, offset)
        box = text.get_window_extent()
        is_wide = inside.x0 <= box.x0 and box.x1 <= inside.x1
        is_whole = is_wide and inside.y0 <= box.y0 and box.y1 <= inside.y1
        if is_whole and not any(box.overlaps(other) for other in taken):
            if float(np.hypot(*offset)) > _LINE_FROM_PT:
                _line(axes, name.at, offset)
            return box
        text.remove()
    return _written(axes, name, _OFFSETS_PT[0]).get_window_extent() if name.is_bold else None


def _written(axes: Axes, name: Name, offset_pt: tuple[float, float]) -> Annotation:
    return axes.annotate(
        name.text,
        name.at,
        offset_pt,
        textcoords="offset points",
        ha="left" if offset_pt[0] > 0 else "right",
        fontsize=8.5 if name.is_bold else 7.5,
        fontweight="bold" if name.is_bold else "normal",
        color=INK if name.is_bold else MUTED,
        path_effects=_HALO,
        zorder=5,
    )


def _line(axes: Axes, at: tuple[float, float], offset_pt: tuple[float, float]) -> None:
    axes.annotate(
        "",
        at,
        offset_pt,
        textcoords="offset points",
        arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.7},
        zorder=2,
    )
