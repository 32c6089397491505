"""A gate's decision in plain types, for JSON."""

from typing import Any

from bench.comparison import as_json as comparison_json
from bench.comparison.result import judged_json
from bench.gate.decide import Decided


def as_json(decided: Decided) -> dict[str, Any]:
    """Outcome, exit code, the gate, its decisions and the comparison they stand on."""
    gate = decided.gate
    return {
        "outcome": decided.outcome.value,
        "exit_code": int(decided.exit_code),
        "gate": {
            "name": gate.name,
            "sha256": gate.sha256,
            "bounds": dict(gate.bounds),
            "on_ambiguous": gate.on_ambiguous.value,
        },
        "decisions": [
            {
                "point_id": decision.point_id,
                "metric": decision.metric,
                "outcome": decision.outcome.value,
                "reason": decision.reason,
                "judged": None if decision.judged is None else judged_json(decision.judged),
            }
            for decision in decided.decisions
        ],
        "comparison": comparison_json(decided.comparison),
    }
