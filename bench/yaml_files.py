"""YAML that people write: a key that stands twice is refused, every mistake is one line."""

from pathlib import Path
from typing import Any

import yaml

_MERGE = "tag:yaml.org,2002:merge"


class _NoDuplicates(yaml.SafeLoader):  # type: ignore[misc]
    """YAML without the rule that the last of two equal keys silently wins.

    Checked before `<<` brings in the keys of another mapping, which a key of one's own overrides.
    """

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[object] = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # no key that can be hashed; refused where it is constructed
            merges = key_node.tag == _MERGE
            key = key_node.value if merges else self.construct_object(key_node)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark
                )
            seen.add(key)
        return node


def read_yaml(path: Path, kind: str) -> Any:
    """The document of a file.

    Args:
        kind: what the file is called in an error: gate, claim, inputs.

    Raises:
        ValueError: it cannot be read, is no YAML, or has a key twice; with file and line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{kind} {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{kind} {path} is no text") from error
    return parse_yaml(text, f"{kind} {path}")


def parse_yaml(text: str, where: str) -> Any:
    """The document of a text.

    Args:
        where: what an error begins with.

    Raises:
        ValueError: no YAML, or a key twice.
    """
    try:
        return yaml.load(text, Loader=_NoDuplicates)
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # a date may have a 13th month
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise ValueError(f"{where} is no YAML: {problem}{line}") from error
