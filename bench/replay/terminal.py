"""The replay in a terminal: every step as a row of glyphs, and the text as it would be delivered.

States have the page's colours and glyphs; a log without colours loses nothing. Text passes through
`left_to_right`, so no token can move the cursor, hide, or turn a line around.
"""

from collections import Counter

from rich.console import Console
from rich.style import Style
from rich.text import Text

from bench.digits import NOT_AVAILABLE, digits
from bench.replay.data import Generation, Replay
from bench.report.cells import PALETTE, is_special, left_to_right, paint, state_of
from bench.report.states import SampleCanvas
from bench.report.style import INK, STATE_STYLES, State

_PROSE = " "
_NARROWEST = 20


def print_generation(replay: Replay, console: Console | None = None) -> None:
    """Prints the canvas that `replay` begins with, and what else could be printed."""
    out = console or Console(highlight=False)
    first = replay.first
    generation = next(
        g
        for g in replay.generations
        if (g.point.point_id, g.request_id) == (first.point_id, first.request_id)
    )
    out.print(Text(f"{first.finding(left_to_right(first.task, keep=_PROSE))}.", style="bold"))
    out.print(Text(_request(generation, first)))
    out.print(_key())
    for step in range(first.steps):
        _print_step(out, generation, first, step)
    out.print(Text(f"\nDelivered: {_prose(generation.text)}"))
    out.print(Text(_sibling(generation)))
    others = [i for i in replay.request_ids if i != first.request_id]
    if others:
        out.print(Text(f"Others: --request {', '.join(others)}", style="dim"))


def _request(generation: Generation, canvas: SampleCanvas) -> str:
    of = NOT_AVAILABLE if generation.num_canvases is None else f"{generation.num_canvases}"
    name = left_to_right(generation.point.name, keep=_PROSE)
    return (
        f"{name}, request {generation.request_id}, canvas {canvas.canvas_index + 1} of {of}\n"
        f"Prompt: {_prose(generation.prompt)}"
    )


def _key() -> Text:
    key = Text()
    for state, style in STATE_STYLES.items():
        key.append(style.glyph, style=_style(style.colour, style.ink))
        key.append(f" {style.label.partition(',')[0]}  ")
        if state is State.NOISE:
            key.append("(darker: less sure)  ", style="dim")
    return key


def _print_step(out: Console, generation: Generation, canvas: SampleCanvas, step: int) -> None:
    """A line of counts, the glyphs, and the text of that step."""
    states = canvas.state_TL[step]
    counted = Counter(State(int(state)) for state in states)
    told = ", ".join(f"{counted[s]} {STATE_STYLES[s].label.partition(',')[0]}" for s in State)
    ends_s = generation.clock.step_end_s.get(canvas.canvas_index)
    at = "" if ends_s is None else f", {digits(1e3 * ends_s[step])} ms"
    out.print(Text(f"\nStep {step + 1} of {canvas.steps}{at}: {told}"))
    width = max(_NARROWEST, out.width)
    codes = paint(canvas.state_TL, canvas.entropy_TL)[step]
    for begin in range(0, len(codes), width):
        row = Text(no_wrap=True)
        for code in codes[begin : begin + width].tolist():
            style = STATE_STYLES[state_of(code)]
            ink = INK if state_of(code) is State.NOISE else style.ink
            row.append(style.glyph, style=_style(PALETTE[code], ink))
        out.print(row)
    tokens = canvas.text_TL[step][states != State.AFTER_EOS]
    text = "".join(token for token in tokens if not is_special(token)).replace("▁", " ")
    out.print(Text(left_to_right(text, keep=_PROSE), overflow="fold"))


def _sibling(generation: Generation) -> str:
    other = generation.sibling
    if other is None:
        return "Autoregressively: n/a, this run has no such point that was asked this prompt."
    times = [digits(None if s is None else 1e3 * s) for s in (generation.wall_s, other.wall_s)]
    return (
        f"{left_to_right(other.point.name, keep=_PROSE)}: {_prose(other.text)}\n"
        f"Whole request: {times[0]} ms here, {times[1]} ms there."
    )


def _prose(text: str | None) -> str:
    return NOT_AVAILABLE if text is None else left_to_right(text, keep=_PROSE)


def _style(background: str, ink: str) -> Style:
    return Style(color=ink, bgcolor=background)
