"""The width that everything in a terminal shares."""

import io

import pytest
from rich.console import Console

from bench.screen import WIDTH, screen


@pytest.mark.parametrize(
    ("wide", "is_terminal", "expected"), [(80, True, 80), (240, True, WIDTH), (80, False, WIDTH)]
)
def test_a_log_has_all_columns_and_a_terminal_no_more(
    monkeypatch: pytest.MonkeyPatch, wide: int, is_terminal: bool, expected: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(wide))
    monkeypatch.setattr(Console, "is_terminal", property(lambda _: is_terminal))
    assert screen().width == expected


def test_a_callers_console_is_left_alone() -> None:
    own = Console(width=37, file=io.StringIO())
    assert screen(own) is own
    assert own.width == 37
