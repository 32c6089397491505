"""The browser that pages are tested with: it sees what a page says, asks for and does with keys."""

import os
import struct
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.browser import Browser, BrowserError

_PAGE = """<!doctype html><meta charset="utf-8"><title>driven</title>
<style>@page { size: A4 } body { margin: 0; background: rgb(255, 255, 255) }
@media (prefers-color-scheme: dark) { body { background: rgb(0, 0, 0) } }
@media print { body { background: rgb(1, 2, 3) } }</style>
<body><button id="b" style="margin-top: 3000px">press</button>
<script>
window.keys = []; window.clicks = 0;
addEventListener("keydown", e => window.keys.push(`${e.key} ${e.code} ${e.shiftKey}`));
document.querySelector("#b").onclick = e => { window.clicks += e.isTrusted ? 1 : 0 };
const background = () => getComputedStyle(document.body).backgroundColor;
</script>"""


@pytest.fixture
def address(tmp_path: Path) -> str:
    page = tmp_path / "page.html"
    page.write_text(_PAGE)
    return page.as_uri()


def test_a_quiet_page_is_quiet(browser: Browser, address: str) -> None:
    with browser.page(address) as page:
        assert page.evaluate("document.title") == "driven"
        assert page.evaluate("Promise.resolve({a: [1, null]})") == {"a": [1, None]}
        assert (page.errors, page.requests, page.console) == ([], [], [])


def test_what_goes_wrong_in_a_page_is_seen(browser: Browser, address: str) -> None:
    with browser.page(address) as page:
        page.evaluate("console.error('broken', 3); console.log('said')")
        page.evaluate("new Promise(r => setTimeout(() => { setTimeout(r, 0); boom() }, 0))")
        first, second = page.errors
        assert first == "console.error: broken 3"
        assert second.startswith("exception: ReferenceError: boom is not defined")
        assert page.console == ["broken 3", "said"]
        with pytest.raises(BrowserError, match="ReferenceError: missing"):
            page.evaluate("missing")


def test_a_request_is_seen_even_when_nobody_answers(browser: Browser, address: str) -> None:
    asked = "http://127.0.0.1:9/picture.png"
    with browser.page(address) as page:
        page.evaluate(
            f"new Promise(r => {{ const i = new Image(); i.onerror = r; i.src = '{asked}' }})"
        )
        page.evaluate(
            "new Promise(r => { const i = new Image(); i.onerror = r; i.src = 'data:,' })"
        )
        assert page.requests == [asked]
        assert any("ERR_" in error for error in page.errors)
    with browser.page(address) as page:
        assert page.requests == []


def test_keys_and_clicks_arrive_as_a_user_s(browser: Browser, address: str) -> None:
    with browser.page(address) as page:
        for key in ("ArrowRight", "Home", " ", "7", "p"):
            page.press(key)
        page.press("Tab", shift=True)
        assert page.evaluate("keys") == [
            "ArrowRight ArrowRight false",
            "Home Home false",
            "  Space false",
            "7 Digit7 false",
            "p KeyP false",
            "Tab Tab true",
        ]
        page.click("#b")
        assert page.evaluate("clicks") == 1
        with pytest.raises(ValueError, match="'Hyper' is unknown"):
            page.press("Hyper")


def test_the_reader_s_wishes_reach_the_style_sheet(browser: Browser, address: str) -> None:
    with browser.page(address, width_px=360, height_px=700) as page:
        assert page.evaluate("[innerWidth, innerHeight]") == [360, 700]
        page.resize(1000, 600)
        assert page.evaluate("[innerWidth, innerHeight]") == [1000, 600]
        page.prefer(dark=True, reduced_motion=True)
        assert page.evaluate("background()") == "rgb(0, 0, 0)"
        assert page.evaluate("matchMedia('(prefers-reduced-motion: reduce)').matches")
        page.prefer(printed=True)
        assert page.evaluate("background()") == "rgb(1, 2, 3)"
        page.prefer()
        assert page.evaluate("background()") == "rgb(255, 255, 255)"


def test_work_of_a_page_is_told_from_waiting(browser: Browser, address: str) -> None:
    with browser.page(address) as page:
        begin_s = page.busy_s
        page.evaluate("new Promise(r => setTimeout(r, 150))")
        waited_s = page.busy_s - begin_s
        page.evaluate("{ let n = 0; for (let i = 0; i < 1e8; i++) n += i % 7; n }")
        assert page.busy_s - begin_s - waited_s > 3 * waited_s


def test_pictures_and_paper(browser: Browser, address: str, tmp_path: Path) -> None:
    with browser.page(address, width_px=400, height_px=300) as page:
        page.screenshot(tmp_path / "view.png")
        page.screenshot(tmp_path / "whole.png", whole=True)
        assert page.pdf().startswith(b"%PDF-")
    assert _size_px(tmp_path / "view.png") == (400, 300)
    width_px, height_px = _size_px(tmp_path / "whole.png")
    assert width_px == 400
    assert height_px > 3000


def test_a_page_that_is_not_there_is_an_error(browser: Browser, tmp_path: Path) -> None:
    with pytest.raises(BrowserError, match="ERR_FILE_NOT_FOUND"):
        browser.page((tmp_path / "none.html").as_uri())


def test_nothing_is_left_of_a_browser(browser: Browser) -> None:
    """Also of one whose owner failed, and of one that is no browser at all."""
    executable = psutil.Process(browser.processes()[0].pid).cmdline()[0]
    other = Browser(executable)
    assert other.processes()
    with suppress(ZeroDivisionError), other:
        _ = 1 / 0
    assert not other.processes()
    assert not other.profile.exists()
    with pytest.raises(BrowserError, match="the browser has ended"):
        Browser("/bin/false")


def test_a_machine_without_a_browser_says_so_loudly(tmp_path: Path) -> None:
    here = f"{__file__}::{test_a_quiet_page_is_quiet.__name__}"
    plugins = ("-pno:cacheprovider", "-ppytest_benchmark.plugin")  # the one of the usual options
    done = subprocess.run(
        [sys.executable, "-m", "pytest", here, *plugins],
        env={**os.environ, "PATH": str(tmp_path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "NO BROWSER" in done.stdout
    assert "did NOT run: 1" in done.stdout
    assert "apt-get install chromium" in done.stdout


def test_the_marker_comes_with_the_fixture(request: pytest.FixtureRequest) -> None:
    marked = {
        item.originalname: item.get_closest_marker("browser") is not None
        for item in request.session.items
        if isinstance(item, pytest.Function) and item.path == Path(__file__)
    }
    own = test_the_marker_comes_with_the_fixture.__name__
    assert marked.pop(own) is False
    assert marked.pop(test_a_machine_without_a_browser_says_so_loudly.__name__, False) is False
    assert all(marked.values())


def _size_px(png: Path) -> tuple[int, int]:
    width_px, height_px = struct.unpack(">II", png.read_bytes()[16:24])
    return width_px, height_px
