"""Verdicts on published claims as a page of their own and as a part of the run's report.

Both are made of `claims.json` (`bench.claims.kept`) alone, verdict first.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.claims.kept import read_verdicts, unshown
from bench.claims.verdict import Outcome, comparable_first, is_comparable
from bench.claims.words import TIMES, difference, figure, percent, promised_too, told, unit_of
from bench.digits import NOT_AVAILABLE
from bench.report.figures import house_style
from bench.report.html import embedded, environment
from bench.report.notices import notices
from bench.report.plot_claims import plot_claim
from bench.report.style import DECODING_COLOURS, plural
from bench.report.tables import Cell, Table
from bench.report.view import Run, View

_POSITIVE = (Outcome.REPRODUCED, Outcome.WITHIN_TOLERANCE)
_STATES = {"same": "same", "different": "differs", "unknown": "unknown"}

Plain = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """One claim on a page.

    Attributes:
        tone: positive | negative | none; how the verdict is coloured.
        told: where the point, its n, its interval and its promise stand.
        uri, alt: its figure; empty for claims about no speed.
        is_open: its evidence stands unfolded on a page of its own; that of what is not comparable
            does where nothing is.
    """

    name: str
    title: str
    verdict: str
    tone: str
    reasons: tuple[str, ...]
    told: str
    uri: str
    alt: str
    tables: tuple[Table, ...]
    oddities: tuple[str, ...]
    left_open: tuple[str, ...]
    source: str
    is_open: bool


@dataclass(frozen=True, slots=True)
class Judged:
    """All verdicts on a run.

    Attributes:
        unshown: what the run preregistered besides, in a sentence; empty where nothing is left out.
    """

    headline: str
    unshown: str
    summary: Table
    sections: tuple[Section, ...]


def judged(view: View) -> Judged | None:
    """The run's verdicts with their figures drawn; None where it was not judged.

    Raises:
        ValueError: the file of verdicts is damaged.
    """
    verdicts = comparable_first(read_verdicts(view.path))
    if not verdicts:
        return None
    all_open = not any(map(is_comparable, verdicts))
    with house_style():
        sections = tuple(
            _section(view, verdict, is_open=all_open or is_comparable(verdict))
            for verdict in verdicts
        )
    left_out = promised_too(unshown(view.path, view.info, verdicts))
    return Judged(_headline(verdicts), left_out, _summary(verdicts), sections)


def render_claims(run: Run) -> Path:
    """Writes claims.html into the run's folder; returns its path.

    Raises:
        ValueError: the run was not judged.
    """
    view = View.of(run)
    found = judged(view)
    if found is None:
        raise ValueError(f"run {view.path} was not judged; `canvasbench claims judge` does it")
    page = view.path / "claims.html"
    html = environment().get_template("claims.html.j2")
    page.write_text(
        html.render(
            claims=found,
            colours=DECODING_COLOURS,
            date=view.date,
            device=view.device,
            notices=notices(view),
            timed=view.timed,
            title="Published claims",
        ),
        encoding="utf-8",
    )
    return page


def _headline(verdicts: Sequence[Plain]) -> str:
    if len(verdicts) == 1:
        only = verdicts[0]
        return f"{only['verdict']}: {only['claim']['title']}, {only['claim']['published']}"
    counts = Counter(verdict["verdict"] for verdict in verdicts)
    said = [f"{counts[o]} {str(o).lower()}" for o in Outcome if counts[o]]
    return f"{plural(len(verdicts), 'published claim')}: {', '.join(said)}"


def _summary(verdicts: Sequence[Plain]) -> Table:
    rows = tuple(
        (
            Cell(own["verdict"]),
            Cell(own["claim"]["title"], own["claim"]["name"]),
            Cell(own["claim"]["published"]),
            _measured(own["claim"], own["value"], own["interval"]),
        )
        for own in verdicts
    )
    header = (("verdict", ""), ("claim", ""), ("published", ""), ("measured", "95 %"))
    return Table("Each claim by its own definition.", header, rows)


def _measured(claim: Plain, value: float | None, interval: Sequence[float] | None) -> Cell:
    shown, within = told(value, interval)
    unit = "" if value is None else unit_of(claim["unit"], is_ratio=bool(claim["over"]))
    return Cell(shown + unit, within)


def _section(view: View, own: Plain, *, is_open: bool) -> Section:
    claim, outcome = own["claim"], own["verdict"]
    uri = alt = ""
    if own["definitions"] and claim["over"] is None and "tok_per_s" in claim["metric"]:
        plot = plot_claim(view, own)
        folder = view.path / "plots"
        folder.mkdir(parents=True, exist_ok=True)
        uri, alt = embedded(plot.save(folder)), f"{plot.title}. {plot.caption}"
    tables = [_conditions(own), *_definitions(own), *_decomposition(own), *_baselines(own)]
    return Section(
        claim["name"],
        claim["title"],
        outcome,
        "positive"
        if outcome in _POSITIVE
        else "negative"
        if outcome == "NOT REPRODUCED"
        else "none",
        (*_outdated(view, own), *own["reasons"]),
        _told(own),
        uri,
        alt,
        tuple(tables) if own["point"] is not None else (),
        tuple(own["oddities"]),
        tuple(claim["open"]),
        _source(claim["source"]),
        is_open,
    )


def _outdated(view: View, own: Plain) -> tuple[str, ...]:
    """Whether the run went on after it was judged."""
    now = next((p.count("num_requests") for p in view.points if p.point_id == own["point"]), None)
    if own["point"] is None or now == own["n"]["requests"]:
        return ()
    return ("the run has changed since it was judged; `canvasbench claims judge` judges it again",)


def _source(source: Plain) -> str:
    parts = [f"{source['title']}, {source['date']}"]
    parts += [part for part in (source["where"], source["read"]) if part]
    return "; ".join(parts)


def _told(own: Plain) -> str:
    if own["point"] is None:
        return own["promise"].capitalize() + "."
    n = own["n"]
    over = f" over {own['denominator']}" if own["denominator"] else ""
    nouns = {"processes": "process", "canvases": "canvas"}
    sizes = [
        plural(count, nouns.get(level, level.removesuffix("s")))
        for level, count in n.items()
        if level != "needed" and count
    ]
    kind = own["interval_is"] or "no interval"
    alike = ", ".join(own["points_alike"])
    more = f" Other points under the same conditions: {alike}." if alike else ""
    return (
        f"By {own['claim']['metric']}; point {own['point']}{over}: {', '.join(sizes)}; "
        f"interval: {kind}. "
        f"{own['claim']['kind'].capitalize()}; {own['promise']}.{more}"
    )


def _conditions(own: Plain) -> Table:
    ordered = sorted(own["conditions"], key=lambda c: (not c["blocks"], not c["blocking"]))
    rows = tuple(
        (
            Cell(c["name"].replace("_", " "), "" if c["blocking"] else "disclosed"),
            Cell(c["published"]),
            Cell(c["actual"]),
            Cell("blocks the verdict" if c["blocks"] else _STATES[c["state"]]),
        )
        for c in ordered
    )
    header = (("condition", ""), ("published", ""), ("here", ""), ("", ""))
    return Table(
        "Conditions, published against actual. A stated one that is not met, or not known of the "
        "run, takes the verdict away; disclosed ones do not.",
        header,
        rows,
        words=4,
    )


def _definitions(own: Plain) -> list[Table]:
    rows = tuple(
        (
            Cell(d["metric"], d["meaning"]),
            Cell("the claim's" if d["is_claims"] else "", "closest" if d["is_closest"] else ""),
            Cell(*told(d["value"], d["interval"])),
            Cell(NOT_AVAILABLE if d["ratio"] is None else f"{d['ratio']:.3f}"),
        )
        for d in own["definitions"]
    )
    if not rows:
        return []
    spread = own["definitions_spread"]
    apart = "" if spread is None else f" The largest is {spread:.2f} times the smallest."
    unit = TIMES if own["claim"]["over"] else own["claim"]["unit"]
    header = (
        ("definition", ""),
        ("", ""),
        ("this run", f"{unit}, 95 %"),
        ("measured", "/ published"),
    )
    return [Table(f"The same run under every definition of its kind.{apart}", header, rows)]


def _decomposition(own: Plain) -> list[Table]:
    found, floors = own["decomposition"], own["floors"]
    if found is None:
        return []
    blocks = [block for block in (found["published"], found["measured"]) if block is not None]
    rows = tuple(
        (
            Cell(block["name"]),
            Cell(figure(block["block_ms"])),
            Cell(NOT_AVAILABLE if block["forwards"] is None else f"{block['forwards']:g}"),
            Cell(figure(block["forward_ms"])),
            Cell(figure(block["device_ms"])),
            Cell(figure(block["host_ms"])),
            Cell(percent(block["op_floor_share"])),
            Cell(percent(block["streaming_floor_share"])),
        )
        for block in blocks
    )
    header = (
        ("rate", ""),
        ("a block", "ms"),
        ("forwards", "a block"),
        ("a forward", "ms, host included"),
        ("a forward", "ms, device"),
        ("host", "ms a block"),
        ("op floor", "share, data sheet"),
        ("streaming floor", "share, data sheet"),
    )
    said = (
        "A block is a canvas (its steps, and a commit that is not fused with one of them), or one "
        "autoregressive token."
    )
    if floors is not None:
        said += (
            f" Floors of the {floors['device']} by its data sheet, not by the rates that this run "
            f"reached: op {figure(floors['op_ms'])} ms a forward, "
            f"streaming {figure(floors['streaming_ms'])} ms."
        )
    return [Table(f"{said} {difference(found)}", header, rows, words=1)]


def _baselines(own: Plain) -> list[Table]:
    rows = tuple(
        (
            Cell(b["name"]),
            Cell(b["kind"]),
            Cell(figure(b["tok_per_s"])),
            Cell(percent(b["floor_share"])),
            Cell(NOT_AVAILABLE if b["ratio"] is None else figure(b["ratio"]) + TIMES),
        )
        for b in own["baselines"]
    )
    header = (
        ("measured diffusion rate over", ""),
        ("class", ""),
        ("autoregressive", "tok/s"),
        ("of its op floor", "%, data sheet"),
        ("ratio", ""),
    )
    caption = "A ratio is no better than what it is divided by."
    return [Table(caption, header, rows)] if rows else []
