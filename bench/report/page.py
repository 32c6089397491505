"""The run as one HTML file: headline, evidence, definitions, provenance, raw configuration last.

The file asks for nothing else: plots are embedded, fonts are the reader's own, there is no script.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.report.checks import check_tables
from bench.report.claims import judged
from bench.report.conditions import NO_TELEMETRY, conditions_table, has_gpu_telemetry
from bench.report.definitions import DEFINITIONS
from bench.report.figures import Plot, house_style
from bench.report.findings import headline, steps_sentence
from bench.report.floors import floors_table
from bench.report.fused import fused_table
from bench.report.html import embedded, environment
from bench.report.notices import notices
from bench.report.plot_canvas import plot_canvas
from bench.report.plot_correction import plot_correction, plot_repair
from bench.report.plot_speed import plot_speed
from bench.report.plot_steps import plot_acceptance, plot_steps
from bench.report.provenance import provenance
from bench.report.served import (
    backends_table,
    failed_requests_table,
    load_table,
    missing_table,
    reconciled_tables,
)
from bench.report.style import DECODING_COLOURS
from bench.report.tables import (
    Table,
    failures_table,
    points_table,
    sizes_table,
    speeds_table,
    work_table,
)
from bench.report.view import Run, View


@dataclass(frozen=True, slots=True)
class _Section:
    """A plot's place in the page: heading, and how to read it.

    Attributes:
        of_content: shows what a model wrote, which random weights, a run without a valid diffusion
            point, cannot tell; left out there.
    """

    name: str
    heading: str
    reading: str
    draw: Callable[[View], Plot]
    of_content: bool = True


_SECTIONS = (
    _Section(
        "speed",
        "Speed, with accuracy beside it",
        "A bar is what a user received per second. A fast point that is significantly less "
        "accurate than another is not better, it is different.",
        plot_speed,
        of_content=False,
    ),
    _Section(
        "steps",
        "Steps a canvas",
        "The further left a curve rises, the fewer denoise steps that task needs; speed follows "
        "from this more than from anything else.",
        plot_steps,
    ),
    _Section(
        "acceptance",
        "What happens inside a canvas",
        "Acceptance is decided anew at every step, so a position can be accepted, revoked and "
        "renoised before the canvas stops.",
        plot_acceptance,
    ),
    _Section(
        "correction",
        "Self-correction",
        "Green is what denoising put right after the reference point, red what it spoilt. The grey "
        "tick is what stayed wrong without a change.",
        plot_correction,
    ),
    _Section(
        "repair",
        "Repair test",
        "A right canvas is damaged and denoised again. This compares models whose own answers are "
        "seldom wrong.",
        plot_repair,
    ),
    _Section(
        "canvas",
        "One canvas, step by step",
        "Read downwards: noise turns into text. Red cells were taken back, purple ones rewritten "
        "after they had been accepted.",
        plot_canvas,
    ),
)


def render(run: Run) -> Path:
    """Writes plots/*.png and report.html into the run's folder; returns the path of the page.

    Tables that are missing make their plot a short statement of why, never an error.
    """
    view = View.of(run)
    folder = view.path / "plots"
    folder.mkdir(parents=True, exist_ok=True)
    figures = []
    with house_style():
        for section in _SECTIONS:
            if section.of_content and not view.has_content:
                (folder / f"{section.name}.png").unlink(missing_ok=True)
                continue
            plot = section.draw(view)
            figures.append(
                {
                    "name": plot.name,
                    "heading": section.heading,
                    "reading": section.reading,
                    "alt": f"{plot.title}. {plot.caption}",
                    "uri": embedded(plot.save(folder)),
                }
            )
    page = view.path / "report.html"
    page.write_text(_html(view, figures), encoding="utf-8")
    return page


def _html(view: View, figures: list[dict[str, str]]) -> str:
    floors = floors_table(view)
    tables: list[Table] = [points_table(view), speeds_table(view), work_table(view)]
    more = (fused_table(view), floors, load_table(view), failed_requests_table(view))
    tables += [table for table in more if table is not None]
    return (
        environment()
        .get_template("report.html.j2")
        .render(
            colours=DECODING_COLOURS,
            checks=check_tables(view),
            claims=judged(view),
            conditions=conditions_table(view),
            backends=backends_table(view),
            missing=missing_table(view),
            reconciled=reconciled_tables(view),
            date=view.date,
            definitions=DEFINITIONS,
            device=view.device,
            failures=failures_table(view),
            figures=figures,
            headline=headline(view),
            no_content=_no_content(view),
            no_telemetry="" if has_gpu_telemetry(view) else NO_TELEMETRY,
            notices=notices(view),
            provenance=provenance(view),
            raw=json.dumps(view.info.get("config") or {}, indent=2, sort_keys=True, default=str),
            sizes=sizes_table(view),
            steps=[
                steps_sentence(p)
                for p in view.diffusion
                if p.usable and not p.dummy and p.tells_steps
            ],
            tables=tables,
            timed=view.timed,
            title=str(view.info.get("experiment") or "canvasbench run"),
        )
    )


def _no_content(view: View) -> str:
    """Why the sections on contents are left out; random weights are a notice of their own."""
    if view.has_content or view.dummy or not view.points:
        return ""
    what = "Steps, acceptance, self-correction and repair are those of a valid diffusion point"
    if any(p.usable and not p.tells_steps for p in view.diffusion):
        what += " whose backend tells each canvas's steps"
    return f"{what}; this run has none, so their sections are left out."
