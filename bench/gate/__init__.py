"""Gates: declared beforehand, decided from a comparison, told to people and to CI; no torch."""

from bench.gate.decide import Decided, Decision, Outcome, decide, gate_runs
from bench.gate.declaration import Gate, OnAmbiguous, read_gate
from bench.gate.junit import junit
from bench.gate.markdown import markdown
from bench.gate.plain import as_json
from bench.gate.publish import publish
from bench.gate.show import annotations, headline, print_decided
from bench.gate.verdicts import by_verdicts

__all__ = [
    "Decided",
    "Decision",
    "Gate",
    "OnAmbiguous",
    "Outcome",
    "annotations",
    "as_json",
    "by_verdicts",
    "decide",
    "gate_runs",
    "headline",
    "junit",
    "markdown",
    "print_decided",
    "publish",
    "read_gate",
]
