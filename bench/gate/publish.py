"""Where a decision goes: a pull request's Markdown, JUnit XML, GitHub's annotations."""

from pathlib import Path

from bench.gate.decide import Decided
from bench.gate.junit import junit as as_junit
from bench.gate.markdown import markdown as as_markdown
from bench.gate.show import annotations
from bench.writing import write_text


def publish(decided: Decided, *, markdown: Path | None, junit: Path | None, github: bool) -> None:
    """Writes the files that are asked for, and prints annotations.

    Raises:
        ValueError: a file cannot be written.
    """
    if github:
        print("\n".join(annotations(decided)))
    for path, text in ((markdown, as_markdown), (junit, as_junit)):
        if path is not None:
            write_text(path, text(decided))
