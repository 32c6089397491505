"""What a run looks like to people: plots, a self-contained page, a terminal summary; no torch."""

from bench.report.claims import render_claims
from bench.report.notices import limits_of
from bench.report.page import render
from bench.report.terminal import print_summary

__all__ = ["limits_of", "print_summary", "render", "render_claims"]
