"""The visual language, once: colours, glyphs and number formats of plots, pages and the terminal.

A reader who has seen one plot can read all. Decoding is a colour, precision a marker and a line
style, a task one of a fixed order of colours, a canvas state a colour and a glyph. Colours are
Okabe-Ito, which colour-blind readers can tell apart. Nothing here imports a plotting library.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from bench.digits import NOT_AVAILABLE, digits, told_apart

INK = "#1b1f24"
MUTED = "#57606a"
RULE = "#d0d7de"
PAPER = "#ffffff"

DECODING_COLOURS = {"diffusion": "#0072B2", "autoregressive": "#E69F00"}
OTHER_COLOUR = "#7a828b"
# The Okabe-Ito colours that mean neither a decoding nor a plain black line, in a fixed order.
TASK_COLOURS = ("#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000", "#B8A900")

RIGHT_COLOUR = "#009E73"
WRONG_COLOUR = "#D55E00"
LOCKED_COLOUR = "#7a828b"

LineStyle = Literal["-", "--", "-.", ":"]


@dataclass(frozen=True, slots=True)
class PrecisionStyle:
    """How a precision is drawn: never by colour alone."""

    marker: str
    line: LineStyle


PRECISION_STYLES = {
    "fp32": PrecisionStyle("s", ":"),
    "bf16": PrecisionStyle("D", "--"),
    "fp8": PrecisionStyle("o", "-"),
}
OTHER_PRECISION = PrecisionStyle("^", "-.")


class State(IntEnum):
    """What a canvas position is at a step; `bench.report.states` decides which."""

    NOISE = 0
    ACCEPTED = 1
    REVOKED = 2
    REVISED = 3
    SETTLED = 4
    AFTER_EOS = 5


@dataclass(frozen=True, slots=True)
class StateStyle:
    """Colour, text glyph and plot marker ("" draws none) of a state; words of its legend."""

    label: str
    colour: str
    glyph: str
    marker: str
    ink: str


STATE_STYLES = {
    State.NOISE: StateStyle("noise, darker at higher entropy", "#E4E7EB", "░", "", "#57606a"),
    State.ACCEPTED: StateStyle("accepted, not final", "#B9DCF2", "○", "o", "#0b4f7d"),
    State.REVOKED: StateStyle("revoked", "#D55E00", "\N{MULTIPLICATION SIGN}", "x", "#000000"),
    State.REVISED: StateStyle("revised after accept", "#CC79A7", "△", "^", "#1b1f24"),
    State.SETTLED: StateStyle("settled", "#009E73", "■", "s", "#000000"),
    State.AFTER_EOS: StateStyle("after EOS", "#FFFFFF", "·", ".", "#57606a"),
}


def decoding_colour(decoding: str) -> str:
    return DECODING_COLOURS.get(decoding, OTHER_COLOUR)


def precision_style(precision: str) -> PrecisionStyle:
    return PRECISION_STYLES.get(precision, OTHER_PRECISION)


def task_colours(tasks: Iterable[str]) -> dict[str, str]:
    """Colour of each task: fixed order of the sorted names, so one run's plots agree."""
    names = sorted(set(tasks))
    return {name: TASK_COLOURS[i % len(TASK_COLOURS)] for i, name in enumerate(names)}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval; None is unknown, and an interval may be missing."""

    value: float | None
    lo: float | None = None
    hi: float | None = None

    @property
    def has_interval(self) -> bool:
        return self.lo is not None and self.hi is not None


def told(estimate: Estimate, *, scale: float = 1.0, signed: bool = False) -> tuple[str, str]:
    """A value and its interval, "1,482" and "1,478 to 1,487", in digits that tell them apart.

    Args:
        scale: 100 for a share whose unit, %, stands elsewhere.

    Returns:
        The interval is "" where there is none.
    """
    value, lo, hi = (
        None if x is None else scale * x for x in (estimate.value, estimate.lo, estimate.hi)
    )
    if lo is None or hi is None:
        return digits(value, signed=signed), ""
    return told_apart(value, lo, hi, signed=signed)


def with_interval(
    estimate: Estimate, unit: str, *, scale: float = 1.0, signed: bool = False
) -> str:
    """1,482 tok/s (1,478 to 1,487); n/a when unknown, and without brackets where no interval is."""
    value, interval = told(estimate, scale=scale, signed=signed)
    said = value if value == NOT_AVAILABLE else f"{value} {unit}"
    return f"{said} ({interval})" if interval else said


def percent(share: float | None, *, signed: bool = False) -> str:
    """A share as a percentage without its sign, for cells whose header carries the unit.

    Three significant digits, but hundredths at most where they tell it from 0: 93.0, 0.07, 0.002.
    """
    value = None if share is None else 100 * share
    if value is None or not 0 < abs(value) < 1:
        return digits(value, signed=signed)
    first = -math.floor(math.log10(abs(value)))
    return f"{value:{'+' if signed else ''}.{max(2, first)}f}"


def percent_text(share: float | None) -> str:
    """A share in a sentence: 93.0 %."""
    return NOT_AVAILABLE if share is None else f"{percent(share)} %"


def span(lo: float | None, hi: float | None) -> str:
    """An interval in words, so that a minus sign is never read as a dash: 1,200 to 1,280."""
    if lo is None or hi is None:
        return NOT_AVAILABLE
    return f"{digits(lo)} to {digits(hi)}"


def plural(count: int, noun: str) -> str:
    """1 process, 2 processes, 1,200 canvases."""
    suffix = "" if count == 1 else "es" if noun.endswith(("s", "sh", "ch")) else "s"
    return f"{count:,} {noun}{suffix}"
