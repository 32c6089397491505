"""Families: Benjamini-Hochberg against the textbook's loop, and what it does to verdicts."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.stats import (
    HypothesisTest,
    Status,
    Verdict,
    benjamini_hochberg,
    control_false_discoveries,
)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_benjamini_hochberg_is_the_textbooks(values: list[float]) -> None:
    adjusted = benjamini_hochberg({str(i): p for i, p in enumerate(values)})
    m, smallest, expected = len(values), 1.0, {}
    for rank, i in reversed(list(enumerate(np.argsort(values, kind="stable"), start=1))):
        smallest = min(smallest, values[i] * m / rank)
        expected[str(i)] = smallest
    assert adjusted == pytest.approx(expected)


def test_what_has_no_p_is_not_of_the_family() -> None:
    adjusted = benjamini_hochberg({"a": 0.02, "b": None, "c": 0.04})
    assert adjusted == {"a": pytest.approx(0.04), "b": None, "c": pytest.approx(0.04)}
    assert benjamini_hochberg({"b": None}) == {"b": None}
    with pytest.raises(ValueError, match=r"p of a 1.5 must lie between 0 and 1"):
        benjamini_hochberg({"a": 1.5})


def _made(status: Status, p_value: float | None) -> Verdict:
    test = HypothesisTest.SIGN_FLIP
    return Verdict(status, 0.05, (0.03, 0.07), test, p_value, 10, 10, 0.02, 0.05, "because")


def test_a_family_keeps_what_survives_adjustment() -> None:
    verdicts = {
        "clear": _made(Status.REGRESSION, 0.0002),
        "lucky": _made(Status.IMPROVEMENT, 0.03),
        "same": _made(Status.EQUIVALENT, 0.6),
        "unclear": _made(Status.AMBIGUOUS, 0.4),
        "short": _made(Status.INSUFFICIENT_DATA, None),
    }
    found = control_false_discoveries(verdicts)
    assert {name: verdict.status for name, verdict in found.items()} == {
        "clear": Status.REGRESSION,
        "lucky": Status.AMBIGUOUS,
        "same": Status.EQUIVALENT,
        "unclear": Status.AMBIGUOUS,
        "short": Status.INSUFFICIENT_DATA,
    }
    assert found["lucky"].p_value == pytest.approx(0.06)
    assert found["lucky"].reason == "because; over the 5 of the family p = 0.06"
    assert found["clear"].reason == "because"
    assert verdicts["lucky"].status is Status.IMPROVEMENT  # the originals are untouched


def test_a_family_without_differences_seldom_has_a_discovery() -> None:
    rng, rejected = np.random.default_rng(0), 0
    for _ in range(400):
        p = rng.random(20)
        family = {str(i): _made(Status.REGRESSION, float(p[i])) for i in range(20)}
        found = control_false_discoveries(family)
        rejected += any(verdict.status is Status.REGRESSION for verdict in found.values())
    assert rejected / 400 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
