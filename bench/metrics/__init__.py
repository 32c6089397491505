"""Definitions: pure functions from records and tables to numbers; no torch, no clocks."""

from bench.metrics.correction import REFERENCES, Outcome, answer_outcome
from bench.metrics.failed import few_failed, many_failed, other_servers
from bench.metrics.ledger import audit, inert_knobs
from bench.metrics.repeats import first_repeat
from bench.metrics.revision import Revision, canvas_revision, step_counts
from bench.metrics.speed import RATES, request_times, system_rate

__all__ = [
    "RATES",
    "REFERENCES",
    "Outcome",
    "Revision",
    "answer_outcome",
    "audit",
    "canvas_revision",
    "few_failed",
    "first_repeat",
    "inert_knobs",
    "many_failed",
    "other_servers",
    "request_times",
    "step_counts",
    "system_rate",
]
