"""Prompts with their answers: what a point is asked, in a fixed order, named by a hash."""

from bench.workloads.fixed_work import fixed_work
from bench.workloads.long_context import long_context
from bench.workloads.prompt import Prompt, Workload
from bench.workloads.text import DOMAINS, text_workload
from bench.workloads.tiny import make_workload

__all__ = [
    "DOMAINS",
    "Prompt",
    "Workload",
    "fixed_work",
    "long_context",
    "make_workload",
    "text_workload",
]
