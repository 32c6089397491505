"""The page of a made-up study: answer first, numbers with their class, users' words stay text."""

import re
from html.parser import HTMLParser

import pytest

from bench.procurement.page import html
from bench.report.html import script_source
from tests.bench.procurement.synthetic import HOSTILE, page


class Outline(HTMLParser):
    """What a page asks of the network, its tags with their order, and the words it shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


@pytest.fixture(scope="module")
def outline() -> Outline:
    return Outline(html(page()))


def test_the_page_asks_nobody_for_anything_and_runs_one_script(outline: Outline) -> None:
    sources = [v for name, v in outline.attributes if name in ("src", "href", "action")]
    assert [s for s in sources if not s.startswith(("#", "data:image/png"))] == []
    assert outline.tags.count("script") == 1
    assert {"link", "iframe", "form"} & set(outline.tags) == set()
    assert [name for name, _ in outline.attributes if name.startswith("on")] == []


def test_the_policy_allows_that_script_alone(outline: Outline) -> None:
    text = html(page())
    found = re.search(r"<script>(.*?)</script>", text, re.DOTALL)
    policy = next(v for name, v in outline.attributes if v.startswith("default-src"))
    assert found is not None
    assert f"script-src {script_source(found[1])}" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1]


def test_the_answer_comes_before_everything_else(outline: Outline) -> None:
    assert outline.tags.index("h1") < outline.tags.index("h2") < outline.tags.index("table")
    assert outline.tags.count("h1") == 1


@pytest.mark.parametrize("kind", ["measured", "published", "projected", "assumed"])
def test_every_class_has_a_mark_with_a_name(outline: Outline, kind: str) -> None:
    assert ("href", f"#k-{kind}") in outline.attributes
    assert ("id", f"k-{kind}") in outline.attributes
    assert outline.attributes.count(("aria-label", kind)) >= 2


def test_the_recommended_row_says_so_in_words(outline: Outline) -> None:
    assert outline.attributes.count(("class", "chosen")) == 1
    assert outline.words.count("recommended") == 1


def test_unknown_numbers_say_why(outline: Outline) -> None:
    words = " ".join(outline.words)
    assert "n/a" in words
    assert "not measured" in words


@pytest.mark.parametrize("text", HOSTILE)
def test_a_users_words_stay_text(outline: Outline, text: str) -> None:
    hostile = Outline(html(page(hostile=text)))
    assert hostile.tags == outline.tags
    assert {n for n, _ in hostile.attributes} == {n for n, _ in outline.attributes}
    shown = "".join(hostile.words)
    assert shown.count(text.replace("\0", "\ufffd")) + shown.count(text) >= 10
