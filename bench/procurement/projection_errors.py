"""Published figures of listed devices beside what is projected for the same conditions."""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.procurement.cell import Cell
from bench.procurement.projection import Projector, Setting
from bench.procurement.published import PublishedFigure, published_figures
from bench.procurement.transfer import TransferError


@dataclass(frozen=True, slots=True)
class Row:
    """A published figure and what the projection gives under its conditions.

    Attributes:
        projected: None where a condition is not known, with the reason.
    """

    figure: PublishedFigure
    projected: Cell | None
    reason: str

    @property
    def error_pct(self) -> float | None:
        """Projected over published, less one."""
        if self.projected is None or self.projected.value is None:
            return None
        return 100 * (self.projected.value / self.figure.value - 1)

    @property
    def is_inside(self) -> bool | None:
        """Whether the published figure lies within the projection's limits."""
        if self.projected is None or self.projected.low is None or self.projected.high is None:
            return None
        return self.projected.low <= self.figure.value <= self.projected.high


def rows(by: Projector) -> list[Row]:
    """Every published figure of one listed device."""
    precisions = {precision for _, precision in by.calibration.timed}
    found = []
    for figure in published_figures():
        if figure.device is not None and figure.num_devices == 1:
            reason = _unknown(figure)
            if not reason and figure.precision not in precisions:
                reason = f"precision {figure.precision} is not calibrated"
            found.append(Row(figure, None if reason else _projected(figure, by), reason))
    return found


def _unknown(figure: PublishedFigure) -> str:
    """Why a figure cannot be projected; empty where it can."""
    if figure.drafter != "none":
        return "no engine here has a drafter"
    if figure.metric not in ("decode_tok_per_s_median", "delivered_tok_per_s"):
        return "definition not known"
    if figure.decoding == "diffusion" and not figure.is_forced:
        return "steps a canvas not known"
    lacking = [
        words
        for words, value in (
            ("precision", figure.precision),
            ("prompt length", figure.prompt_tokens),
            ("reply length", figure.reply_tokens),
            ("batch", figure.batch_size),
        )
        if value is None
    ]
    return f"{lacking[0]} not known" if lacking else ""


def _projected(figure: PublishedFigure, by: Projector) -> Cell:
    """Under the figure's conditions; a ratio's limits are those of its parts, either way."""
    if figure.unit == "x":
        top, bottom = (_rate(figure, decoding, by) for decoding in ("diffusion", "autoregressive"))
        parts = (top.value, top.low, top.high, bottom.value, bottom.high, bottom.low)
        value, low, high, over, over_high, over_low = (part or math.nan for part in parts)
        return Cell(
            value=value / over,
            low=low / over_high,
            high=high / over_low,
            kind=top.kind,
            unit="x",
            definition=figure.definition,
            source=top.source,
        )
    return _rate(figure, figure.decoding, by)


def _rate(figure: PublishedFigure, decoding: str, by: Projector) -> Cell:
    found = by.project(
        Setting(
            device=figure.device or "",
            decoding=decoding,
            precision=figure.precision or "",
            prompt_tokens=figure.prompt_tokens or 0,
            reply_tokens=figure.reply_tokens or 0,
            batch_size=figure.batch_size or 0,
            steps=figure.steps or 1,
        )
    )
    is_whole = figure.metric == "delivered_tok_per_s"
    return found.point.system_tok_per_s if is_whole else found.decode_tok_per_s


def figures_csv(found: Sequence[Row]) -> str:
    """errors.csv."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write(
        "id device engine precision decoding steps batch_size metric published unit tag projected "
        "low high error_pct inside_limits not_projected source".split()
    )
    for row in found:
        figure, cell = row.figure, row.projected
        numbers = (None,) * 3 if cell is None else (cell.value, cell.low, cell.high)
        inside = None if row.is_inside is None else str(row.is_inside).lower()
        asked = (figure.precision, figure.decoding, plain(figure.steps), figure.batch_size)
        stated = (figure.metric, plain(figure.value), figure.unit, figure.tag)
        found_here = (*map(plain, numbers), plain(row.error_pct), inside)
        start, end = (figure.id, figure.device, figure.engine), (row.reason or None, figure.source)
        write([*start, *asked, *stated, *found_here, *end])
    return text.getvalue()


def transfer_csv(errors: Sequence[TransferError]) -> str:
    """transfer.csv."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write("pair class from_device to_device projected actual unit error_pct".split())
    for error in errors:
        names = (error.pair, error.kind, error.from_device, error.to_device)
        numbers = (plain(error.projected), plain(error.actual))
        write([*names, *numbers, error.unit, plain(transfer_pct(error))])
    return text.getvalue()


def transfer_pct(error: TransferError) -> float:
    """Projected over actual, less one."""
    return 100 * (error.projected / error.actual - 1)


def plain(value: float | None) -> str | None:
    """Six digits for a file; None stays empty."""
    return None if value is None else f"{value:.6g}"
