"""The run as one HTML file: headline, evidence, definitions, provenance, raw configuration last.

The file asks for nothing else: plots are embedded, fonts are the reader's own, there is no script.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from bench.report.definitions import DEFINITIONS
from bench.report.figures import Plot, house_style
from bench.report.findings import headline, notices, steps_sentence
from bench.report.plot_canvas import plot_canvas
from bench.report.plot_correction import plot_correction, plot_repair
from bench.report.plot_speed import plot_speed
from bench.report.plot_steps import plot_acceptance, plot_steps
from bench.report.style import DECODING_COLOURS, NOT_AVAILABLE
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
    """A plot's place in the page: heading, and how to read it."""

    heading: str
    reading: str
    draw: Callable[[View], Plot]


_SECTIONS = (
    _Section(
        "Speed, with accuracy beside it",
        "A bar is what a user received per second. A fast point whose accuracy interval lies below "
        "another's is not better, it is different.",
        plot_speed,
    ),
    _Section(
        "Steps a canvas",
        "The further left a curve rises, the fewer denoise steps that task needs; speed follows "
        "from this more than from anything else.",
        plot_steps,
    ),
    _Section(
        "What happens inside a canvas",
        "Acceptance is decided anew at every step, so a position can be accepted, revoked and "
        "renoised before the canvas stops.",
        plot_acceptance,
    ),
    _Section(
        "Self-correction",
        "Green is what denoising put right after the reference point, red what it spoilt. The grey "
        "tick is what stayed wrong without a change.",
        plot_correction,
    ),
    _Section(
        "Repair test",
        "A right canvas is damaged and denoised again. This compares models whose own answers are "
        "seldom wrong.",
        plot_repair,
    ),
    _Section(
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
            plot = section.draw(view)
            image = plot.save(folder).read_bytes()
            figures.append(
                {
                    "name": plot.name,
                    "heading": section.heading,
                    "reading": section.reading,
                    "alt": f"{plot.title}. {plot.caption}",
                    "uri": f"data:image/png;base64,{base64.b64encode(image).decode()}",
                }
            )
    page = view.path / "report.html"
    page.write_text(_html(view, figures), encoding="utf-8")
    return page


def _html(view: View, figures: list[dict[str, str]]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    tables: list[Table] = [points_table(view), speeds_table(view), work_table(view)]
    return environment.get_template("report.html.j2").render(
        colours=DECODING_COLOURS,
        date=view.date,
        definitions=DEFINITIONS,
        device=view.device,
        failures=failures_table(view),
        figures=figures,
        headline=headline(view),
        notices=notices(view),
        provenance=provenance(view),
        raw=json.dumps(view.info.get("config") or {}, indent=2, sort_keys=True, default=str),
        sizes=sizes_table(view),
        steps=[steps_sentence(p) for p in view.diffusion if not p.dummy],
        tables=tables,
        timed=view.timed,
        title=str(view.info.get("experiment") or "canvasbench run"),
    )


def provenance(view: View) -> list[tuple[str, str]]:
    """Where the numbers come from, as (name, value) rows; unknown values say so."""
    info = view.info
    machine, git = _mapping(info, "machine"), _mapping(info, "git")
    states: dict[object, str] = {True: ", with uncommitted changes", False: ", clean"}
    dirty = states.get(git.get("dirty"), "")
    rows: list[tuple[str, Any]] = [
        ("created", info.get("created")),
        ("command", info.get("command")),
        ("configuration hash", info.get("config_hash")),
        ("code", f"{git['commit']}{dirty}" if git.get("commit") else None),
        ("state", _state(info)),
        ("run time", f"{info['wall_s']:,.0f} s" if info.get("wall_s") else None),
        ("device", view.device),
        ("CPU", _cpu(machine)),
        ("driver", machine.get("driver")),
        ("CUDA", machine.get("cuda")),
        ("Python", machine.get("python")),
        ("torch", machine.get("torch")),
        ("packages", ", ".join(f"{k} {v}" for k, v in _mapping(info, "packages").items())),
        ("prompts sha256", info.get("prompts_sha256")),
    ]
    for name, weights in _mapping(info, "weights").items():
        described = weights.values() if isinstance(weights, Mapping) else [weights]
        rows.append((f"weights of {name}", ", ".join(str(part) for part in described if part)))
    schema = info.get("schema_version")
    rows.append(("schema version", schema))
    return [(name, NOT_AVAILABLE if value in (None, "") else str(value)) for name, value in rows]


def _mapping(info: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = info.get(name)
    return value if isinstance(value, Mapping) else {}


def _state(info: Mapping[str, Any]) -> str | None:
    if info.get("interrupted"):
        return "interrupted"
    return (
        {True: "finished", False: "unfinished"}.get(info["finished"])
        if "finished" in info
        else None
    )


def _cpu(machine: Mapping[str, Any]) -> str | None:
    if not machine.get("cpu"):
        return None
    memory = machine.get("memory_bytes")
    parts = [
        str(machine["cpu"]),
        f"{machine['cores']} cores" if machine.get("cores") else "",
        f"{machine['threads']} threads" if machine.get("threads") else "",
        f"{memory / 2**30:.1f} GiB" if memory else "",
    ]
    return ", ".join(part for part in parts if part)
