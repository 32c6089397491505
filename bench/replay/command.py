"""`canvasbench replay RUN`: the page, or the terminal's version of it."""

from pathlib import Path

from bench.replay.gather import replayable
from bench.replay.page import replay_page
from bench.replay.terminal import print_generation
from bench.report.style import plural
from bench.report.view import View
from bench.store import open_run
from bench.writing import write_text

_MOST_CELLS = 400_000
"""Steps times positions in a page; a cell takes 5.4 characters, so the page stays below 3 MB."""


def replay(
    run_folder: Path, *, output: Path | None, terminal: bool, request_id: int | None
) -> None:
    """Writes replay.html into the run's folder (or `output`), or prints one generation.

    Args:
        request_id: show this request alone; all that were traced by default.

    Raises:
        ValueError: no run, nothing in it to replay, an unknown request, or no place to write to.
    """
    if terminal and output is not None:
        raise ValueError(f"--output {output} is where a page goes; --terminal prints instead")
    found = replayable(View.of(open_run(run_folder)))
    if request_id is not None:
        found = found.only(request_id)
    if terminal:
        print_generation(found)
        return
    page = output or run_folder / "replay.html"
    shown = found.at_most(_MOST_CELLS)
    write_text(page, replay_page(shown))
    canvases = sum(len(g.canvases) for g in shown.generations)
    print(f"{plural(canvases, 'canvas')}, {page.stat().st_size / 1e6:.2f} MB")
    print(f"replay: {page}")
