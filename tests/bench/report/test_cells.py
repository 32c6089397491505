"""How canvas positions look: colours one can read, text that stays where it is put."""

import unicodedata

import numpy as np
import pytest

from bench.report.cells import (
    NOISE_SHADES,
    PALETTE,
    highest_nat,
    left_to_right,
    paint,
    state_of,
    visible,
)
from bench.report.style import INK, STATE_STYLES, State


def luminance(colour: str) -> float:
    """WCAG 2 relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_state_can_be_read() -> None:
    for code, colour in enumerate(PALETTE):
        state = state_of(code)
        ink = INK if state is State.NOISE else STATE_STYLES[state].ink
        assert contrast(ink, colour) >= 4.5, (state, colour, ink)


def test_states_differ_in_glyph_as_well_as_in_colour() -> None:
    assert len({style.glyph for style in STATE_STYLES.values()}) == len(State)
    assert len(set(PALETTE)) == len(PALETTE)


def test_paint_tells_the_state_and_how_unsure_noise_is() -> None:
    state = np.array([[State.NOISE, State.NOISE, State.SETTLED], [0, 0, State.AFTER_EOS]])
    codes = paint(state, np.array([[0.0, 2.0, 2.0], [1.0, np.nan, 0.0]]))
    assert [[state_of(c) for c in row] for row in codes.tolist()] == state.tolist()
    assert codes[0, 0] == 0
    assert codes[0, 1] == NOISE_SHADES - 1
    assert codes[1, 0] == pytest.approx((NOISE_SHADES - 1) / 2, abs=1)
    assert luminance(PALETTE[0]) > luminance(PALETTE[NOISE_SHADES - 1])
    assert PALETTE[codes[0, 2]] == STATE_STYLES[State.SETTLED].colour


def test_a_canvas_without_entropy_is_all_calm() -> None:
    assert highest_nat(np.array([[np.nan, np.nan]])) > 0
    assert paint(np.zeros((1, 2)), np.full((1, 2), np.nan)).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ab c\n\t", "ab␣c⏎⇥"),
        ("\x00\x1b[31m\x7f\x9b", "␀␛[31m␡\\u009b"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("a\u200bb\xa0c\u2028", "a\\u200bb\\u00a0c\\u2028"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("\u0301x", "◌\u0301x"),
        ("שלום é 語", "שלום␣é␣語"),
    ],
)
def test_every_character_shows(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_prose_keeps_its_spaces_only() -> None:
    assert visible("a b\n\x1b", keep=" \n") == "a b\n␛"


def test_no_letter_turns_a_line_around_in_a_terminal() -> None:
    text = "".join(chr(c) for c in range(0x3000))
    shown = left_to_right(text)
    assert all(unicodedata.bidirectional(c) not in ("R", "AL", "AN") for c in shown)
    assert not any(unicodedata.category(c) in ("Cc", "Cf") for c in shown)
    assert left_to_right("a ש", keep=" ") == "a \\u05e9"
