"""A gate's decision in a terminal, and as GitHub's annotations."""

from rich.console import Console
from rich.text import Text

from bench.comparison import words
from bench.comparison.show import environment_lines, point_lines
from bench.gate.decide import Decided, Decision, Outcome
from bench.screen import screen

_COMMANDS = {Outcome.FAILED: "error", Outcome.UNDECIDED: "error", Outcome.WARNED: "warning"}


def print_decided(decided: Decided, console: Console | None = None) -> None:
    """The gate and its hash, what differs, every decision, the causes; the outcome last."""
    out = screen(console)
    for line in lines(decided):
        out.print(Text(line))


def lines(decided: Decided) -> list[str]:
    """The decision as text, a line each."""
    gate = decided.gate
    said = [f"gate  {gate.name}, sha256 {gate.sha256}", *environment_lines(decided.comparison)]
    for point in decided.comparison.points:
        said += [f"{point.point_id}: {line}" for line in point_lines(point)]
    said.append("")
    for decision in decided.decisions:
        said.append(
            f"{decision.outcome.value.upper()}  {decision.point_id}  {decision.metric}"
            f"  {values(decision)}".rstrip()
        )
        said.append(f"    {decision.reason}")
    for point_id, cause in causes(decided):
        said.append(f"{point_id}: {cause}")
    return [*said, "", headline(decided)]


def values(decision: Decision) -> str:
    """Baseline, candidate, effect, and the smallest effect there could have been seen."""
    judged = decision.judged
    if judged is None:
        return ""
    bound, of = 100 * judged.verdict.bound, judged.metric.unit
    arms = " -> ".join(words.value(each, of) for each in (judged.baseline, judged.candidate))
    told = f"{arms} {words.unit(judged)}".rstrip()
    unit = "%" if judged.metric.relative else "pt"
    return (
        f"{told}, {words.effect(judged)}, bound {bound:g} {unit}, "
        f"detectable {words.detectable(judged)}, {words.test(judged)}"
    )


def causes(decided: Decided) -> list[tuple[str, str]]:
    """Where changes of delivered tok/s come from, of points that did not simply pass."""
    troubled = {d.point_id for d in decided.decisions if d.outcome is not Outcome.PASSED}
    return [
        (point.point_id, cause)
        for point in decided.comparison.points
        if point.point_id in troubled
        for cause in point.cause_lines
    ]


def headline(decided: Decided) -> str:
    """The outcome in one line."""
    counts = [
        f"{number} {outcome.value}"
        for outcome in Outcome
        if (number := sum(d.outcome is outcome for d in decided.decisions))
    ]
    told = ", ".join(counts) or "the runs have no point in common; nothing was judged"
    return f"gate {decided.outcome.value}: {told}"


def annotations(decided: Decided) -> list[str]:
    """GitHub workflow commands: what limits a point's numbers, each metric that did not pass, and
    the outcome."""
    found = []
    for point in decided.comparison.points:
        if point.notes:
            title, text = f"notes on {point.point_id}", "\n".join(point.notes)
            found.append(f"::notice title={_property(title)}::{_data(text)}")
    for decision in decided.decisions:
        command = _COMMANDS.get(decision.outcome)
        if command is None:
            continue
        of_point = [cause for point, cause in causes(decided) if point == decision.point_id]
        text = "\n".join([decision.reason, *of_point])
        title = f"{decision.metric} of {decision.point_id}: {decision.outcome.value}"
        found.append(f"::{command} title={_property(title)}::{_data(text)}")
    command = "notice" if decided.exit_code == 0 else "error"
    return [*found, f"::{command} title={_property(decided.gate.name)}::{_data(headline(decided))}"]


def _data(text: str) -> str:
    """Text as a workflow command's message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
