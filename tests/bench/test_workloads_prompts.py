"""The project's own prompts: enough of them, unlike each other, their answers recomputed."""

import ast
import itertools
import json
import math
import re
import tomllib
from collections.abc import Mapping
from fractions import Fraction
from importlib.resources import files
from pathlib import Path

import pytest

from bench.workloads import DOMAINS, Prompt, text_workload
from bench.workloads.structured import FORMATS
from bench.workloads.text import entries

FEWEST = 40
MOST_SHARED = 0.1
"""Of two prompts' runs of four words; unlike texts share a turn of phrase at most."""
LANGUAGES = set("bash c go html java javascript kotlin python rust sql typescript".split())
MATHS = {
    name: getattr(module, name)
    for module, names in (
        (math, "ceil comb factorial prod"),
        (itertools, "combinations permutations"),
    )
    for name in names.split()
}


def of(domain: str) -> list[Prompt]:
    return list(text_workload(domain, len(entries(domain))).prompts)


def own_text(entry: Mapping[str, str]) -> str:
    """A prompt without the closing instruction that all of its domain share."""
    return entry["text"].split("\n\nShow your reasoning briefly.")[0]


def test_every_domain_has_enough_prompts_with_ids_of_their_own() -> None:
    ids = [entry["id"] for domain in DOMAINS for entry in entries(domain)]
    assert len(set(ids)) == len(ids)
    for domain in DOMAINS:
        assert len(entries(domain)) >= FEWEST
        assert all(entry["id"].startswith(f"{domain}-") for entry in entries(domain))


def test_no_two_prompts_are_alike() -> None:
    runs = {}
    for domain in DOMAINS:
        for entry in entries(domain):
            words = re.findall(r"\w+", own_text(entry).lower())
            runs[entry["id"]] = {tuple(words[i : i + 4]) for i in range(len(words) - 3)}
    for (one, first), (other, second) in itertools.combinations(runs.items(), 2):
        shared = len(first & second) / max(1, min(len(first), len(second)))
        assert shared <= MOST_SHARED, f"{one} and {other} share {shared:.0%}"


def test_prompts_differ_in_length_and_hold_no_marks_of_a_template() -> None:
    for domain in DOMAINS:
        texts = [own_text(entry) for entry in entries(domain)]
        lengths = sorted(map(len, texts))
        assert lengths[-1] > 2.5 * lengths[0] > 0, domain
        assert not [t for t in texts if re.search(r"<\||\|>|<bos>|<eos>|<pad>|<start_of", t)]


@pytest.mark.parametrize("entry", entries("maths"), ids=lambda entry: entry["id"])
def test_a_maths_answer_is_what_its_derivation_gives(entry: dict[str, str]) -> None:
    value = eval(entry["derivation"], {**MATHS, "Fraction": Fraction})
    assert not isinstance(value, float)
    assert Fraction(value) == Fraction(entry["answer"])


def test_a_maths_derivation_computes() -> None:
    """It is no copy of the answer."""
    for entry in entries("maths"):
        inner = [node for node in ast.walk(ast.parse(entry["derivation"])) if node is not None]
        assert sum(isinstance(node, ast.Call | ast.BinOp) for node in inner) >= 1, entry["id"]
        assert str(entry["answer"]) != entry["derivation"]


def test_maths_prompts_accept_their_answer_and_no_other() -> None:
    prompts = of("maths")
    for prompt, entry in zip(prompts, entries("maths"), strict=True):
        assert prompt.answer is not None
        assert "Answer: <number>" in prompt.text
        assert prompt.is_correct(prompt.answer) is True
        assert prompt.is_correct(f"So we get 7.\n\n**Answer: {entry['answer']}**") is True
        wrong = Fraction(entry["answer"]) + 1
        assert (prompt.is_correct(f"Answer: {wrong}"), prompt.parses(f"Answer: {wrong}")) == (0, 1)
        assert (prompt.is_correct(str(entry["answer"])), prompt.parses("seven")) == (False, False)


@pytest.mark.parametrize(
    ("prompt", "entry"),
    zip(of("structured"), entries("structured"), strict=True),
    ids=[entry["id"] for entry in entries("structured")],
)
def test_a_structured_prompt_accepts_its_right_and_refuses_its_wrong_sample(
    prompt: Prompt, entry: dict[str, str]
) -> None:
    assert entry["format"] in FORMATS
    assert prompt.parses(entry["right"])
    assert prompt.is_correct(entry["right"]) is True
    assert prompt.is_correct(entry["wrong"]) is False
    assert prompt.is_correct("I'm sorry, I can't do that.") is False
    # Something is pinned, so that a form filled with anything is not right.
    assert entry["values"] or "|" in entry["shape"]


def test_structured_prompts_name_their_keys() -> None:
    for entry in entries("structured"):
        shape = json.loads(entry["shape"])
        columns = shape[0] if isinstance(shape, list) else shape
        if entry["id"] not in ("structured-bus-stops-geojson", "structured-language-detection"):
            assert [name for name in columns if name not in entry["text"]] == [], entry["id"]


def test_code_is_checked_for_its_form_and_nothing_is_run() -> None:
    raises = "```python\nraise SystemExit('run')\n```"
    for prompt, entry in zip(of("code"), entries("code"), strict=True):
        assert entry["language"] in LANGUAGES
        assert (prompt.check, prompt.answer) == (None, None)
        if entry["language"] == "python":
            assert prompt.parses(raises)
            assert not prompt.parses("```python\ndef f(:\n```")
        else:
            assert prompt.form is None
    assert sum(entry["language"] == "python" for entry in entries("code")) >= 25


def test_prose_and_chat_have_no_answer() -> None:
    for prompt in (*of("prose"), *of("chat")):
        assert (prompt.check, prompt.form, prompt.answer) == (None, None, None)
        assert prompt.is_correct("anything") is None


def test_the_files_state_their_licence() -> None:
    folder = files("bench.workloads") / "prompts"
    for domain in DOMAINS:
        head = " ".join((folder / f"{domain}.toml").read_text().splitlines()[:4])
        assert "Apache-2.0" in head
        assert "Written for this project" in head
    assert "Apache License 2.0" in (folder / "README.md").read_text()


def test_the_files_are_packaged() -> None:
    told = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    setuptools = told["tool"]["setuptools"]
    assert "bench.workloads" in setuptools["packages"]
    assert setuptools["package-data"]["bench.workloads"] == ["prompts/*"]


def test_domains_have_equal_shares_in_turn() -> None:
    few = text_workload("all", 12)
    assert [p.task for p in few.prompts[:5]] == list(DOMAINS)
    assert [sum(p.task == d for p in few.prompts) for d in DOMAINS] == [3, 3, 2, 2, 2]
    two = text_workload("maths, chat", 3)
    assert [p.task for p in two.prompts] == ["maths", "chat", "maths"]
    assert few.prompts[1].text == two.prompts[0].text
    assert few.needs_tokenizer
    assert few.sha256 == text_workload("all", 12).sha256 != text_workload("all", 13).sha256


@pytest.mark.parametrize(
    ("domains", "num_prompts", "message"),
    [
        ("code,poetry", 4, "has 'poetry'; valid: all, or some of code, maths"),
        ("", 4, "has ''"),
        ("code,code", 4, "names a domain twice"),
        ("prose", 999, "prose has 40 prompts, so workload.domains=prose has at most 40"),
        ("all", 999, "workload.domains=all has at most 200"),
    ],
)
def test_what_is_not_there_is_refused(domains: str, num_prompts: int, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        text_workload(domains, num_prompts)
