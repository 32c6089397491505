"""A profile, or the difference of two, as one static HTML page that asks for nothing else."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.profile import diff_tables, tables
from bench.profile.advice import advise
from bench.profile.diff import ProfileDiff
from bench.profile.folder import Profile
from bench.profile.plots import plot_breakdown, plot_diff, plot_memory
from bench.profile.words import diff_headline, headline, limits, not_a_speed, words
from bench.report.figures import Plot, house_style
from bench.report.html import embedded, environment
from bench.report.style import DECODING_COLOURS
from bench.writing import writing

_TEMPLATES = Path(__file__).parent / "templates"


def write_page(profile: Profile) -> Path:
    """Writes profile.html into the profile's folder; returns its path."""
    with house_style():
        breakdown, memory = (_figure(plot(profile)) for plot in (plot_breakdown, plot_memory))
    page = profile.path / "profile.html"
    page.write_text(
        environment(_TEMPLATES)
        .get_template("profile.html.j2")
        .render(
            colours=DECODING_COLOURS,
            title=f"profile of {profile.name}",
            date=profile.date,
            device=profile.device,
            headline=headline(profile),
            limits=limits(profile),
            advice=advise(profile),
            breakdown=breakdown,
            memory=memory,
            accounted=profile.panes.accounted,
            phases=tables.phases_table(profile),
            groups=tables.group_tables(profile),
            operators=tables.operators_table(profile),
            kernels=tables.kernels_table(profile),
            gaps=tables.gaps_table(profile),
            memory_table=tables.memory_table(profile),
            overhead=tables.overhead_table(profile),
            trace=next(iter(sorted(p.name for p in (profile.path / "trace").glob("*"))), ""),
            provenance=_provenance(profile.info),
            raw=json.dumps(profile.info.get("config") or {}, indent=2, sort_keys=True),
        ),
        encoding="utf-8",
    )
    return page


def write_diff(diff: ProfileDiff, page: Path) -> Path:
    """Writes the page of two profiles' difference.

    Raises:
        ValueError: the file cannot be written.
    """
    with house_style():
        figure = _figure(plot_diff(diff))
    text = (
        environment(_TEMPLATES)
        .get_template("diff.html.j2")
        .render(
            colours=DECODING_COLOURS,
            title=f"{diff.before.name} against {diff.after.name}",
            date=diff.after.date,
            device=diff.after.device,
            headline=diff_headline(diff),
            not_a_speed=not_a_speed(),
            figure=figure,
            facts=diff_tables.facts_table(diff),
            groups=diff_tables.changes_table(diff),
            phases=diff_tables.phase_changes_table(diff),
        )
    )
    with writing(page):
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    return page


def _figure(plot: Plot) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        uri = embedded(plot.save(Path(folder)))
    return {"uri": uri, "alt": f"{plot.title}. {plot.caption}"}


def _provenance(info: Mapping[str, Any]) -> Sequence[tuple[str, str]]:
    machine, git = info.get("machine") or {}, info.get("git") or {}
    facts = {
        "command": info.get("command"),
        "point": f"{info.get('point_id')} ({info.get('config_hash')})",
        "created": info.get("created"),
        "commit": git.get("commit"),
        "uncommitted changes": git.get("dirty"),
        **{name: machine.get(name) for name in ("device", "driver", "cuda", "torch", "cpu")},
        "threads": machine.get("threads"),
        "system": machine.get("system"),
        "python": machine.get("python"),
    }
    return [(name, words(value)) for name, value in facts.items()]
