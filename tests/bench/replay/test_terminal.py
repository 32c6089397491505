"""The replay in a terminal: the same states by glyph, and nothing that could act on a terminal."""

import io
import unicodedata
from pathlib import Path

from rich.console import Console

from bench.replay import Replay, print_generation
from bench.report.style import STATE_STYLES, State
from tests.bench.replay.made import counts_from_table, made_run
from tests.bench.replay.test_page import HOSTILE


def printed(replay: Replay, *, width: int = 100, colours: bool = False) -> str:
    out = io.StringIO()
    system = "truecolor" if colours else None
    print_generation(
        replay, Console(file=out, width=width, color_system=system, force_terminal=colours)
    )
    return out.getvalue()


def test_glyphs_and_words_count_as_the_tables_do(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    replay = run.replay().only(1)
    blocks = printed(replay).split("\nStep ")[1:]
    assert len(blocks) == replay.first.steps
    for step, block in enumerate(blocks, 1):
        words, glyphs, _ = block.splitlines()[:3]
        expected = counts_from_table(run.positions, 1, replay.first.canvas_index, step)
        for state in State:
            number = expected[state.name.lower()]
            style = STATE_STYLES[state]
            assert glyphs.count(style.glyph) == number
            assert f"{number} {style.label.partition(',')[0]}" in words


def test_colours_are_those_of_the_page(tmp_path: Path) -> None:
    shown = printed(made_run(tmp_path).replay(), colours=True)
    assert "48;2;0;158;115m■" in shown  # settled


def test_hostile_text_cannot_act(tmp_path: Path) -> None:
    run = made_run(tmp_path, words=HOSTILE, task="[bold]t[/]\x1b", prompt="\u202ep [red]x\x07")
    shown = printed(run.replay())
    assert not [c for c in shown if c != "\n" and unicodedata.category(c) in ("Cc", "Cf", "Cs")]
    assert not [c for c in shown if unicodedata.bidirectional(c) in ("R", "AL", "AN")]
    assert "Prompt: \\u202ep [red]x␇" in shown
    assert "[bold]t[/]␛" in shown
    assert "\\u05e9" in shown or "\\u0645" in shown


def test_lines_fit_the_terminal(tmp_path: Path) -> None:
    replay = made_run(tmp_path, length=200).replay()
    glyphs = {style.glyph for style in STATE_STYLES.values()}
    for width in (60, 100):
        lines = printed(replay, width=width).splitlines()
        rows = [line for line in lines if set(line[:5]) <= glyphs and line]
        assert max(map(len, rows)) == width
        assert sum(map(len, rows)) == 200 * replay.first.steps
