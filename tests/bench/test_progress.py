"""How far a run is, in a log that nobody watches."""

import re

import pytest

from bench.progress import shown_progress


@pytest.mark.parametrize(("num_batches", "lines"), [(3, [1, 2, 3]), (1000, range(100, 1001, 100))])
def test_a_log_gets_at_most_ten_lines(
    capsys: pytest.CaptureFixture[str], num_batches: int, lines: list[int]
) -> None:
    with shown_progress("4 points", num_batches) as on_batch:
        for _ in range(num_batches):
            on_batch()
    said = capsys.readouterr()
    assert not said.out
    shown = re.findall(rf"^4 points: (\d+) of {num_batches} batches after \d+ s$", said.err, re.M)
    assert [int(count) for count in shown] == list(lines)
    assert len(said.err.splitlines()) == len(shown)
