"""The page in a real browser: quiet, legible at both widths, sortable by mouse and keys, prints."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.procurement.command import write_report
from bench.procurement.page import html
from bench.procurement.study import Study
from tests.bench.procurement.conftest import EXAMPLE
from tests.bench.procurement.synthetic import HOSTILE, page
from tests.bench.procurement.test_plots import FIGURES, figure
from tests.browser import Browser, Page

_A4_CONTENT_PX = (round((210 - 32) / 25.4 * 96), round((297 - 32) / 25.4 * 96))
"""What is left of A4 within the margins of the style sheet, CSS pixels."""

_COLUMN = "[...document.querySelectorAll('#leaders tbody tr')].map(r => r.cells[%d].textContent)"
_HEAD = "#leaders thead th:nth-child(%d)"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from bench.report.figures import house_style
    from bench.report.html import embedded

    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch, house_style():
        patch.setattr("bench.report.figures.DPI", 50)
        uris = {name: embedded(figure(name).save(folder)) for name in FIGURES}
    path = folder / "report.html"
    path.write_text(html(page(uris, hostile=HOSTILE[0])), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def looked_at(browser: Browser, file: Path) -> Iterator[Page]:
    """One page for tests that only look at it."""
    with browser.page(file.as_uri()) as page:
        yield page


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Page]:
    with browser.page(file.as_uri()) as page:
        yield page


def test_it_is_quiet_and_asks_for_nothing(looked_at: Page) -> None:
    assert looked_at.errors == []
    assert looked_at.requests == []
    assert "owned" not in looked_at.evaluate("document.title").replace(HOSTILE[0], "")


@pytest.mark.parametrize("width_px", [360, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_it_is_legible(looked_at: Page, width_px: int, dark: bool) -> None:
    looked_at.resize(width_px, 900)
    looked_at.prefer(dark=dark)
    assert looked_at.evaluate("document.documentElement.scrollWidth") <= width_px
    small = looked_at.evaluate(
        """[...document.querySelectorAll("body *")]
        .filter(e => e.checkVisibility() && [...e.childNodes].some(
            n => n.nodeType === 3 && n.textContent.trim()))
        .filter(e => parseFloat(getComputedStyle(e).fontSize) < 12)
        .map(e => e.tagName + " " + getComputedStyle(e).fontSize + " " + e.textContent.slice(0, 40))
        """
    )
    assert small == []
    assert _low_contrast(looked_at) == []


def test_tables_sort_on_click_and_by_keys(opened: Page) -> None:
    cost = _HEAD % 4
    opened.click(f"{cost} button")
    rising = _numbers(opened.evaluate(_COLUMN % 3))
    assert rising == sorted(rising)
    assert len(set(rising)) > 2
    assert opened.evaluate(f"document.querySelector('{cost}').ariaSort") == "ascending"
    opened.evaluate(f"document.querySelector('{cost} button').focus()")
    opened.press("Enter")
    assert _numbers(opened.evaluate(_COLUMN % 3)) == rising[::-1]
    assert opened.evaluate(f"document.querySelector('{cost}').ariaSort") == "descending"
    opened.press("Tab")
    opened.press(" ")
    latency = opened.evaluate(_COLUMN % 4)
    assert "n/a" in latency[-1]
    assert _numbers(latency[:-1]) == sorted(_numbers(latency[:-1]))
    opened.press(" ")
    assert "n/a" in opened.evaluate(_COLUMN % 4)[-1]


def test_words_sort_too_and_rows_stay_whole(opened: Page) -> None:
    rows = "[...document.querySelectorAll('#leaders tbody tr')].map(r => r.textContent)"
    before = opened.evaluate(rows)
    opened.click(f"{_HEAD % 2} button")
    after = opened.evaluate(rows)
    assert after != before
    assert sorted(after) == sorted(before)
    words = [text.strip() for text in opened.evaluate(_COLUMN % 1)]
    assert words == sorted(words)


def test_everything_that_moves_can_be_reached_by_keys(looked_at: Page) -> None:
    lost = looked_at.evaluate(
        """[...document.querySelectorAll(".scroll, summary, thead button, nav a")]
        .filter(e => e.tabIndex < 0).length"""
    )
    assert lost == 0
    looked_at.press("Tab")
    assert looked_at.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_print_has_the_answer_on_one_page_and_cuts_nothing_off(opened: Page) -> None:
    width_px, height_px = _A4_CONTENT_PX
    opened.resize(width_px, height_px)
    opened.prefer(printed=True)
    sheet_px = opened.evaluate("document.querySelector('.sheet').getBoundingClientRect().height")
    assert sheet_px <= height_px
    beyond = opened.evaluate(
        """[...document.querySelectorAll("main *")]
        .filter(e => e.checkVisibility())
        .filter(e => { const r = document.createRange(); r.selectNodeContents(e);
            return Math.max(r.getBoundingClientRect().right, e.getBoundingClientRect().right)
                > innerWidth + 1; })
        .map(e => e.tagName + " " + e.className + " " + e.textContent.slice(0, 40))"""
    )
    assert beyond == []
    pdf = opened.pdf()
    assert pdf.startswith(b"%PDF")
    assert {tuple(round(float(side)) for side in box) for box in _boxes(pdf)} == {(595, 842)}
    assert 3 <= len(_boxes(pdf)) <= 9


def test_the_worked_examples_answer_fits_one_page(
    browser: Browser, example: Study, tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.procurement.command.PICTURES", ())
        path = write_report(example, EXAMPLE / "inputs.yaml", [], tmp_path)
    width_px, height_px = _A4_CONTENT_PX
    with browser.page(path.as_uri()) as page:
        page.resize(width_px, height_px)
        page.prefer(printed=True)
        sheet = "document.querySelector('.sheet').getBoundingClientRect().height"
        assert page.evaluate(sheet) <= height_px
        assert page.evaluate("document.querySelector('#leaders .chosen th').innerText").endswith(
            "recommended"
        )


def _numbers(cells: list[str]) -> list[float]:
    """The first number of each cell."""
    return [float(re.findall(r"\d+\.?\d*", cell)[0]) for cell in cells]


def _boxes(pdf: bytes) -> list[list[bytes]]:
    """Width and height of every page, points."""
    return [box.split()[2:4] for box in re.findall(rb"/MediaBox\s*\[([^\]]+)\]", pdf)]


def _low_contrast(page: Page) -> list[str]:
    """Texts with less than 4.5:1 against what is painted behind them."""
    found: list[str] = page.evaluate(
        """(() => {
        const rgb = (c) => (c.match(/[\\d.]+/g) ?? []).map(Number);
        const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = (e) => { for (; e; e = e.parentElement) {
            const c = rgb(getComputedStyle(e).backgroundColor);
            if (c.length === 3 || c[3] > 0) return c; } return [255, 255, 255]; };
        return [...document.querySelectorAll("body *")]
            .filter(e => e.checkVisibility() && [...e.childNodes].some(
                n => n.nodeType === 3 && n.textContent.trim()))
            .filter(e => { const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
                return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5; })
            .map(e => e.tagName + " " + e.textContent.slice(0, 40)); })()"""
    )
    return found
