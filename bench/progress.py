"""How far a run is, on standard error: a bar for whoever watches, else ten lines of a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_LINES = 10
"""Of a whole run in a log."""


@contextmanager
def shown_progress(what: str, num_batches: int) -> Iterator[Callable[[], None]]:
    """Shows timed batches; gives what is to be called after each.

    Args:
        what: is measured.
        num_batches: of the whole run.
    """
    console = Console(stderr=True)
    if not console.is_interactive:
        yield _logged(console, what, num_batches)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(what, total=num_batches)
        yield lambda: progress.advance(bar)


def _logged(console: Console, what: str, num_batches: int) -> Callable[[], None]:
    """Says each tenth of the way, and when it was reached."""
    begin, done = time.monotonic(), 0

    def advance() -> None:
        nonlocal done
        done += 1
        if done * _LINES // num_batches > (done - 1) * _LINES // num_batches:
            said = f"{what}: {done} of {num_batches} batches after {time.monotonic() - begin:.0f} s"
            console.print(said, highlight=False, soft_wrap=True)

    return advance
