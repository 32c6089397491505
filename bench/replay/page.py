"""The replay as one HTML file: data as typed arrays in base64, one script, nothing from outside.

Tokens are `visible` text before they enter the page, and the script writes them as text only. The
page's policy lets that one script run and no other.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from bench.replay.data import Generation, Replay
from bench.report.cells import NOISE_SHADES, PALETTE, highest_nat, is_special, paint, visible
from bench.report.html import environment, script_source
from bench.report.states import SampleCanvas
from bench.report.style import DECODING_COLOURS, INK, STATE_STYLES, State, plural

_TEMPLATES = Path(__file__).parent / "templates"
_PROSE = " \n"
_WIDEST_TOKEN = 10  # characters of a cell; longer tokens are cut there and whole on hover
_MEANINGS = {
    State.NOISE: "not accepted at this step; the next step is given a random token here",
    State.ACCEPTED: "accepted at this step, and its best guess will still change",
    State.REVOKED: "accepted at the step before and not at this one",
    State.REVISED: "accepted at an earlier step, and its best guess changed at this one",
    State.SETTLED: "accepted, and its best guess stays what it is until the end",
    State.AFTER_EOS: "beyond the end of the delivered text",
}


def replay_page(replay: Replay) -> str:
    """The page's text."""
    view = replay.view
    script = (_TEMPLATES / "replay.js").read_text(encoding="utf-8")
    canvases = [canvas for g in replay.generations for canvas in g.canvases]
    return (
        environment(_TEMPLATES)
        .get_template("replay.html.j2")
        .render(
            colours=DECODING_COLOURS,
            data=Markup(_as_json(_data(replay))),
            date=view.date,
            device=view.device,
            finding=replay.first.finding(visible(replay.first.task)),
            paints=_paints(),
            policy=Markup(script_source(script)),
            script=Markup(script),
            shown=_shown(replay, len(canvases)),
            states=[(state, style, _MEANINGS[state]) for state, style in STATE_STYLES.items()],
            simulated=view.simulated,
            title=f"Replay of {view.info.get('experiment') or 'a canvasbench run'}",
        )
    )


def _shown(replay: Replay, canvases: int) -> str:
    requests = plural(len(replay.generations), "request")
    left_out = (
        f" {plural(replay.left_out, 'request')} left out to keep the page small: "
        "canvasbench replay RUN --request ID shows one."
        if replay.left_out
        else ""
    )
    return f"{plural(canvases, 'traced canvas')} of {requests}.{left_out}"


def _paints() -> list[tuple[int, str, str]]:
    """Paint code, colour and ink of every cell that can occur."""
    inks = [INK] * NOISE_SHADES + [
        style.ink for state, style in STATE_STYLES.items() if state is not State.NOISE
    ]
    return [(i, colour, ink) for i, (colour, ink) in enumerate(zip(PALETTE, inks, strict=True))]


def _as_json(data: dict[str, Any]) -> str:
    """JSON that cannot end the element it stands in."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _data(replay: Replay) -> dict[str, Any]:
    vocabulary: dict[str, int] = {}
    generations = [_generation(g, vocabulary) for g in replay.generations]
    longest = max((len(visible(t)) for t in vocabulary if not is_special(t)), default=1)
    return {
        "noiseShades": NOISE_SHADES,
        "palette": PALETTE,
        "inks": [style.ink for style in STATE_STYLES.values()],
        "glyphs": [style.glyph for style in STATE_STYLES.values()],
        "labels": [style.label.partition(",")[0] for style in STATE_STYLES.values()],
        "tokens": [visible(token) for token in vocabulary],
        "prose": [visible(token, keep=_PROSE).replace("▁", " ") for token in vocabulary],
        "special": [i for i, token in enumerate(vocabulary) if is_special(token)],
        "cellWidth": min(longest, _WIDEST_TOKEN),
        "generations": generations,
        "first": [
            replay.first.point_id,
            replay.first.request_id,
            replay.first.canvas_index,
        ],
    }


def _generation(generation: Generation, vocabulary: dict[str, int]) -> dict[str, Any]:
    g, sibling = generation, generation.sibling
    return {
        "point": g.point.point_id,
        "name": visible(g.point.name, keep=_PROSE),
        "request": g.request_id,
        "task": visible(g.task, keep=_PROSE),
        "prompt": _prose(g.prompt),
        "text": _prose(g.text),
        "answer": _prose(g.answer),
        "correct": g.correct,
        "tokens": g.delivered_tokens,
        "numCanvases": g.num_canvases,
        "wall": g.wall_s,
        "noClock": g.clock.unknown,
        "conditioned": g.conditioned,
        "otherConditioning": g.other_conditioning,
        "sibling": sibling
        and {
            "name": visible(sibling.point.name, keep=_PROSE),
            "text": _prose(sibling.text),
            "correct": sibling.correct,
            "tokens": sibling.delivered_tokens,
            "ends": None if sibling.token_end_s is None else _packed(sibling.token_end_s, "<f4"),
            "wall": sibling.wall_s,
        },
        "canvases": [_canvas(canvas, g, vocabulary) for canvas in g.canvases],
    }


def _canvas(
    canvas: SampleCanvas, generation: Generation, vocabulary: dict[str, int]
) -> dict[str, Any]:
    ends_s = generation.clock.step_end_s.get(canvas.canvas_index)
    content_L = canvas.state_TL[-1] != State.AFTER_EOS
    highest = highest_nat(canvas.entropy_TL)
    shares = np.nan_to_num(canvas.entropy_TL / highest).clip(0, 1)
    tokens = np.array(
        [vocabulary.setdefault(token, len(vocabulary)) for token in canvas.text_TL.ravel()]
    )
    return {
        "index": canvas.canvas_index,
        "steps": canvas.steps,
        "length": canvas.canvas_length,
        "finding": canvas.finding(visible(canvas.task)),
        "content": int(content_L.sum()),
        "before": generation.tokens_before.get(canvas.canvas_index),
        "highestNat": highest,
        "paint": _packed(paint(canvas.state_TL, canvas.entropy_TL), "u1"),
        "entropy": _packed(np.rint(255 * shares), "u1"),
        "token": _packed(tokens, "<u4" if len(vocabulary) > 0xFFFF else "<u2"),
        "wideTokens": len(vocabulary) > 0xFFFF,
        "accepted": canvas.accepted_TL[:, content_L].sum(axis=1).tolist(),
        "ends": None if ends_s is None else _packed(ends_s, "<f4"),
    }


def _prose(text: str | None) -> str | None:
    return None if text is None else visible(text, keep=_PROSE)


def _packed(values: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values).astype(dtype).tobytes()).decode()
