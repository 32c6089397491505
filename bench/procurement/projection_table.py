"""How far the projection is off, wherever a figure is known: results/published/projection.

python -m bench.procurement.projection_table results/published/projection
"""

import csv
import io
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.procurement.calibration import Work, calibrate, shipped_measurements
from bench.procurement.crossover import Crossover, crossovers
from bench.procurement.curves import METRICS, projected_curves
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.projection import Projector, projected_points, projector
from bench.procurement.projection_errors import (
    Row,
    figures_csv,
    plain,
    rows,
    transfer_csv,
    transfer_pct,
)
from bench.procurement.transfer import TransferError, log_half_width, transfer_errors

_CALIBRATED = ("h100", "h200")
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


def projected_crossovers(by: Projector) -> list[Crossover]:
    """On an H200, by precision, prompt and steps a canvas."""
    found = []
    for precision in ("fp8", "bf16"):
        for prompt_tokens in (1024, 8192):
            points: dict[OperatingPoint, None] = {}
            for steps in (8, 16, 32):
                own = projected_points(
                    "h200",
                    precision,
                    batch_sizes=_BATCHES,
                    prompt_tokens=prompt_tokens,
                    steps=steps,
                    by=by,
                )
                points |= dict.fromkeys(own)
            found += crossovers(projected_curves(points))
    return found


def crossovers_csv(found: Sequence[Crossover]) -> str:
    """crossovers.csv."""
    text = io.StringIO()
    write = csv.writer(text, lineterminator="\n").writerow
    write(
        "device precision prompt_tokens reply_tokens steps metric class outcome batch_size low "
        "high no_crossing_share smallest largest".split()
    )
    for each in found:
        of = (each.device, each.precision, each.prompt_tokens, each.reply_tokens)
        cell = each.batch_size
        ends = (*map(plain, (cell.value, cell.low, cell.high, each.no_crossing_share)),)
        write(
            [
                *of,
                plain(each.steps),
                each.metric,
                each.kind.value,
                each.outcome,
                *ends,
                *each.range,
            ]
        )
    return text.getvalue()


def readme(
    found: Sequence[Row], errors: Sequence[TransferError], crossings: Sequence[Crossover]
) -> str:
    """README.md: the tables in words."""
    others = [row for row in found if row.figure.device not in _CALIBRATED]
    others_known = sum(row.error_pct is not None for row in others)
    found = [row for row in found if row.figure.device in _CALIBRATED]
    known = [row for row in found if row.error_pct is not None]
    inside = sum(bool(row.is_inside) for row in known)
    own = [error for error in errors if error.kind == "measured"]
    worst = max(abs(transfer_pct(error)) for error in own)
    half = log_half_width(errors)
    pairs = len({error.pair for error in errors})
    median = statistics.median(row.error_pct or 0.0 for row in known)
    lines = [
        "# How far the projection is off",
        "",
        "Projected figures (`bench/procurement/projection.py`) beside what is known. Made by",
        "`python -m bench.procurement.projection_table results/published/projection`; a test holds",
        "the files to it.",
        "",
        "## One device left out",
        "",
        "A figure of one device, projected to the other by op group: floors by the data sheets,",
        "efficiencies of the first device alone. *measured* is this engine with its kernels of",
        "2026-11-25, timed on both cards; *published* is vLLM's own pair of figures, with this",
        "engine's division of the time.",
        "",
        "| what | class | from | to | projected | actual | error % |",
        "|---|---|---|---|---|---|---|",
        *(_transfer_line(error) for error in errors),
        "",
        f"There are {pairs} pairs, each both ways round, and two devices of one architecture with",
        "the same product rates: they test how a step follows the memory's bandwidth and little",
        f"more. This engine's own are within {worst:.1f} %. They say nothing about Blackwell, Ada,",
        "Ampere or CDNA. Student's t of these errors, with a degree of freedom a pair, gives the",
        f"limits of every projected time: a factor of {math.exp(half):.2f} either way.",
        "",
        "## Published figures of an H100 or H200",
        "",
        "Projected is this engine with its kernels of 2026-11-26; published is another engine, so",
        "an error here is the difference between the engines and the projection's own together.",
        "",
        "| figure | engine | metric | published | projected (limits) | error % | inside |",
        "|---|---|---|---|---|---|---|",
        *(_line(row) for row in found),
        "",
        f"{len(known)} of {len(found)} figures have known conditions; {inside} of these lie within",
        f"the limits, and the median error is {median:+.0f} %. Diffusion alone:",
        f"{_share(known, 'diffusion')}; the autoregressive sibling:",
        f"{_share(known, 'autoregressive')}. Of {len(others)} figures of other listed devices",
        f"{others_known} have known conditions (`errors.csv` says which is lacking).",
        "",
        "## Where the autoregressive sibling overtakes, projected",
        "",
        "Requests at once from which it delivers more tokens a second, or takes less energy a",
        f"token, on an H200 with replies of 1,024 tokens; batches of {_BATCHES[0]} to",
        f"{_BATCHES[-1]}. No batch above 1 was measured, so the limits are wide; *none* is the",
        "share of draws without a crossing in the range. All of it in `crossovers.csv`.",
        "",
        "| precision | prompt | steps | throughput (limits) | none | energy (limits) | none |",
        "|---|---|---|---|---|---|---|",
        *_crossing_lines(crossings),
        "",
    ]
    return "\n".join(lines)


def write(folder: Path, work: Work) -> None:
    """Writes the four files."""
    by, given = projector(work), shipped_measurements()
    errors = transfer_errors(given, calibrate(given, work), work)
    found, crossings = rows(by), projected_crossovers(by)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("errors.csv", figures_csv(found)),
        ("transfer.csv", transfer_csv(errors)),
        ("crossovers.csv", crossovers_csv(crossings)),
        ("README.md", readme(found, errors, crossings)),
    ):
        (folder / name).write_text(text, encoding="utf-8")


def _transfer_line(error: TransferError) -> str:
    names = f"{error.pair} | {error.kind} | {error.from_device} | {error.to_device}"
    numbers = " | ".join(f"{_said(n)} {error.unit}" for n in (error.projected, error.actual))
    return f"| {names} | {numbers} | {transfer_pct(error):+.1f} |"


def _crossing_lines(found: Sequence[Crossover]) -> list[str]:
    settings: dict[tuple[object, ...], dict[str, Crossover]] = {}
    for each in found:
        key = (each.precision, each.prompt_tokens, each.steps)
        settings.setdefault(key, {})[each.metric] = each
    lines = []
    for (precision, prompt_tokens, steps), by_metric in settings.items():
        cells = [_crossing(by_metric[metric]) for metric in METRICS]
        lines.append(f"| {precision} | {prompt_tokens} | {steps:g} | {' | '.join(cells)} |")
    return lines


def _crossing(each: Crossover) -> str:
    cell = each.batch_size
    smallest, largest = (f"<{each.range[0]}", f">{each.range[1]}")
    low = smallest if each.is_open_below else largest if cell.low is None else f"{cell.low:.0f}"
    high = largest if each.is_open_above else smallest if cell.high is None else f"{cell.high:.0f}"
    value = each.outcome if cell.value is None else f"{cell.value:.0f}"
    limits = f"beyond {each.range[1]}" if low == high == largest else f"{low} to {high}"
    return f"{value} ({limits}) | {100 * (each.no_crossing_share or 0):.0f} %"


def _line(row: Row) -> str:
    figure, cell = row.figure, row.projected
    start = f"| {figure.id} | {figure.engine} | {figure.metric or figure.definition} "
    start += f"| {_said(figure.value)} {figure.unit} "
    if cell is None or cell.value is None or row.error_pct is None:
        return f"{start}| n/a: {row.reason} | n/a | n/a |"
    limits = f"{_said(cell.low or 0.0)} to {_said(cell.high or 0.0)}"
    inside = "yes" if row.is_inside else "no"
    return f"{start}| {_said(cell.value)} ({limits}) | {row.error_pct:+.0f} | {inside} |"


def _share(known: Sequence[Row], decoding: str) -> str:
    own = [row for row in known if row.figure.decoding == decoding and row.figure.unit != "x"]
    inside = sum(bool(row.is_inside) for row in own)
    spread = [row.error_pct or 0.0 for row in own]
    return f"{inside} of {len(own)}, errors {min(spread):+.0f} to {max(spread):+.0f} %"


def _said(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    from bench.procurement.work import released_work

    write(Path(sys.argv[1]), released_work)
