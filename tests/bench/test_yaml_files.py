"""YAML that people write: a key that stands twice is refused, by file and line, wherever it is."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.claims.files import read_claim
from bench.gate import read_gate
from bench.procurement.inputs import read_inputs
from bench.yaml_files import parse_yaml, read_yaml

READERS: list[Callable[[Path], object]] = [
    read_gate,
    lambda path: read_claim(str(path)),
    read_inputs,
]


@pytest.mark.parametrize("read", READERS, ids=["gate", "claim", "inputs"])
def test_a_key_twice_is_refused_with_file_and_line(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: 1\nmetrics:\n  step_ms: {bound: 0.01}\n  step_ms: {bound: 0.5}\n")
    with pytest.raises(ValueError, match=r"mine\.yaml is no YAML: .* stands twice") as error:
        read(path)
    assert str(error.value).endswith("key 'step_ms' stands twice, line 4")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\n'a': 2", "key 'a' stands twice, line 2"),
        ("1: a\n0x1: b", "key 1 stands twice, line 2"),
        ("- {b: {c: 1, c: 2}}", "key 'c' stands twice, line 1"),
        ("a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a", "key '<<' stands twice, line 4"),
        ("{[1]: 2}", "found unhashable key, line 1"),
        ("on: 2026-13-45", "it cannot be parsed"),
        ("[" * 5000, "it cannot be parsed"),
        ("!!python/object:os.system x", "could not determine a constructor"),
    ],
)
def test_every_mistake_is_one_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"^mine is no YAML: ") as error:
        parse_yaml(text, "mine")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_keys_of_another_mapping_are_overridden_not_twice() -> None:
    text = """
first: {of: {all: &a {x: 1, y: 2}, then: &b {<<: *a, x: 3}}}
last: {<<: *b, y: 4}
"""
    assert parse_yaml(text, "mine") == {
        "first": {"of": {"all": {"x": 1, "y": 2}, "then": {"x": 3, "y": 2}}},
        "last": {"x": 3, "y": 4},
    }


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gate .*none\.yaml cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml", "gate")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"gate .*binary is no text"):
        read_yaml(tmp_path / "binary", "gate")
