"""Verdicts as pages: verdict first, a figure a speed claim, evidence below, nothing asked for."""

import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import open_run
from bench.claims.dossier import dossiers
from bench.claims.files import read_claim
from bench.claims.kept import FILE, read_verdicts, write_verdicts
from bench.claims.terminal import print_verdicts
from bench.report import render, render_claims
from bench.report.claims import judged
from bench.report.plot_claims import plot_claim
from bench.report.view import View
from tests.bench.claims.rerun import rerun
from tests.browser import Browser
from tests.narrow import assert_prints, assert_reads_narrow

NAMES = ("h100-fp8", "h100-over-ar", "steps-per-canvas", "h100-ar-fp8")


class Outline(HTMLParser):
    """What a page asks of the network, and the words it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [v or "" for k, v in attrs if k in ("src", "href", "action")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A judged run with both pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.report.figures.DPI", 60)
        path = rerun().write(tmp_path_factory.mktemp("page") / "rerun")
        run = open_run(path)
        found = dossiers(run, [read_claim(name) for name in NAMES])
        write_verdicts(path, [each.plain() for each in found])
        render_claims(run)
        render(run)
    return path


@pytest.mark.parametrize("name", ["claims.html", "report.html"])
def test_pages_ask_nobody_for_anything(folder: Path, name: str) -> None:
    outline = Outline((folder / name).read_text())
    assert not [s for s in outline.sources if not s.startswith(("#", "data:image/png"))]
    assert not {"script", "link"} & set(outline.tags)
    assert outline.tags.count("main") == 1
    anchors = [s[1:] for s in outline.sources if s.startswith("#")]
    assert all(f'id="{anchor}"' in (folder / name).read_text() for anchor in anchors)


def test_the_verdict_comes_first_and_the_evidence_below(folder: Path) -> None:
    page = (folder / "claims.html").read_text()
    heading = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    assert heading is not None
    assert heading[1] == "4 published claims: 1 reproduced, 3 not comparable"
    section = page[page.index('id="claim-h100-fp8"') :]
    places = [
        section.index(text)
        for text in (
            'class="verdict positive">REPRODUCED',
            "1,135 tok/s (95 %: 1,120 to 1,148) by this engine",
            "<figure",
            "Conditions, published against actual",
            "every definition of its kind. The largest is 1.56 times the smallest",
            "A block is a canvas",
            "+12.6 % by the time of one",
            "A ratio is no better than what it is divided by",
            "request 0 waited 8.13 s",
            "canvas 1 (from 0) of request 46",
            "What the source leaves open",
            "vllm-project.github.io",
        )
    ]
    assert places == sorted(places)


def test_blocking_mismatches_stand_first_and_unknowns_are_named(folder: Path) -> None:
    page = (folder / "claims.html").read_text()
    section = page[page.index('id="claim-h100-ar-fp8"') :]
    rows = re.findall(r'<th scope="row"[^>]*>([^<]+?)(?:<|$)', section)
    assert rows[:2] == ["decoding", "model"]
    assert section.count("blocks the verdict") == 2
    assert ">unknown</td>" in section
    assert 'class="verdict none">NOT COMPARABLE' in section


def test_what_is_not_comparable_comes_last_and_is_folded(tmp_path: Path) -> None:
    path = rerun().write(tmp_path / "rerun")
    run = open_run(path)

    def made(*names: str) -> tuple[list[str], list[bool], str]:
        """Verdicts in the page's order, whose evidence is open, and the terminal's text."""
        found = [each.plain() for each in dossiers(run, [read_claim(name) for name in names])]
        write_verdicts(path, found)
        page = render_claims(run).read_text()
        console = Console(width=100, file=io.StringIO(), record=True)
        print_verdicts(found, {}, {}, console)
        verdicts = re.findall(r'class="verdict [a-z]+">([A-Z ]+)<', page)
        is_open = ["open" in tag for tag in re.findall(r"<details( open)?>", page)]
        return verdicts, is_open, console.export_text()

    verdicts, is_open, text = made("h100-ar-fp8", "h100-fp8", "steps-per-canvas")
    assert verdicts == ["REPRODUCED", "NOT COMPARABLE", "NOT COMPARABLE"]
    assert is_open == [True, False, False]
    starts = [line.split("  ")[0] for line in text.splitlines() if line[:1].isupper()]
    assert starts == ["REPRODUCED", "NOT COMPARABLE", "NOT COMPARABLE"] * 2
    assert text.count("condition ") == 1
    assert "decoding: published autoregressive, here diffusion" in text
    verdicts, is_open, text = made("h100-ar-fp8")
    assert (verdicts, is_open) == (["NOT COMPARABLE"], [True])
    assert text.count("condition ") == 1


def test_the_page_reads_on_a_telephone_and_on_paper(folder: Path, browser: Browser) -> None:
    with browser.page((folder / "claims.html").as_uri()) as page:
        assert_reads_narrow(page)
        assert_prints(page)


def test_there_is_a_figure_for_a_speed_and_none_for_a_ratio_or_a_count(folder: Path) -> None:
    names = {path.stem for path in (folder / "plots").glob("claim-*.png")}
    assert names == {"claim-h100-fp8"}
    found = judged(View.of(open_run(folder)))
    assert found is not None
    by_name = {section.name: section for section in found.sections}
    assert "REPRODUCED: 1,135 tok/s measured, 1,008 tok/s published" in by_name["h100-fp8"].alt
    assert not by_name["h100-over-ar"].uri


def test_the_figure_holds_all_that_is_compared(folder: Path) -> None:
    verdict = read_verdicts(folder)[0]
    plot = plot_claim(View.of(open_run(folder)), verdict)
    (axes,) = plot.figure.axes
    shown = " ".join(text.get_text() for text in axes.texts)
    for text in ("1,008", "1,135", "1,120 to 1,148", "op floor, 1,782", "streaming floor, 1,844"):
        assert text in shown
    labels = [tick.get_text() for tick in axes.get_yticklabels()]
    assert labels[:2] == ["published", "measured: decode, median"]
    assert labels[2:] == ["delivered", "decode, ratio of sums", "slots", "1 / TPOT"]
    published = next(line for line in axes.lines if line.get_marker() == "D")
    assert published.get_markerfacecolor() == "#ffffff"
    assert list(published.get_xdata()) == [1008]
    low, high = axes.get_xlim()
    assert low < 950
    assert high > 1844


def test_the_report_is_made_again_from_the_kept_verdicts_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any) -> None:
        raise AssertionError("a report reads no claim files and needs no engine")

    monkeypatch.setattr("bench.claims.files.read_claim", gone)
    monkeypatch.setattr("bench.claims.decomposition.claim_floors", gone)
    monkeypatch.setattr("bench.report.figures.DPI", 60)
    page = render(open_run(folder)).read_text()
    assert 'id="claim-h100-fp8"' in page
    assert page.index("Published claims") < page.index("All points")


def test_without_verdicts_there_is_no_section(tmp_path: Path) -> None:
    run = open_run(rerun().write(tmp_path / "rerun"))
    assert judged(View.of(run)) is None
    with pytest.raises(ValueError, match="was not judged; `canvasbench claims judge` does it"):
        render_claims(run)


def test_a_full_disk_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bench.claims.kept.move_into_place", full)
    with pytest.raises(OSError, match="No space left"):
        write_verdicts(tmp_path, [])
    assert not list(tmp_path.iterdir())


def test_damaged_verdicts_say_so(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("{")
    with pytest.raises(ValueError, match=r"claims\.json is damaged"):
        read_verdicts(tmp_path)
    (tmp_path / FILE).write_text(json.dumps({"version": 99, "claims": []}))
    with pytest.raises(ValueError, match="of version 99; this is version 1: judge again"):
        read_verdicts(tmp_path)


def test_verdicts_on_a_run_that_went_on_say_that_they_are_old(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.report.figures.DPI", 60)
    run = open_run(folder)
    found = judged(View.of(run))
    assert found is not None
    assert not any("changed since" in reason for s in found.sections for reason in s.reasons)
    run.points["num_requests"] += 1
    found = judged(View.of(run))
    assert found is not None
    assert all("changed since it was judged" in section.reasons[0] for section in found.sections)


def test_user_text_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.report.figures.DPI", 60)
    path = rerun().write(tmp_path / "rerun")
    run = open_run(path)
    (found,) = dossiers(run, [read_claim("h100-fp8")])
    plain = found.plain()
    plain["claim"]["title"] = "<script>alert(1)</script> $x$"
    write_verdicts(path, [plain])
    page = render_claims(run).read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
