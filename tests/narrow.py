"""What a page must give on a telephone and on paper: figures one can read, nothing cut off."""

from tests.browser import Page

WIDTH_PX = 360
_READABLE_PX = 700
"""Width from which the smallest print of a figure is legible; it scrolls inside its frame."""

_A4_PX = round((210 - 32) / 25.4 * 96)

_CUT_CAPTIONS = """(end) => [...document.querySelectorAll("caption")]
    .filter(e => e.checkVisibility())
    .filter(e => {
        const box = e.closest(".scroll"), r = document.createRange();
        box.scrollLeft = end * box.scrollWidth;
        r.selectNodeContents(e);
        const words = r.getBoundingClientRect(), seen = box.getBoundingClientRect();
        return words.left < seen.left - 1 || words.right > seen.right + 1; })
    .map(e => e.textContent.slice(0, 40))"""

_BROKEN_WORDS = r"""(selector, longest) => [...document.querySelectorAll(selector)]
    .filter(e => e.checkVisibility())
    .flatMap(e => {
        const walk = document.createTreeWalker(e, NodeFilter.SHOW_TEXT), broken = [];
        for (let n; (n = walk.nextNode()); )
            for (const m of n.textContent.matchAll(/\w+/g)) {
                const r = document.createRange();
                r.setStart(n, m.index);
                r.setEnd(n, m.index + m[0].length);
                const lines = new Set([...r.getClientRects()].map(b => Math.round(b.top)));
                if (m[0].length <= longest && lines.size > 1) broken.push(m[0]);
            }
        return broken; })"""

_FIGURES = "[...document.images].filter(e => e.checkVisibility())"


def assert_reads_narrow(page: Page) -> None:
    """At 360 px: no sideways scrolling of the page, figures one can read, captions not cut.

    Captions are looked at with their table at its left and at its right end. At least one table
    must be wider than the page, or the check would say nothing.
    """
    page.resize(WIDTH_PX, 800)
    assert page.evaluate("document.documentElement.scrollWidth") <= WIDTH_PX
    assert min(page.evaluate(f"{_FIGURES}.map(e => e.clientWidth)")) >= _READABLE_PX
    assert page.evaluate(f"{_FIGURES}.every(e => e.parentElement.tabIndex === 0)")
    wide = "[...document.querySelectorAll('.scroll table')].some(e => e.clientWidth > innerWidth)"
    assert page.evaluate(wide)
    for end in (0, 1):
        assert page.evaluate(f"({_CUT_CAPTIONS})({end})") == []


def assert_prints(page: Page) -> None:
    """On A4 within the style sheet's margins no table and no figure is cut off."""
    page.resize(_A4_PX, 1000)
    page.prefer(printed=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= _A4_PX
    page.prefer(printed=False)


def broken_words(page: Page, selector: str, longest: int = 14) -> list[str]:
    """Words of up to `longest` letters that stand on two lines."""
    found: list[str] = page.evaluate(f"({_BROKEN_WORDS})({selector!r}, {longest})")
    return found
