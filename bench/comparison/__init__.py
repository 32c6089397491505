"""Two runs held against each other: verdicts with effect, interval and cause; no torch."""

from bench.comparison.environment import Difference, digest, environment, fingerprint
from bench.comparison.metrics import METRICS, Metric
from bench.comparison.result import (
    ComparedPoint,
    Comparison,
    ExitCode,
    Judged,
    Side,
    as_json,
)
from bench.comparison.runs import compare, compare_with
from bench.comparison.show import print_comparison

__all__ = [
    "METRICS",
    "ComparedPoint",
    "Comparison",
    "Difference",
    "ExitCode",
    "Judged",
    "Metric",
    "Side",
    "as_json",
    "compare",
    "compare_with",
    "digest",
    "environment",
    "fingerprint",
    "print_comparison",
]
