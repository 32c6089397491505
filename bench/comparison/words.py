"""Numbers and effects of a comparison as text, for the terminal and for a pull request alike.

Written here and not with `bench.report.style`, whose package loads the plotting library.
"""

from bench.comparison.result import Judged
from bench.digits import NOT_AVAILABLE, digits
from bench.stats import HypothesisTest

UNKNOWN = NOT_AVAILABLE


def value(number: float | None, unit: str = "") -> str:
    """Three significant digits: 1,240, 93.0, 0.0123; 463 MiB of bytes; n/a when unknown."""
    if number is not None and unit == "bytes":
        return f"{digits(number / 2**20)} MiB"
    return digits(number)


def unit(judged: Judged) -> str:
    """Of a metric, where `value` leaves it out: it does not of bytes."""
    return "" if judged.metric.unit == "bytes" else judged.metric.unit


def effect(judged: Judged) -> str:
    """+4.98 % (+4.11 to +5.86): shares of the baseline, or percentage points of a share."""
    verdict = judged.verdict
    if verdict.effect is None:
        return UNKNOWN
    if verdict.interval == (0.0, 0.0) and verdict.effect == 0:
        return "equal"
    unit = "%" if judged.metric.relative else "pt"
    text = f"{100 * verdict.effect:+.2f} {unit}"
    if verdict.interval is None:
        return text
    low, high = verdict.interval
    return f"{text} ({100 * low:+.2f} to {100 * high:+.2f})"


def test(judged: Judged) -> str:
    """mann_whitney p 0.0002, n 8 and 8."""
    verdict = judged.verdict
    unit = "prompts"
    if judged.metric.by_process:
        unit = "pairs" if verdict.test is HypothesisTest.SIGN_FLIP else "processes"
    n = f"{verdict.n}" if verdict.n == verdict.n_baseline else f"{verdict.n_baseline}, {verdict.n}"
    p = "" if verdict.p_value is None else f" p {p_value(verdict.p_value)}"
    return f"{verdict.test.value.replace('_', '-')}{p}, n {n} {unit}"


def p_value(p: float) -> str:
    return "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def detectable(judged: Judged) -> str:
    """The smallest effect that the data could have told from none."""
    if judged.detectable is None:
        return UNKNOWN
    return f"{100 * judged.detectable:.2g} {'%' if judged.metric.relative else 'pt'}"
