"""Definitions: pure functions from records and tables to numbers; no torch, no clocks."""

from bench.metrics.correction import REFERENCES, Outcome, answer_outcome
from bench.metrics.ledger import audit, inert_knobs
from bench.metrics.revision import Revision, canvas_revision, step_counts
from bench.metrics.speed import RATES, request_times

__all__ = [
    "RATES",
    "REFERENCES",
    "Outcome",
    "Revision",
    "answer_outcome",
    "audit",
    "canvas_revision",
    "inert_knobs",
    "request_times",
    "step_counts",
]
