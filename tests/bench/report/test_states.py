"""Canvas states by hand, and which canvas is shown."""

import numpy as np
import pandas as pd
import pytest

from bench.digits import digits, tidy
from bench.report.states import classify, most_telling, traced_canvases
from bench.report.style import State, percent_text, plural, span


def test_states_by_hand() -> None:
    """One position a case, three steps; the last position lies after the EOS."""
    argmax = np.array([[5, 5, 4, 7, 9], [5, 6, 4, 7, 8], [5, 6, 3, 7, 8]])
    accepted = np.array([[1, 1, 1, 0, 1], [1, 1, 1, 1, 1], [1, 1, 0, 0, 1]], dtype=bool)
    content = np.array([True, True, True, True, False])
    found = classify(accepted, argmax, content)
    expected = [
        [State.SETTLED, State.ACCEPTED, State.ACCEPTED, State.NOISE, State.AFTER_EOS],
        [State.SETTLED, State.REVISED, State.ACCEPTED, State.SETTLED, State.AFTER_EOS],
        [State.SETTLED, State.SETTLED, State.REVISED, State.REVOKED, State.AFTER_EOS],
    ]
    assert found.tolist() == expected


def positions(point_id: str, argmax: list[list[int]], accepted: int = 1) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "point_id": point_id,
            "request_id": 0,
            "canvas_index": 0,
            "task": "sort",
            "step": step + 1,
            "position": position,
            "accepted": bool(accepted),
            "argmax": token,
            "argmax_text": str(token),
            "entropy_nat": 0.1,
            "content": True,
        }
        for step, row in enumerate(argmax)
        for position, token in enumerate(row)
    )


def test_the_canvas_with_most_revisions_is_shown() -> None:
    calm, edited = [[1, 2]] * 5, [[1, 2], [3, 2], [3, 2]]
    sample = most_telling(
        traced_canvases(pd.concat([positions("calm", calm), positions("edited", edited)]))
    )
    assert sample is not None
    assert (sample.point_id, sample.revisions, sample.settled_at) == ("edited", 1, 2)
    assert most_telling(traced_canvases(pd.DataFrame())) is None


def test_a_wide_canvas_is_cropped_where_most_happens() -> None:
    wide = [[0] * 90, [0] * 70 + [1] * 20, [0] * 70 + [1] * 20]
    [sample] = traced_canvases(positions("wide", wide))
    shown = sample.cropped(40)
    assert shown.state_TL.shape == (3, 40)
    assert shown.first_position >= 50
    assert shown.revisions == 20


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1234.4, "1,230"),
        (93.04, "93.0"),
        (0.01234, "0.0123"),
        (0, "0"),
        (None, "n/a"),
        (float("nan"), "n/a"),
        (float("inf"), "n/a"),
        (999.6, "1,000"),
    ],
)
def test_three_significant_digits(value: float | None, text: str) -> None:
    assert digits(value) == text


def test_words_for_numbers() -> None:
    assert digits(0.5, signed=True) == "+0.500"
    assert tidy(4.0) == "4"
    assert percent_text(0.93) == "93.0 %"
    assert percent_text(None) == "n/a"
    assert span(None, 1.0) == "n/a"
    assert plural(1, "process") == "1 process"
    assert plural(2, "canvas") == "2 canvases"
