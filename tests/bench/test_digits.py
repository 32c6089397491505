"""Digits of a value beside its interval."""

import math

import pytest

from bench.claims.words import figure
from bench.claims.words import told as told_of_claims
from bench.comparison import words as of_comparison
from bench.digits import digits, digits_apart, tidy, told_apart
from bench.report.style import Estimate, percent, percent_text, told, with_interval


@pytest.mark.parametrize(
    ("value", "lo", "hi", "digits"),
    [
        (298.0, 238.0, 368.0, 3),
        (1431.01, 1425.2, 1436.8, 4),
        (1482.0, 1478.0, 1487.0, 4),
        (1428.0, 1404.0, 1452.0, 3),
        (0.99812, 0.99797, 0.99823, 4),
        (0.998121, 0.998102, 0.998140, 5),
        (100.0, 97.5, 100.0, 3),
        (100.0, 100.0, 100.0, 3),
        (2000.0, 1999.99, 2000.01, 6),
        (2000.0, 1999.9999, 2000.0001, 3),
        (640.0, 640.0 - 1e-10, 640.0 + 1e-10, 3),
        (5.0, 6.0, 6.0, 3),
        (-12.34, -12.38, -12.30, 4),
        (0.0, -1.0, 1.0, 3),
        (math.nan, 1.0, 2.0, 3),
    ],
)
def test_as_many_digits_as_tell_a_value_from_its_ends(
    value: float, lo: float, hi: float, digits: int
) -> None:
    assert digits_apart(value, lo, hi) == digits
    assert digits_apart(value, lo, hi, least=4) == max(4, digits)


def test_reports_and_claims_write_them_alike() -> None:
    narrow = Estimate(1431.01, 1425.2, 1436.8)
    assert told(narrow) == told_of_claims(1431.01, (1425.2, 1436.8)) == ("1,431", "1,425 to 1,437")
    assert with_interval(narrow, "tok/s") == "1,431 tok/s (1,425 to 1,437)"
    assert told(Estimate(0.10, 0.0533, 0.1467), scale=100, signed=True) == ("+10.0", "5.33 to 14.7")
    assert told_of_claims(3.5881, (3.5876, 3.5889)) == ("3.5881", "3.5876 to 3.5889")


def test_without_an_interval_there_are_three_digits_and_claims_have_four() -> None:
    assert told(Estimate(1431.01)) == ("1,430", "")
    assert told(Estimate(None)) == ("n/a", "")
    assert with_interval(Estimate(None), "tok/s") == "n/a"
    assert told_of_claims(1431.01, None) == ("1,431", "n/a")
    assert told_of_claims(None, None) == ("n/a", "n/a")


def test_one_format_rounds_before_it_counts_the_decimals() -> None:
    assert [figure(x) for x in (9.9996, 12345.6, 1135.2, 14.937, 0)] == [
        "10.00",
        "12,350",
        "1,135",
        "14.94",
        "0",
    ]
    for value in (9.9996, 12345.6, 0.99951, -3.14159, math.inf, None):
        assert of_comparison.value(value) == digits(value)
    assert digits(9.9996) == "10.0"


def test_ends_that_read_alike_are_written_once_and_without_false_digits() -> None:
    alike = Estimate(640.0, 640.0 - 1e-10, 640.0 + 1e-10)
    assert told(alike) == ("640", "no spread")
    assert with_interval(alike, "tok/s") == "640 tok/s (no spread)"
    assert told_of_claims(10.0, (10.0 - 1e-12, 10.0 + 1e-12)) == ("10.00", "no spread")
    assert told_apart(5.0, 6.0, 6.0) == ("5.00", "6.00")
    assert told(Estimate(0.1, 0.1, 0.1), scale=100, signed=True) == ("+10.0", "no spread")
    assert told_apart(None, 1.0, 2.0) == ("n/a", "1.00 to 2.00")


def test_small_shares_have_hundredths_and_counts_no_decimals() -> None:
    assert [percent_text(x) for x in (0.0007, 0.0000234, 0.00424, 0.0151, 0.93, 0, None)] == [
        "0.07 %",
        "0.002 %",
        "0.42 %",
        "1.51 %",
        "93.0 %",
        "0 %",
        "n/a",
    ]
    assert percent(0.0007, signed=True) == "+0.07"
    assert [tidy(x) for x in (46.0, 1.0, 10.5, 1200.0, None)] == ["46", "1", "10.5", "1,200", "n/a"]
