"""The page, the plots and the terminal table on a made-up run: complete, honest, self-contained."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from bench.report import print_summary, render
from tests.bench.report.synthetic import SyntheticRun, synthetic_run
from tests.browser import Browser
from tests.narrow import assert_prints, assert_reads_narrow

PLOTS = ("speed", "steps", "acceptance", "correction", "repair", "canvas")


class Outline(HTMLParser):
    """What a page asks of the network, its headings and its images' descriptions."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.descriptions: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.sources += [v or "" for k, v in attrs if k in ("src", "href", "action")]
        if tag == "img":
            self.descriptions.append(given.get("alt") or "")


@pytest.fixture(scope="module", autouse=True)
def _small_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.report.figures.DPI", 80)
        yield


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[SyntheticRun, str]:
    run = synthetic_run(tmp_path_factory.mktemp("run"), num_prompts=40, num_repeats=2)
    return run, render(run).read_text(encoding="utf-8")


def test_every_plot_is_drawn_and_embedded(rendered: tuple[SyntheticRun, str]) -> None:
    run, page = rendered
    names = {path.stem for path in (run.path / "plots").glob("*.png")}
    assert names == set(PLOTS)
    outline = Outline(page)
    assert len(outline.descriptions) == len(PLOTS)
    assert all(len(text) > 40 for text in outline.descriptions)
    assert all((run.path / "plots" / f"{name}.png").stat().st_size > 8_000 for name in PLOTS)


def test_the_page_asks_nobody_for_anything(rendered: tuple[SyntheticRun, str]) -> None:
    outline = Outline(rendered[1])
    assert not [s for s in outline.sources if not s.startswith(("#", "data:image/png"))]
    assert "script" not in outline.tags
    assert "link" not in outline.tags


def test_the_headline_states_speed_with_accuracy(rendered: tuple[SyntheticRun, str]) -> None:
    run, page = rendered
    assert run.points is not None
    heading = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    assert heading is not None
    assert "diffusion delivered" in heading[1]
    assert "autoregressive" in heading[1]
    lead = re.search(r'class="lead">(.*?)</p>', page, re.DOTALL)
    assert lead is not None
    assert "Accuracy: diffusion" in lead[1]
    for limit in ("Screening", "Emulated precision"):
        assert f"<strong>{limit}</strong>" in page


def test_names_from_outside_are_escaped(tmp_path: Path) -> None:
    nasty = '<script>alert("x")</script>$\\frac{1}{0}$'
    run = synthetic_run(tmp_path, num_prompts=20, num_repeats=1, task_names={"add": nasty})
    run.info["command"] = nasty
    page = render(run).read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("missing", ["requests", "canvases", "steps", "positions", "repairs"])
def test_a_missing_table_is_said_not_drawn(tmp_path: Path, missing: str) -> None:
    run = synthetic_run(tmp_path, num_prompts=20, num_repeats=1)
    page = render(replace(run, **{missing: None})).read_text(encoding="utf-8")
    assert len(Outline(page).descriptions) == len(PLOTS)
    if missing != "requests":  # speed needs points alone
        assert "n/a:" in page


@pytest.mark.parametrize("decoding", ["diffusion", "autoregressive"])
def test_one_decoding_alone_gets_a_report(tmp_path: Path, decoding: str) -> None:
    run = synthetic_run(tmp_path, num_prompts=20, num_repeats=1)
    assert run.points is not None
    kept = replace(run, points=run.points[run.points["decoding"] == decoding])
    page = render(kept).read_text(encoding="utf-8")
    assert "No point of the other decoding" in page
    assert ("their sections are left out" in page) == (decoding == "autoregressive")


def test_an_invalid_point_is_shown_and_left_out_of_the_headline(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path, num_prompts=20, num_repeats=1)
    assert run.points is not None
    points = run.points.copy()
    broken = points["decoding"] == "diffusion"
    points.loc[broken, "validity"] = "invalid"
    points.loc[broken, "validity_reason"] = "ledger_does_not_sum"
    page = render(replace(run, points=points)).read_text(encoding="utf-8")
    assert "ledger_does_not_sum" in page
    heading = re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)
    assert heading is not None
    assert "diffusion" not in heading[1]

    assert "Invalid point: diffusion bf16" in page
    assert "do not add up" in page
    assert 'class="greyed"' in page
    assert "their sections are left out" in page
    outline = Outline(page)
    assert len(outline.descriptions) == 1
    assert "Left out as invalid: diffusion bf16, diffusion fp8" in outline.descriptions[0]
    assert "diffusion delivered" not in outline.descriptions[0]


def test_random_weights_are_said_once_and_draw_no_contents(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path, num_prompts=20, num_repeats=1)
    render(run)
    assert run.points is not None
    content = ["accuracy", "net_correction", "repaired_share", "steps_per_canvas_median"]
    unknown = {f"{name}{end}": None for name in content for end in ("", "_lo", "_hi")}
    points = run.points.assign(weights="dummy", **unknown)
    page = render(replace(run, points=points)).read_text(encoding="utf-8")
    assert [path.stem for path in (tmp_path / "plots").glob("*.png")] == ["speed"]
    assert len(Outline(page).descriptions) == 1
    assert page.count("Random weights") == 1
    assert "Those sections are left out" in page
    for heading in ("Steps a canvas", "Self-correction", "Repair test"):
        assert f"<h2>{heading}</h2>" not in page
    assert "net correction" not in page[: page.index('id="definitions"')]


def test_a_simulation_is_never_called_measured(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path, num_prompts=20, num_repeats=1)
    assert run.points is not None
    page = render(replace(run, points=run.points.assign(backend="simulated"))).read_text()
    assert "<strong>Simulated</strong>" in page
    assert "simulated device" in page
    assert "All numbers are measured" not in page


def test_the_machine_has_a_section(rendered: tuple[SyntheticRun, str]) -> None:
    page = rendered[1]
    section = page[page.index('id="conditions"') : page.index('id="definitions"')]
    assert "This run has no GPU telemetry" in section
    assert "SM clock" not in section
    assert "host share" in section


def test_unknown_numbers_print_as_such(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path, num_prompts=20, num_repeats=1)
    assert run.points is not None
    points = run.points.assign(accuracy=None, accuracy_lo=None, accuracy_hi=None)
    page = render(replace(run, points=points)).read_text(encoding="utf-8")
    assert "speed without known quality" in page
    assert not re.search(r">\s*(nan|None|inf|&lt;NA&gt;)\b", page)


def test_it_reads_on_a_telephone_and_on_paper(
    rendered: tuple[SyntheticRun, str], browser: Browser
) -> None:
    with browser.page((rendered[0].path / "report.html").as_uri()) as page:
        assert_reads_narrow(page)
        assert_prints(page)
        page.prefer(printed=True)
        sections = "[...document.querySelectorAll('section.plot')]"
        heights_px = page.evaluate(f"{sections}.map(e => e.getBoundingClientRect().height)")
        assert max(heights_px) <= (297 - 32) / 2 / 25.4 * 96, "two sections a page"


def test_a_report_is_the_same_when_made_again(rendered: tuple[SyntheticRun, str]) -> None:
    run, page = rendered
    shutil.rmtree(run.path / "plots")
    assert render(run).read_text(encoding="utf-8") == page


def test_the_terminal_table_fits_100_columns(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path, num_prompts=20, num_repeats=1)
    console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
    print_summary(run, console)
    text = console.export_text()
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    for decoding in ("diffusion", "autoregressive"):
        assert sum(line.startswith(decoding) for line in lines) == 2
    assert "Diffusion delivers" in text
    assert "…" not in text


def test_points_of_a_kind_are_told_apart_in_the_terminal(tmp_path: Path) -> None:
    run = synthetic_run(tmp_path, num_prompts=6, num_repeats=1)
    first = run.points["point_id"].iloc[0]
    kind = "-".join(first.split("-")[:2])
    names = [f"{kind}-connections={n}" for n in (1, 16)]
    twice = pd.concat(
        [run.points[run.points["point_id"] == first].assign(point_id=name) for name in names]
    )
    console = Console(width=100, record=True, file=(tmp_path / "out").open("w"))
    print_summary(replace(run, points=twice), console)
    lines = [line.split()[0] for line in console.export_text().splitlines() if line.strip()]
    assert [line for line in lines if "=" in line] == ["connections=1", "connections=16"]
