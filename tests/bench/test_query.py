"""Answers on a terminal: side by side where they fit, else a line a column."""

import io

import pandas as pd
from rich.console import Console

from bench.query import print_answer


def printed(found: pd.DataFrame, width: int = 80) -> list[str]:
    console = Console(width=width, file=io.StringIO(), record=True)
    print_answer(found, console)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_what_fits_is_a_table() -> None:
    lines = printed(pd.DataFrame({"point_id": ["a", "b"], "tok": [1.5, None]}))
    assert [line.split("│") for line in lines[2:]] == [
        [" a        ", " 1.5"],
        [" b        ", " n/a"],
    ]


def test_what_is_too_wide_has_a_line_a_column_and_loses_nothing() -> None:
    names = [f"a_column_of_windows_{n}" for n in range(30)]
    found = pd.DataFrame([[f"value {n}" for n in range(30)], [None] * 30], columns=names)
    lines = printed(found)
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if line.startswith("row ")] == ["row 1", "row 2"]
    assert [line.split(maxsplit=1) for line in lines[1:31]] == [
        [name, f"value {n}"] for n, name in enumerate(names)
    ]
    assert {line.split()[1] for line in lines[32:]} == {"n/a"}


def test_a_long_value_is_folded_and_brackets_are_no_markup() -> None:
    text = "[red]" + "x" * 200
    lines = printed(pd.DataFrame({"log": [text]}))
    assert max(map(len, lines)) <= 80
    assert "".join("".join(lines).removeprefix("row 1log").split()) == text
