"""`canvasbench procure`: inputs and runs in, one report and its tables out."""

import hashlib
import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from bench.digits import NOT_AVAILABLE
from bench.procurement.cell import NumberClass
from bench.procurement.curves import Curve, measured_curves
from bench.procurement.inputs import Inputs, Quality, read_inputs
from bench.procurement.listing import tables
from bench.procurement.listing_beside import inputs_table
from bench.procurement.marks import Stamp
from bench.procurement.measured import RANDOM_WEIGHTS, measured_points, with_others_named
from bench.procurement.memory_fit import MemoryShape
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.page import Page, Section, html
from bench.procurement.pictures import PICTURES
from bench.procurement.projection import projector
from bench.procurement.replies import Reply, measured_replies
from bench.procurement.study import Study, studied
from bench.procurement.tables import DataTable, write_tables
from bench.procurement.told import summary
from bench.procurement.told_limits import definitions, notices
from bench.redact import redact
from bench.report.cells import left_to_right
from bench.report.figures import drawable, house_style
from bench.report.html import embedded
from bench.report.style import plural
from bench.store import Run, open_run

ANSWERED, NOT_ANSWERED = 0, 3
_COLUMNS = 100
_LONGEST = 400
"""Characters of all labels together below a figure."""


def procure(inputs_file: Path, run_folders: Sequence[Path], out: Path, *, as_json: bool) -> int:
    """Writes report.html, tables/ and plots/ into `out` and prints the answer.

    Returns:
        The exit code: 0 answered, 3 nothing can be answered (the report says why).

    Raises:
        ValueError: bad inputs, a run that is not usable, or a folder that cannot be written to.
    """
    inputs = read_inputs(inputs_file)
    runs = opened(run_folders)
    study = study_of(inputs, runs)
    try:
        path = write_report(study, inputs_file, runs, out)
    except OSError as error:
        raise ValueError(f"--out {out} cannot be written to: {error.strerror}") from error
    code = ANSWERED if study.best else NOT_ANSWERED
    if as_json:
        print(json.dumps({**plain(study), "report": str(path), "exit_code": code}, indent=1))
        return code
    said = summary(study)
    left_out = (f"Left out: {reason}" for reason in study.left_out)
    serious = ". ".join(notice.title for notice in notices(study) if notice.serious)
    warned = [f"Before signing: {serious}."] if serious else []
    advice = said.changes if study.best is None else ()
    for sentence in (said.answer, *said.lead, *said.certainty, *advice, *warned, *left_out):
        shown = left_to_right(sentence, keep=" ")
        print(textwrap.fill(shown, _COLUMNS, break_long_words=False, break_on_hyphens=False))
    print(left_to_right(f"report: {path}", keep=" "))
    return code


def opened(folders: Sequence[Path]) -> list[Run]:
    """The runs of different folders.

    Raises:
        ValueError: a folder is no run, or was given twice.
    """
    found: dict[Path, Run] = {}
    for folder in folders:
        place = folder.resolve()
        if place in found:
            raise ValueError(f"run {folder} is given twice; give each run once")
        found[place] = open_run(folder)
    return list(found.values())


def study_of(inputs: Inputs, runs: Sequence[Run]) -> Study:
    """The answers from runs, and from projections for what they did not measure.

    Raises:
        ValueError: a run that is not usable, or runs that must not be held against each other.
    """
    # It imports the model, hence torch; everything else here does without.
    from bench.procurement.work import memory_shape, released_work

    points: list[OperatingPoint] = []
    left_out: list[str] = []
    curves: list[Curve] = []
    replies: list[Reply] = []
    offered = {name for offer in inputs.offers for name in (offer.device, offer.reported_as)}
    for run in runs:
        found, unused = measured_points(run)
        strange = Counter(point.device for point in found if point.device not in offered)
        left_out += [
            f"run {run.path}: its device {device} is not offered ({plural(count, 'point')})"
            for device, count in strange.items()
        ]
        points += found
        left_out += unused
        curves += measured_curves(run)
        replies += measured_replies(run)
    check_comparable(points)
    points = with_others_named(points)
    check_quality(points, inputs.quality)

    @cache
    def shape(model: str) -> MemoryShape | None:
        try:
            return memory_shape(model)
        except ValueError:
            return None

    return studied(
        inputs,
        points,
        curves,
        projector(cache(released_work)),
        shape,
        replies=replies,
        left_out=left_out,
    )


def check_comparable(points: Sequence[OperatingPoint]) -> None:
    """Refuses points that are not to be held against each other.

    Raises:
        ValueError: their rates are defined differently, or measured ones did different work.
    """
    first: dict[str, OperatingPoint] = {}
    for point in points:
        for what, said, judged in (
            ("rate is", point.definition, True),
            ("work was", point.work, point.kind is NumberClass.MEASURED and bool(point.work)),
        ):
            if not judged:
                continue
            other = first.setdefault(what, point)
            theirs = other.definition if what == "rate is" else other.work
            if theirs != said:
                raise ValueError(
                    f"{point.source} and {other.source} cannot be compared: their {what}"
                    f" {said!r} and {theirs!r}; give runs of one definition and one workload"
                )


def check_quality(points: Sequence[OperatingPoint], quality: Quality) -> None:
    """Refuses runs of random weights where answers are to be good enough.

    Raises:
        ValueError: a floor is set, a point has random weights, and `speed_only` was not stated.
    """
    if quality.accuracy_floor is None or quality.speed_only:
        return
    for point in points:
        if point.accuracy.why_unknown == RANDOM_WEIGHTS:
            raise ValueError(
                f"{point.source} has random weights, which cannot reach quality.accuracy_floor"
                f" {quality.accuracy_floor:g}; measure with real weights, remove the floor, or set"
                " quality.speed_only: true"
            )


def write_report(study: Study, inputs_file: Path, runs: Sequence[Run], out: Path) -> Path:
    """The folder's files; returns the page's path."""
    today = datetime.now(UTC).date().isoformat()
    found = {table.name: table for table in tables(study)}
    entered = inputs_table(study.inputs)
    write_tables([*found.values(), entered], out / "tables")
    plots = out / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    labels = drawable(", ".join(offer.label for offer in study.inputs.offers), _LONGEST)
    sections = []
    with house_style():
        for picture in PICTURES:
            plot = picture.draw(study, Stamp(labels, today))
            sections.append(
                Section(
                    picture.name,
                    picture.heading,
                    picture.reading,
                    embedded(plot.save(plots)),
                    f"{plot.title}. {plot.caption}",
                    tuple(found[name] for name in picture.tables if found[name].rows),
                )
            )
    raw = inputs_file.read_bytes()
    page = Page(
        title=study.inputs.title or inputs_file.stem,
        date=today,
        summary=summary(study),
        notices=notices(study),
        sections=tuple(sections),
        inputs=entered,
        definitions=definitions(),
        provenance=_provenance(study, inputs_file, raw, runs),
        raw=raw.decode("utf-8", errors="replace"),
    )
    path = out / "report.html"
    path.write_text(html(page), encoding="utf-8")
    return path


def plain(study: Study) -> dict[str, Any]:
    """The answers as JSON has them: what stands on the first sheet, and every table."""
    said = summary(study)
    return {
        "answer": said.answer,
        "lead": said.lead,
        "certainty": said.certainty,
        "changes": said.changes,
        "basis": said.basis,
        "notices": [{"title": n.title, "text": n.text} for n in notices(study)],
        "tables": {
            table.name: _records(table) for table in (*tables(study), inputs_table(study.inputs))
        },
    }


def _records(table: DataTable) -> list[dict[str, Any]]:
    frame = table.frame().astype(object)
    return [
        {str(key): value for key, value in row.items()}
        for row in frame.where(frame.notna(), None).to_dict("records")
    ]


def _provenance(
    study: Study, inputs_file: Path, raw: bytes, runs: Sequence[Run]
) -> tuple[tuple[str, str], ...]:
    from bench.provenance import git_state

    code = git_state()
    state = {True: ", changed since", False: "", None: ""}[code["dirty"]]
    return (
        ("inputs", redact(str(inputs_file))),
        ("inputs, SHA-256", hashlib.sha256(raw).hexdigest()),
        *((f"run {index}", redact(_run_words(run))) for index, run in enumerate(runs, 1)),
        ("projection", study.projection),
        ("Monte Carlo", f"{study.draws.count:,} draws, seed {study.draws.seed}"),
        ("code", f"commit {code['commit'] or NOT_AVAILABLE}{state}"),
    )


def _run_words(run: Run) -> str:
    created = str(run.info.get("created") or "undated")[:10]
    return f"{run.path}, {created}, {plural(len(run.points), 'point')}"
