"""The report as one HTML file: the answer on one sheet, then figures, tables, inputs, definitions.

The file asks for nothing else: pictures are embedded, fonts are the reader's own, and the one
script (it sorts tables) is allowed by its hash, so that no text of an input can ever run.
"""

from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from bench.procurement.cell import NumberClass
from bench.procurement.tables import DataTable, Shown
from bench.report.html import environment, script_source
from bench.report.style import DECODING_COLOURS

_TEMPLATES = Path(__file__).parent / "templates"
_FOLDED_FROM = 20
"""Rows from which on a table starts folded; its files hold it in full."""

CLASSES = (
    (NumberClass.MEASURED, "by a run named below"),
    (NumberClass.PUBLISHED, "by others, with its source"),
    (NumberClass.PROJECTED, "by a roofline calibrated elsewhere"),
    (NumberClass.ASSUMED, "by whoever wrote the inputs"),
)


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One of the large numbers of the first sheet."""

    label: str
    number: Shown


@dataclass(frozen=True, slots=True)
class Summary:
    """The first sheet.

    Attributes:
        answer: what to buy, or that nothing can be answered: the heading.
        lead: what that costs and meets; figures: the same as numbers.
        certainty: how sure; changes: what would change the answer, one sentence each.
        ranking: the best way to run each device; None where there is none.
        basis: what all of it rests on.
    """

    answer: str
    lead: tuple[str, ...]
    figures: tuple[KeyFigure, ...]
    certainty: tuple[str, ...]
    changes: tuple[str, ...]
    ranking: DataTable | None
    basis: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A limit that a reader must know of."""

    title: str
    text: str
    serious: bool = False


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: how to read it, a picture as an address (empty: none), tables."""

    name: str
    heading: str
    reading: str
    uri: str
    alt: str
    tables: tuple[DataTable, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """Everything the file shows."""

    title: str
    date: str
    summary: Summary
    notices: tuple[Notice, ...]
    sections: tuple[Section, ...]
    inputs: DataTable
    definitions: tuple[tuple[str, str], ...]
    provenance: tuple[tuple[str, str], ...]
    raw: str


def html(page: Page) -> str:
    """The file's text; whatever its parts say stays text."""
    script = (_TEMPLATES / "sort.js").read_text(encoding="utf-8")
    return (
        environment(_TEMPLATES)
        .get_template("procure.html.j2")
        .render(
            classes=CLASSES,
            colours=DECODING_COLOURS,
            date=page.date,
            definitions=page.definitions,
            folded_from=_FOLDED_FROM,
            inputs=page.inputs,
            notices=page.notices,
            policy=Markup(script_source(script)),
            provenance=page.provenance,
            raw=page.raw,
            script=Markup(script),
            sections=page.sections,
            summary=page.summary,
            title=page.title,
        )
    )
