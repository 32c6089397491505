"""The page in a browser: it moves, counts as the tables do, asks nobody, and executes nothing."""

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from bench.replay import Replay, replay_page
from bench.report.cells import PALETTE, paint
from bench.report.plot_canvas import plot_canvas
from bench.report.states import traced_canvases
from bench.report.style import STATE_STYLES, State
from tests.bench.replay.made import counts_from_table, made_run, paired
from tests.browser import Browser, Page

HOSTILE = (
    "</script><script>hacked = 1</script>",
    "<img src=x onerror='hacked = 1'>",
    "<b>bold</b>",
    "{{ 7 * 7 }}",
    "${hacked = 1}",
    "\u202egnp.exe",
    "\u2066\u200f",
    "\x1b[31mred\x07",
    "\x00",
    "שלום",
    "مرحبا",
    "a" + "\u0301" * 40,
    "]]>",
    "<!--",
)
_COUNTS = """Object.fromEntries([...document.querySelectorAll("[data-state]")]
  .map(e => [e.dataset.state, Number(e.textContent)]))"""


def opened(browser: Browser, replay: Replay, folder: Path, link: str = "", **size: int) -> Page:
    file = folder / "replay.html"
    file.write_text(replay_page(replay), encoding="utf-8")
    return browser.page(file.as_uri() + link, **size)


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    with opened(browser, made_run(tmp_path).replay(), tmp_path, "#request=0&canvas=1") as page:
        yield page
        assert page.errors == []
        assert page.requests == []


def place(page: Page) -> str:
    return str(page.evaluate("document.querySelector('#place').textContent"))


def test_slider_and_keys_show_what_the_tables_hold(page: Page, tmp_path: Path) -> None:
    positions = made_run(tmp_path).positions

    def agrees(canvas: int, step: int) -> None:
        assert place(page) == f"step {step} of 6"
        expected = counts_from_table(positions, 0, canvas, step)
        assert page.evaluate(_COUNTS) == expected
        told = page.evaluate("document.querySelector('#said').textContent")
        assert f"{expected['settled']} settled" in told

    agrees(0, 1)
    for step in (2, 3, 4, 5, 6, 6):
        page.press("ArrowRight")
        agrees(0, step)
    for key, step in (("ArrowLeft", 5), ("Home", 1), ("ArrowLeft", 1), ("End", 6)):
        page.press(key)
        agrees(0, step)
    page.press("2")
    agrees(1, 1)
    page.evaluate("slider = document.querySelector('#slider'); slider.focus()")
    page.press("ArrowRight")  # one step also where the slider would take the key itself
    agrees(1, 2)
    page.evaluate("slider.value = 4; slider.dispatchEvent(new Event('input'))")
    agrees(1, 4)
    page.press("n")
    assert page.evaluate("document.querySelector('#request').value") == "1"
    page.press("p")
    agrees(1, 1)


def test_it_plays_to_the_end_and_stops(page: Page) -> None:
    page.evaluate("setInterval = (f) => { window.tickOnce = f; return 1 }")
    page.press(" ")
    assert page.evaluate("document.querySelector('#play').textContent") == "Pause"
    for _ in range(11):
        page.evaluate("tickOnce()")
    assert (place(page), page.evaluate("document.querySelector('#canvas').value")) == (
        "step 6 of 6",
        "1",
    )
    page.evaluate("tickOnce()")
    assert page.evaluate("document.querySelector('#play').textContent") == "Play"
    page.click("#play")
    assert (place(page), page.evaluate("document.querySelector('#canvas').value")) == (
        "step 1 of 6",
        "0",
    )


def test_cells_show_tokens_states_and_changes(page: Page, tmp_path: Path) -> None:
    [canvas] = [
        c
        for c in traced_canvases(made_run(tmp_path).positions.assign(point_id="x"))
        if (c.request_id, c.canvas_index) == ("0", 1)
    ]
    page.evaluate("location.hash = '#request=0&canvas=2&step=4'")
    page.evaluate("new Promise(r => setTimeout(r, 0))")
    shown = page.evaluate(
        "[...document.querySelectorAll('#cells li')].map(e => "
        "[e.querySelector('b').textContent, e.classList.contains('fresh'), "
        "e.querySelector('i').textContent, e.querySelector('i').ariaLabel])"
    )
    assert len(shown) == canvas.canvas_length
    changed = canvas.argmax_TL[3] != canvas.argmax_TL[2]
    for position, (token, fresh, glyph, label) in enumerate(shown):
        style = STATE_STYLES[State(int(canvas.state_TL[3, position]))]
        assert (glyph, label) == (style.glyph, style.label.partition(",")[0])
        assert token == (canvas.text_TL[3, position] if position < 9 else "")
        assert fresh == (position < 9 and changed[position])
    now = page.evaluate("document.querySelector('#now').textContent")
    assert now == "".join(canvas.text_TL[3, :9])


_MARKS = """(() => {
  const pen = CanvasRenderingContext2D.prototype, own = {}, drawn = {};
  for (const name of ["arc", "closePath"]) {
    [own[name], drawn[name]] = [pen[name], 0];
    pen[name] = function (...given) { drawn[name]++; return own[name].apply(this, given); };
  }
  drawMap();
  Object.assign(pen, own);
  return drawn;
})()"""


def test_the_heat_map_draws_the_shapes_of_its_legend(page: Page, tmp_path: Path) -> None:
    positions = made_run(tmp_path).positions
    counts = [counts_from_table(positions, 0, 0, step) for step in range(1, 7)]
    circles, triangles = (sum(each[name] for each in counts) for name in ("accepted", "revised"))
    assert circles > 0
    assert triangles > 0
    assert page.evaluate(_MARKS) == {"arc": circles, "closePath": triangles}


def test_the_acceptance_plot_has_scales(page: Page) -> None:
    texts = "[...document.querySelectorAll('.axes span')].map(e => e.textContent)"
    assert page.evaluate(texts) == [
        *("% accepted", "100", "75", "50", "25", "0"),
        *("1", "denoise step", "6"),
    ]
    for tick, share in ((1, 1.0), (3, 0.5), (5, 0.0)):
        middle = f"""(() => {{
          const ticks = document.querySelectorAll('.axes .ticks.y span');
          const at = ticks[{tick - 1}].getBoundingClientRect();
          const plot = document.querySelector('#curve').getBoundingClientRect();
          return (plot.bottom - (at.top + at.bottom) / 2) / plot.height; }})()"""
        assert page.evaluate(middle) == pytest.approx(share, abs=0.02)


def test_both_siblings_on_one_clock(page: Page) -> None:
    """The third step ends 14 ms in; the first autoregressive token came after 2, then every 5."""
    page.evaluate("show(3)")

    def words(name: str) -> str:
        return str(page.evaluate(f"document.querySelector('{name}').textContent"))

    assert words("#clock").startswith("14.0 ms after the prompt")
    assert words("#ours-words").startswith("0 of 21 tokens delivered; all of them at 53.0 ms")
    assert words("#theirs-words").startswith("3 of 21 tokens delivered; all of them at 102 ms")
    assert words("#theirs-text") == "fghfghfgh"
    page.press("End")
    assert words("#ours-words").startswith("12 of 21 tokens delivered")


def test_the_address_leads_back(page: Page) -> None:
    page.evaluate("location.hash = '#request=1&canvas=2&step=5'")
    page.evaluate("new Promise(r => setTimeout(r, 0))")
    assert (place(page), page.evaluate("document.querySelector('#request').value")) == (
        "step 5 of 6",
        "1",
    )
    page.press("ArrowLeft")
    page.evaluate("new Promise(r => setTimeout(r, 300))")
    assert page.evaluate("location.hash") == "#point=diffusion-bf16&request=1&canvas=2&step=4"
    page.evaluate("location.hash = '#request=99'")
    page.evaluate("new Promise(r => setTimeout(r, 0))")
    assert "Request 99 is not in this replay" in page.evaluate(
        "document.querySelector('#said').textContent"
    )


def test_hostile_text_stays_text(browser: Browser, tmp_path: Path) -> None:
    run = made_run(tmp_path, words=HOSTILE, task="</script><b>t</b>", prompt="\u202e<b>p</b>\x1b")
    run.requests["text"] = "<img src=x onerror='hacked = 1'>\x07"
    with opened(browser, run.replay(), tmp_path) as page:
        for key in ("ArrowRight", "End", "n"):
            page.press(key)
        assert page.evaluate("typeof hacked") == "undefined"
        assert page.evaluate("document.querySelectorAll('main img, main b b, script').length") == 2
        everything = page.evaluate("document.documentElement.textContent")
        assert not re.search(
            "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", everything
        )
        assert page.evaluate("document.querySelector('#prompt').textContent") == "\\u202e<b>p</b>␛"
        seen = set(
            page.evaluate("[...document.querySelectorAll('#cells b')].map(e => e.textContent)")
        )
        assert seen & {
            HOSTILE[0].replace(" ", "␣"),
            "{{␣7␣*␣7␣}}",
            "<b>bold</b>",
            "שלום",
            "\\u202egnp.exe",
        }
        assert (page.errors, page.requests) == ([], [])


def test_a_wide_token_moves_nothing(browser: Browser, tmp_path: Path) -> None:
    """Long, tall and right-to-left tokens stay in their cells, on a telephone as well."""
    replay = made_run(tmp_path, words=(*HOSTILE, "w" * 300), length=40).replay()
    with opened(browser, replay, tmp_path, width_px=360, height_px=740) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        boxes = page.evaluate(
            "[...document.querySelectorAll('#cells li')].map(e => "
            "[e.offsetLeft, e.offsetTop, e.offsetHeight])"
        )
        assert len({height for _, _, height in boxes}) == 1
        order = [(top, left) for left, top, _ in boxes]
        assert order == sorted(order)


def test_ten_canvases_of_the_released_shape_are_small_and_quick(
    browser: Browser, tmp_path: Path
) -> None:
    words = [f"▁word{i}" for i in range(5000)]
    run = made_run(tmp_path, num_requests=1, num_canvases=10, num_steps=48, length=256, words=words)
    with opened(browser, run.replay(), tmp_path) as page:
        assert (tmp_path / "replay.html").stat().st_size < 3e6
        assert page.evaluate("document.querySelectorAll('#canvas option').length") == 10
        begin_s = page.busy_s
        taken_ms = page.evaluate(_TIMED)
        busy_ms = (page.busy_s - begin_s) * 1e3 / 48
        print(f"a step: {busy_ms:.1f} ms of processor, {np.median(taken_ms):.1f} ms by the clock")
        assert busy_ms < 50
        assert page.errors == []


def test_what_a_run_lacks_is_said(browser: Browser, tmp_path: Path) -> None:
    run = made_run(tmp_path)
    alone = replace(
        run,
        points=run.points[run.points["decoding"] == "diffusion"],
        requests=run.requests.assign(batch_size=4),
    )
    with opened(browser, alone.replay(), tmp_path) as page:
        text = page.evaluate("document.body.innerText")
        assert "n/a: its prompts were answered in batches" in text
        assert "n/a: this run has no valid autoregressive point" in text
        assert "Self-conditioning off/on: n/a" in text
        assert page.errors == []


def test_self_conditioning_goes_on_and_off_at_the_same_step(
    browser: Browser, tmp_path: Path
) -> None:
    replay = paired(made_run(tmp_path)).replay()
    with opened(browser, replay, tmp_path, "#point=off&request=0&canvas=2&step=3") as page:
        at = "['point', 'request', 'canvas'].map(id => document.getElementById(id).value)"
        words = "document.querySelector('#conditioning').textContent"
        assert (page.evaluate(at), page.evaluate(words)) == (["off", "0", "1"], "off")
        page.click("#conditioning")
        assert (page.evaluate(at), page.evaluate(words)) == (["diffusion-bf16", "0", "1"], "on")
        assert place(page) == "step 3 of 6"
        page.evaluate("location.hash = '#point=diffusion-bf16&request=1'")
        page.evaluate("new Promise(r => setTimeout(r, 0))")
        assert "the other point did not keep this canvas" in page.evaluate(
            "document.querySelector('#conditioning-why').textContent"
        )
        assert page.errors == []


def test_names_are_there_for_those_who_do_not_see(page: Page) -> None:
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, select, input, canvas, svg, section, .scroll')]"
        ".filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')"
        " || e.labels?.length || e.textContent.trim())).map(e => e.id)"
    )
    assert unnamed == []
    assert page.evaluate("document.querySelector('#slider').ariaValueText") == "step 1 of 6"
    assert page.evaluate("document.querySelector('#said').ariaLive") == "polite"


def test_no_words_without_contrast(page: Page) -> None:
    for dark in (False, True):
        page.prefer(dark=dark)
        faint = page.evaluate(_FAINT)
        assert faint == [], f"dark={dark}"


def test_still_readers_get_no_motion(page: Page) -> None:
    moving = "getComputedStyle(document.querySelector('#cursor')).transitionDuration"
    assert page.evaluate(moving) != "0s"
    page.prefer(reduced_motion=True)
    assert page.evaluate(moving) == "0s"


def test_heat_map_and_replay_share_their_renderer(tmp_path: Path) -> None:
    replay = made_run(tmp_path).replay()
    [image] = plot_canvas(replay.view).figure.axes[0].images
    drawn = np.asarray(image.get_array())
    data = re.search(r'id="data">(.*?)</script>', replay_page(replay), re.DOTALL)
    assert data is not None
    point, request, index = json.loads(data[1])["first"]
    [packed] = [
        c["paint"]
        for g in json.loads(data[1])["generations"]
        if (g["point"], g["request"]) == (point, request)
        for c in g["canvases"]
        if c["index"] == index
    ]
    codes = np.frombuffer(base64.b64decode(packed), np.uint8).reshape(drawn.shape[:2])
    assert (codes == paint(replay.first.state_TL, replay.first.entropy_TL)).all()
    assert np.allclose(np.array([to_rgb(colour) for colour in PALETTE])[codes], drawn)


_TIMED = """(() => {
  const slider = document.querySelector("#slider"), taken = [];
  for (let step = 1; step <= 48; step++) {
    const begin = performance.now();
    slider.value = step;
    slider.dispatchEvent(new Event("input"));
    document.body.offsetHeight;
    taken.push(performance.now() - begin);
  }
  return taken;
})()"""

_FAINT = """(() => {
  const parts = c => (c.match(/[\\d.]+/g) ?? []).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = parts(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  return [...document.querySelectorAll('main *')].filter(e =>
    [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) && e.checkVisibility()
    && e.tagName !== 'SCRIPT' && !e.disabled
  ).map(e => {
    const both = [parts(getComputedStyle(e).color), behind(e)].map(light).sort((x, y) => y - x);
    return [(both[0] + 0.05) / (both[1] + 0.05), `${e.tagName} ${e.className} ${e.textContent}`];
  }).filter(([ratio]) => ratio < 4.5);
})()"""
