"""Checks structured answers: JSON, CSV and Markdown tables against a shape and known values.

A shape is written as the JSON it describes, a type in the place of every value:
`[{"name": "string", "paid": "boolean", "sizes": ["integer"], "kind": "a|b"}]`. Types are string
(not empty), integer, number, boolean, date (ISO 8601); a "?" behind a type allows null, or an empty
cell; "a|b" lists the only strings allowed. A list holds one shape for all of its items and is not
empty; an object has exactly the keys named. CSV and tables are lists of rows, their columns in the
shape's order.

Values are pinned by path, as `{"0.name": "Ada", "items.#": 3, "*.total": [4, 5]}`: numbers index
lists, "#" is a list's length, "*" collects from every item.
"""

import csv
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from bench.workloads.answers import code_blocks

FORMATS = ("json", "csv", "table")
_RULE = re.compile(r":?-+:?")


@dataclass(frozen=True, slots=True)
class StructuredCheck:
    """What a right answer looks like.

    Attributes:
        format: json, csv or table.
        shape: see the module.
        values: what must stand where, as far as the prompt determines it.
    """

    format: str
    shape: Any
    values: Mapping[str, Any] = field(default_factory=dict)

    def has_form(self, text: str) -> bool:
        """Whether the text is of the format, with the heading asked for where it has one."""
        return self._read(text) is not None

    def is_correct(self, text: str) -> bool:
        """Whether keys, types and pinned values are as asked."""
        found = self._read(text)
        if found is None or not _fits(found, self.shape):
            return False
        return all(_same(_at(found, path.split(".")), value) for path, value in self.values.items())

    def _read(self, text: str) -> Any:
        """The answer as JSON-like data, None where the text is not of the format."""
        blocks = code_blocks(text)
        content = blocks[0][1] if len(blocks) == 1 else text
        if self.format == "json":
            return _read_json(content)
        rows = _csv_rows(content) if self.format == "csv" else _table_rows(content)
        return _records(rows, self.shape[0])


def _read_json(content: str) -> Any:
    try:
        return json.loads(content)
    except (json.JSONDecodeError, RecursionError):
        return None


def _csv_rows(content: str) -> list[list[str]]:
    """Cells of every line that is not blank."""
    try:
        rows = list(csv.reader(io.StringIO(content.strip()), strict=True, skipinitialspace=True))
    except csv.Error:
        return []
    return [[cell.strip() for cell in row] for row in rows if row]


def _table_rows(content: str) -> list[list[str]]:
    """Cells of a Markdown table, its rule left out; empty without a rule under the heading."""
    lines = [line.strip() for line in content.splitlines() if "|" in line]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    if len(rows) < 2 or not all(_RULE.fullmatch(cell) for cell in rows[1]):
        return []
    return [[cell.strip("*` ") for cell in row] for row in (rows[0], *rows[2:])]


def _records(rows: list[list[str]], columns: Mapping[str, str]) -> list[dict[str, Any]] | None:
    """Rows, cells as their column's type reads them; None where heading or row lengths differ."""
    if not rows or rows[0] != list(columns) or any(len(row) != len(columns) for row in rows):
        return None
    return [
        {name: _cell(cell, columns[name]) for name, cell in zip(columns, row, strict=True)}
        for row in rows[1:]
    ]


def _cell(cell: str, kind: str) -> Any:
    if not cell:
        return None
    kind = kind.removesuffix("?")
    if kind == "boolean":
        return {"true": True, "false": False}.get(cell.lower(), cell)
    if kind in ("integer", "number"):
        try:
            return int(cell) if re.fullmatch(r"[-+]?\d+", cell) else float(cell)
        except ValueError:
            return cell
    return cell


def _fits(found: Any, shape: Any) -> bool:
    if isinstance(shape, Mapping):
        return (
            isinstance(found, dict)
            and found.keys() == shape.keys()
            and all(_fits(found[name], shape[name]) for name in shape)
        )
    if isinstance(shape, list):
        return (
            isinstance(found, list) and bool(found) and all(_fits(item, shape[0]) for item in found)
        )
    assert isinstance(shape, str)
    return _has_type(found, shape)


def _has_type(found: Any, kind: str) -> bool:
    if kind.endswith("?"):
        return found is None or _has_type(found, kind[:-1])
    if "|" in kind:
        return found in kind.split("|")
    if kind in ("integer", "number"):
        numeric = int if kind == "integer" else int | float
        return isinstance(found, numeric) and not isinstance(found, bool)
    if kind == "boolean":
        return isinstance(found, bool)
    if not isinstance(found, str):
        return False
    if kind == "date":
        return _is_date(found)
    assert kind == "string", kind
    return bool(found.strip())


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return re.fullmatch(r"\d{4}-\d\d-\d\d", text) is not None


_MISSING = object()


def _at(found: Any, path: list[str]) -> Any:
    """What stands at a path; something equal to nothing where there is no such place."""
    if not path:
        return found
    step, rest = path[0], path[1:]
    if isinstance(found, dict):
        return _at(found[step], rest) if step in found else _MISSING
    if not isinstance(found, list):
        return _MISSING
    if step == "#":
        return len(found)
    if step == "*":
        return [_at(item, rest) for item in found]
    return _at(found[int(step)], rest) if int(step) < len(found) else _MISSING


def _same(found: Any, value: Any) -> bool:
    """Equality that tells true from 1 but not 2 from 2.0; spaces around a text do not count."""
    if isinstance(value, list):
        return (
            isinstance(found, list) and len(found) == len(value) and all(map(_same, found, value))
        )
    if isinstance(value, bool) or isinstance(found, bool):
        return found is value
    if isinstance(value, str) and isinstance(found, str):
        return found.strip() == value
    return bool(found == value)
