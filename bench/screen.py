"""How wide a terminal's tables may be: one width, so that a log looks alike wherever it is made."""

from rich.console import Console

WIDTH = 100
"""Characters of a line, at most."""


def screen(console: Console | None = None) -> Console:
    """A console at most 100 characters wide, all of them where the output is no terminal.

    Args:
        console: one that a caller has made, left as it is.
    """
    if console is not None:
        return console
    out = Console()
    out.width = min(WIDTH, out.width) if out.is_terminal else WIDTH
    return out
