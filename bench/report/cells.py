"""How a canvas position looks, whoever draws it: the report's heat map, the replay, the terminal.

Legend: T steps, L canvas positions.
"""

import unicodedata

import numpy as np

from bench.report.style import STATE_STYLES, State

NOISE_SHADES = 32
_CALM, _UNSURE = (0xEE, 0xF0, 0xF3), (0x8B, 0x95, 0xA1)
_VISIBLE = {" ": "\N{OPEN BOX}", "\n": "\N{RETURN SYMBOL}", "\t": "\N{RIGHTWARDS ARROW TO BAR}"}
_PICTURES = 0x2400  # symbols for the control characters 0 to 31, in their order
_DELETE = "\x7f"
_UNSEEN = frozenset(("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"))
_RIGHT_TO_LEFT = frozenset(("R", "AL", "AN"))


def _palette() -> tuple[str, ...]:
    noise = np.rint(np.linspace(_CALM, _UNSURE, NOISE_SHADES)).astype(int)
    states = [STATE_STYLES[state].colour for state in State if state is not State.NOISE]
    return (*(f"#{red:02X}{green:02X}{blue:02X}" for red, green, blue in noise), *states)


PALETTE = _palette()
"""Colours by paint code: noise from low to high entropy, then the other states in their order."""


def paint(state_TL: np.ndarray, entropy_TL: np.ndarray) -> np.ndarray:
    """Paint codes [T, L], uint8: the state, and how dark noise is.

    Only noise is shaded by entropy (nat, relative to the canvas's highest): elsewhere it is near
    zero by the acceptance rule.
    """
    share_TL = np.nan_to_num(entropy_TL / highest_nat(entropy_TL)).clip(0, 1)
    shade_TL = np.rint(share_TL * (NOISE_SHADES - 1))
    codes = np.where(state_TL == State.NOISE, shade_TL, NOISE_SHADES - 1 + state_TL)
    return codes.astype(np.uint8)


def state_of(code: int) -> State:
    """The state that a paint code stands for."""
    return State.NOISE if code < NOISE_SHADES else State(code - NOISE_SHADES + 1)


def highest_nat(entropy_TL: np.ndarray) -> float:
    """The entropy at the dark end of the scale; above 0 also where every entropy is 0 or NaN."""
    return max(float(np.nanmax(entropy_TL, initial=0.0)), 1e-3)


def visible(text: str, *, keep: str = "") -> str:
    """Text of which every character shows, in its place: none hides, and none moves its neighbours.

    White space and control characters become symbols; format characters (also those that turn the
    direction of writing), unassigned ones and rare spaces become escapes like \\u202e. A combining
    mark that has nothing before it gets a dotted circle.

    Args:
        keep: characters to leave alone, " \\n" for prose.
    """
    shown = "".join(c if c in keep else _shown(c) for c in text)
    return (
        f"\N{DOTTED CIRCLE}{shown}" if unicodedata.category(shown[:1] or "a")[0] == "M" else shown
    )


def left_to_right(text: str, *, keep: str = "") -> str:
    """`visible` text without letters written from right to left, which become escapes.

    For terminals: some of them reorder a whole line around such a letter.
    """
    return "".join(
        _escaped(c) if unicodedata.bidirectional(c) in _RIGHT_TO_LEFT else c
        for c in visible(text, keep=keep)
    )


def is_special(text: str) -> bool:
    """Whether a token is a marker like <eos>, no part of what a reader sees."""
    return len(text) > 2 and text.startswith("<") and text.endswith(">")


def _shown(character: str) -> str:
    if character in _VISIBLE:
        return _VISIBLE[character]
    if character < " ":
        return chr(_PICTURES + ord(character))
    if character == _DELETE:
        return "\N{SYMBOL FOR DELETE}"
    return _escaped(character) if unicodedata.category(character) in _UNSEEN else character


def _escaped(character: str) -> str:
    number = ord(character)
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
