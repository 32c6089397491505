"""What an A/B comparison found, in a terminal and as JSON."""

from typing import Any

from rich.text import Text

from bench.ab.blocks import MAX_PAIRS
from bench.ab.run import Found
from bench.comparison import ExitCode, as_json
from bench.comparison.show import (
    environment_lines,
    metrics_table,
    point_lines,
    reason_lines,
    verdict_line,
)
from bench.gate import Decided, by_verdicts
from bench.screen import screen
from bench.stats import Status


def print_found(found: Found) -> None:
    """Environment, points with verdicts and causes, how it was measured; last the verdict."""
    out = screen()
    for line in environment_lines(found.comparison):
        out.print(Text(line))
    for point in found.comparison.points:
        out.print()
        out.print(Text(point.point_id, style="bold"))
        for line in point_lines(point):
            out.print(Text(line))
        out.print(metrics_table(point, "interval"))
        for line in reason_lines(point):
            out.print(Text(line))
    out.print()
    for line in method_lines(found):
        out.print(Text(line, style="dim"))
    for failure in found.failures:
        out.print(Text(failure))
    out.print(Text(last_line(found)))


def method_lines(found: Found) -> list[str]:
    """How the pairs were measured, and what the numbers beside them mean."""
    looks = ", ".join(map(str, found.plan["looks"]))
    held = [
        f"By A/A blocks {MAX_PAIRS} pairs tell {100 * smallest:.2g} % of {name} from none."
        for name, smallest in found.held.items()
    ]
    return [
        f"{found.pairs} pairs in ABBA blocks of fresh processes, {found.wall_s / 60:.1f} min:"
        f" {found.stopped}.",
        f"Speeds and memory by pairs, looked at after {looks} (5 % spent over all looks), contents"
        f" by prompt; p adjusted over {found.comparison.family} tests (Benjamini-Hochberg).",
        *held,
        f"Kept in {found.out}: plan {found.plan['sha256'][:12]}, runs baseline and candidate.",
    ]


def last_line(found: Found) -> str:
    """One line that says what the exit code says."""
    if not found.comparison.points:
        return f"{Status.INSUFFICIENT_DATA.value}: nothing was compared: {found.stopped}"
    if found.failures and found.comparison.exit_code is ExitCode.POSITIVE:
        return f"{Status.INSUFFICIENT_DATA.value}: nothing got worse, but something went wrong"
    return verdict_line(found.comparison)


def decided(found: Found) -> Decided:
    """The same in the form of a gate, for Markdown, JUnit XML and annotations."""
    return by_verdicts(
        found.comparison,
        name="canvasbench ab",
        bounds=dict.fromkeys(found.plan["metrics"], found.plan["bound"]),
        sha256=found.plan["sha256"],
        failures=found.failures,
    )


def found_json(found: Found) -> dict[str, Any]:
    """Everything in plain types: as of `compare`, and how it was measured under `ab`."""
    status = found.comparison.status
    if found.exit_code is not found.comparison.exit_code:
        status = Status.INSUFFICIENT_DATA
    return {
        **as_json(found.comparison),
        "status": status.value,
        "exit_code": int(found.exit_code),
        "ab": {
            "plan": dict(found.plan),
            "detectable_by_aa": dict(found.held),
            "out": str(found.out),
            "pairs": found.pairs,
            "stopped": found.stopped,
            "failures": list(found.failures),
            "wall_s": found.wall_s,
        },
    }
