"""Home folders and secrets do not enter results."""

from pathlib import Path

import pytest

from bench.redact import redact


@pytest.fixture(autouse=True)
def _planted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("MY_API_TOKEN", "s3cr3t-value")
    monkeypatch.setenv("EDITOR", "emacs-of-mine")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weights=/home/somebody/w", "weights=~/w"),
        ("at /home/somebody", "at ~"),
        ("/home/somebodyelse/w", "/home/somebodyelse/w"),
        ("key s3cr3t-value.", "key [redacted]."),
        ("hf_abcdefghij1234", "[redacted]"),
        ("no secret here", "no secret here"),
    ],
)
def test_by_example(text: str, expected: str) -> None:
    assert redact(text) == expected


def test_the_real_home_goes_too() -> None:
    assert str(Path("~/x").expanduser()) not in redact(str(Path("~/x").expanduser()))
