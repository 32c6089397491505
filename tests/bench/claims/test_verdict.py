"""From an interval to a verdict: the relations of the specification, at their limits."""

import pytest

from bench.claims.claim import Claim, Conditions, Source
from bench.claims.judge import ratio_of
from bench.claims.verdict import Outcome, exit_code, outcome, why
from bench.stats import Interval

R, W, N, INSUFFICIENT = (
    Outcome.REPRODUCED,
    Outcome.WITHIN_TOLERANCE,
    Outcome.NOT_REPRODUCED,
    Outcome.INSUFFICIENT,
)


def claim(relation: str, value: float = 100, upper: float | None = None) -> Claim:
    return Claim(
        name="c",
        title="c",
        value=value,
        upper=upper,
        unit="tok/s",
        relation=relation,
        metric="decode_tok_per_s",
        conditions=Conditions(decoding="diffusion"),
        source=Source(title="s", date="2026"),
    )


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((100, 110), R),
        ((200, 220), R),
        ((99.9, 110), W),
        ((95, 99), W),
        ((94.9, 99), INSUFFICIENT),
        ((90, 95), INSUFFICIENT),
        ((90, 94.9), N),
        ((50, 300), INSUFFICIENT),
        (None, INSUFFICIENT),
    ],
)
def test_at_least(interval: Interval, expected: Outcome) -> None:
    assert outcome(claim("at_least"), interval) is expected


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((97.5, 102.5), R),
        ((97.4, 102), W),
        ((100, 102.6), W),
        ((95, 105), W),
        ((94.9, 100), INSUFFICIENT),
        ((100, 105.1), INSUFFICIENT),
        ((90, 95), INSUFFICIENT),
        ((90, 94.9), N),
        ((105.1, 120), N),
        ((50, 300), INSUFFICIENT),
        (None, INSUFFICIENT),
    ],
)
def test_equal(interval: Interval, expected: Outcome) -> None:
    assert outcome(claim("equal"), interval) is expected


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((100, 200), R),
        ((150, 151), R),
        ((99, 150), W),
        ((95, 210), W),
        ((94, 150), INSUFFICIENT),
        ((150, 211), INSUFFICIENT),
        ((80, 94), N),
        ((211, 300), N),
        (None, INSUFFICIENT),
    ],
)
def test_between_two_ends(interval: Interval, expected: Outcome) -> None:
    assert outcome(claim("between", upper=200), interval) is expected


def test_every_verdict_says_what_made_it() -> None:
    for relation, upper in (("at_least", None), ("equal", None), ("between", 200)):
        own = claim(relation, upper=upper)
        said = [why(own, found) for found in (R, W, N, INSUFFICIENT)]
        assert len(set(said)) == 4
        assert all("100" in text for text in said)


def test_exit_codes() -> None:
    assert exit_code([R, W]) == 0
    assert exit_code([R, N, Outcome.NOT_COMPARABLE]) == 1
    assert exit_code([R, INSUFFICIENT]) == 3
    assert exit_code([Outcome.NOT_COMPARABLE]) == 3
    assert exit_code([]) == 3


def test_the_interval_of_a_ratio_adds_widths_in_quadrature() -> None:
    exact = (50.0, 50.0)
    assert ratio_of(100, (90, 110), 50, exact) == pytest.approx((1.8, 2.2))
    assert ratio_of(100, (100, 100), 50, (40, 60)) == pytest.approx((100 / 60, 2.5))
    both = ratio_of(100, (90, 110), 50, (45, 55))
    assert both is not None
    assert 100 / 50 * 0.9 * 50 / 55 < both[0] < 1.8
    assert 2.2 < both[1] < 2 * 1.1 * 50 / 45
    assert ratio_of(100, None, 50, exact) is None
    assert ratio_of(100, (90, 110), 50, None) is None
    assert ratio_of(100, (0, 110), 50, exact) is None
