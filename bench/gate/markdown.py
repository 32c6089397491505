"""A gate's decision as Markdown, for a pull request or a job's summary."""

from bench.comparison import words
from bench.gate.decide import Decided, Decision, Outcome
from bench.gate.show import causes, headline

_HEADER = ("point", "metric", "baseline", "candidate", "effect (95 %)", "bound", "detectable")


def markdown(decided: Decided) -> str:
    """Outcome first, then what differs, a table of decisions, reasons and causes."""
    comparison, gate = decided.comparison, decided.gate
    parts = [f"### {_cell(headline(decided)[0].upper() + headline(decided)[1:])}", ""]
    parts += [
        f"{_cell(gate.name)}, gate sha256 `{gate.sha256[:12]}`. Baseline"
        f" `{_code(comparison.baseline.name)}`, candidate `{_code(comparison.candidate.name)}`."
    ]
    if comparison.environment:
        told = "; ".join(_cell(str(difference)) for difference in comparison.environment)
        parts += ["", f"**The environments differ**: {told}."]
    for point in comparison.points:
        if point.config:
            told = "; ".join(_cell(str(difference)) for difference in point.config)
            parts += ["", f"**Configurations of {_cell(point.point_id)} differ**: {told}."]
        if point.notes:
            notes = [_cell(f"Note on {point.point_id}: {note}") for note in point.notes]
            parts += ["", *(f"- {note}" for note in notes)]
    parts += ["", _row([*_HEADER, "test", "decision"])]
    parts.append("|---|---|--:|--:|--:|--:|--:|---|---|")
    parts += [_row(_cells(decision)) for decision in decided.decisions]
    reasons = [d for d in decided.decisions if d.outcome is not Outcome.PASSED]
    if reasons:
        parts.append("")
        parts += [f"- {_cell(f'{d.point_id} {d.metric}: {d.reason}')}" for d in reasons]
    for point_id, cause in causes(decided):
        parts.append(f"- {_cell(point_id)}: {_cell(cause)}")
    return "\n".join(parts) + "\n"


def _cells(decision: Decision) -> list[str]:
    judged = decision.judged
    if judged is None:
        unknown = [words.UNKNOWN] * 6
        return [decision.point_id, decision.metric, *unknown, decision.outcome.value]
    unit = "%" if judged.metric.relative else "pt"
    named = words.unit(judged)
    return [
        decision.point_id,
        f"{decision.metric} ({named})" if named else decision.metric,
        words.value(judged.baseline, judged.metric.unit),
        words.value(judged.candidate, judged.metric.unit),
        words.effect(judged),
        f"{100 * judged.verdict.bound:g} {unit}",
        words.detectable(judged),
        words.test(judged),
        decision.outcome.value,
    ]


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    """Text that stays within its cell and starts no markup."""
    for character in "\\|<>`*_[]":
        text = text.replace(character, f"\\{character}")
    return text.replace("\n", " ")


def _code(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")
