"""What cannot be written is a refusal in one line, whoever writes."""

from pathlib import Path

import pytest

from bench.refusal import is_refusal
from bench.writing import write_text, writing


def test_a_file_is_written_in_utf_8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.md", "\N{MULTIPLICATION SIGN}\n")
    assert (tmp_path / "a.md").read_bytes() == b"\xc3\x97\n"


def test_what_the_system_says_is_told_and_is_no_fault_of_ours(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no/a\.md cannot be written: No such file") as caught:
        write_text(tmp_path / "no" / "a.md", "")
    assert is_refusal(caught.value)
    with (
        pytest.raises(ValueError, match=r"x\.csv cannot be written: no words$") as caught,
        writing(tmp_path / "x.csv"),
    ):
        raise OSError("no words")
    assert is_refusal(caught.value)


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(KeyError), writing(tmp_path / "x.csv"):
        raise KeyError
