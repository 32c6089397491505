"""What is read out of an answer: numbers, tables, thoughts; and what a chat template writes."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from bench.chat_template import ChatTemplate, encode_prompt
from bench.thought import Thought, visible
from bench.workloads.answers import code_blocks, final_number, parses_as_python
from bench.workloads.structured import StructuredCheck
from tests.bench.chat_checkpoint import SPECIAL, TEMPLATE, make_tokenizer

LIST = [{"a": "integer", "b": "string?"}]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("Answer: 42", 42),
        ("2 + 2 = 4\nAnswer: 1,234.50 euros", Fraction("1234.5")),
        ("Answer: 3\nNo, wait.\n**Answer:** -5", -5),
        ("**Answer**: $\\frac{3}{8}$", Fraction(3, 8)),
        ("Answer: \\boxed{12}", 12),
        ("Answer: 5/12 ≈ 0.41667", Fraction(5, 12)),
        ("Answer: 5/12 \\approx 0.41667", Fraction(5, 12)),
        ("Answer: 276 m^2", 276),
        ("Answer: 130^\\circ", 130),
        ("Answer: x = 9 * 9 = 81", 81),
        ("Answer: \N{MINUS SIGN}18.", -18),
        ("the answer is 7", 7),
        ("Answer: 3 or 4", None),
        ("Answer: 1/0", None),
        ("Answer: 12,5", None),
        ("Answer: none", None),
        ("42", None),
        ("", None),
    ],
)
def test_final_number(text: str, number: Fraction | int | None) -> None:
    assert final_number(text) == number


def test_code_is_taken_from_its_fences() -> None:
    text = "Like this:\n```python\nx = 1\n```\nor\n```js\nlet x = ;\n```\n"
    assert code_blocks(text) == [("python", "x = 1\n"), ("js", "let x = ;\n")]
    assert parses_as_python(text)
    assert parses_as_python("print(1)")
    assert not parses_as_python("Here you go: it works.")
    assert not parses_as_python("```js\nlet x = 1\n```")
    assert not parses_as_python("```python\nx = 1\n```\n```python\nx =\n```")
    assert not parses_as_python("```python\n\n```")
    assert not parses_as_python("(" * 5000)


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ('[{"a": 1, "b": null}]', True),
        ('Sure!\n```json\n[{"a": 1, "b": "x"}]\n```', True),
        ('[{"b": "x", "a": 1}]', True),
        ('[{"a": 2, "b": null}]', False),
        ('[{"a": true, "b": null}]', False),
        ('[{"a": 1}]', False),
        ('[{"a": 1, "b": null, "c": 0}]', False),
        ('[{"a": 1, "b": ""}]', False),
        ('{"a": 1, "b": null}', False),
        ('[{"a": 1, "b": null}, {"a": 1, "b": null}]', False),
        ("[]", False),
        ('Sure! [{"a": 1, "b": null}]', False),
        ("[" * 5000, False),
    ],
)
def test_json_against_a_shape(text: str, right: bool) -> None:
    check = StructuredCheck("json", LIST, {"0.a": 1, "#": 1})
    assert check.is_correct(text) is right


def test_csv_and_tables_are_read_as_typed_rows() -> None:
    values = {"*.a": [1, 2], "1.b": "x, y"}
    csv, table = (StructuredCheck(form, LIST, values) for form in ("csv", "table"))
    assert csv.is_correct('a,b\n1,\n2,"x, y"')
    assert csv.is_correct('```\na, b\n1,\n2, "x, y"\n```')
    assert not csv.is_correct("a,b\n1,\n2,x, y")
    assert not csv.is_correct("a;b\n1;\n2;x")
    assert not csv.is_correct('a,b\none,\n2,"x, y"')
    assert not csv.is_correct("a,b")
    assert table.is_correct("Here:\n\n| a | b |\n|---|:--|\n| 1 | |\n| **2** | x, y |\n\nDone.")
    assert not table.is_correct("| a | b |\n| 1 | |\n| 2 | x, y |")
    assert not table.is_correct("a b\n1\n2 x, y")
    assert (csv.has_form("a,b\n5,6"), table.has_form("a,b\n5,6")) == (True, False)
    assert not csv.has_form("Here, then, is what you asked for.")
    assert not csv.has_form("b,a\n6,5")


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("number", 1.5, "1.5"),
        ("integer", 2, 2.5),
        ("date", "2027-02-28", "2027-02-31"),
        ("date", "2027-02-28", "20270228"),
        ("date?", None, 3),
        ("a|b", "b", "c"),
        ("boolean", False, 0),
        ("string", "x", " "),
    ],
)
def test_types(kind: str, good: object, bad: object) -> None:
    check = StructuredCheck("json", {"k": kind})
    assert check.is_correct(json.dumps({"k": good}))
    assert not check.is_correct(json.dumps({"k": bad}))


def test_thoughts_are_told_from_the_answer() -> None:
    thought = Thought(100, 101)
    assert thought.visible([100, 45, 46, 101, 7, 8, 106]) == [7, 8, 106]
    assert thought.visible([7, 100, 45, 101, 8, 100, 9, 101]) == [7, 8]
    assert thought.visible([100, 45, 46]) == []
    assert thought.visible([7, 101, 8]) == [7, 8]
    assert visible(None, [100, 45, 101, 7]) == [100, 45, 101, 7]
    ids = {"<|channel>": 100, "<channel|>": 101}
    assert Thought.of(ids.get) == thought
    assert Thought.of({"<|channel>": 100}.get) is None


CHAT = [{"role": "user", "content": "  Salt & <sand>, “please”  "}]


@pytest.fixture(params=["chat_template.jinja", "text", "list"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    told: dict[str, object] = {"bos_token": "<bos>", "eos_token": {"content": "<eos>"}}
    if request.param == "chat_template.jinja":
        (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
        told["chat_template"] = "that of the file goes first"
    elif request.param == "text":
        told["chat_template"] = TEMPLATE
    else:
        told["chat_template"] = [
            {"name": "tools", "template": "?"},
            {"name": "default", "template": TEMPLATE},
        ]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(told))
    return tmp_path


@pytest.mark.parametrize("thinking", [False, True])
def test_a_template_gives_the_ids_that_transformers_gives(folder: Path, thinking: bool) -> None:
    tokenizer = make_tokenizer()
    upstream = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", chat_template=TEMPLATE
    )
    expected = upstream.apply_chat_template(
        CHAT, add_generation_prompt=True, enable_thinking=thinking, return_dict=False
    )
    template = ChatTemplate.read(folder, thinking=thinking)
    found = encode_prompt(CHAT[0]["content"], tokenizer, template, bos_token_id=2)
    assert found == expected
    turns = [*CHAT, {"role": "assistant", "content": "<|channel>x<channel|> Yes? "}, *CHAT]
    assert template.render(turns) == upstream.apply_chat_template(
        turns, add_generation_prompt=True, enable_thinking=thinking, tokenize=False
    )
    assert found.count(SPECIAL.index("<bos>")) == 1
    assert found.count(SPECIAL.index("<|turn>")) == 2 + thinking
    assert (SPECIAL.index("<|think|>") in found) == thinking
    assert "“please”" in tokenizer.decode(found)


def test_a_bare_prompt_has_one_begin_of_text() -> None:
    tokenizer = make_tokenizer()
    assert tokenizer.encode("a stone").ids[0] == 2
    assert encode_prompt("a stone", tokenizer, None, 2).count(2) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ raise_exception('no system turn') }}", "fails: no system turn"),
        ("{{ messages[0].content.__class__.__mro__ }}", "fails: access to attribute"),
        ("{{ messages.append(1) }}", "fails: access to attribute"),
        ("{{ strftime_now('%Y') }}", "fails: 'strftime_now' is undefined"),
        ("{% if %}", "is none: Expected an expression"),
    ],
)
def test_a_template_that_fails_is_named(source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(source)
    with pytest.raises(ValueError, match=f"chat template of .* {message}"):
        ChatTemplate.read(tmp_path, thinking=False).render(CHAT)


def test_features_that_templates_use(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(
        "{%- for m in messages %}\n  {%- if not tools %}\n{{ m | tojson }}\n"
        "    {%- break %}\n  {%- endif %}\n{%- endfor %}"
    )
    rendered = ChatTemplate.read(tmp_path, thinking=False).render(CHAT * 2)
    assert json.loads(rendered) == CHAT[0]
    assert "“" in rendered


def test_a_folder_without_a_template_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no chat template: neither chat_template\.jinja nor"):
        ChatTemplate.read(tmp_path, thinking=False)
    with pytest.raises(ValueError, match="nowhere does not exist"):
        ChatTemplate.read(tmp_path / "nowhere", thinking=False)
    (tmp_path / "tokenizer_config.json").write_text("[]")
    with pytest.raises(ValueError, match="holds no JSON object"):
        ChatTemplate.read(tmp_path, thinking=False)
