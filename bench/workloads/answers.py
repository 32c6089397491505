"""Reads the checkable part out of a model's free text: a final number, a code block."""

import ast
import re
from fractions import Fraction

_ANSWER_LINE = re.compile(r"answer\**\s*(?::|is\b)\s*(.+)", re.IGNORECASE)
_LATEX_FRACTION = re.compile(r"\\d?frac\s*\{(-?\d+)\}\s*\{(\d+)\}")
_MARKUP = re.compile(r"\^\{?\\circ\}?|\\(?:boxed|text|mathrm)\b|\\[,;! ]|[*$`{}\\]")
_ROUNDED = re.compile("\N{ALMOST EQUAL TO}|\\\\approx")
_NUMBER = re.compile(
    r"(?<![\w.^])(?<!\d,)[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s*/\s*\d+)?(?![\d^]|,\d)"
)
_FENCE = re.compile(r"^[ \t]*```[ \t]*([\w+-]*)[^\n]*\n(.*?)^[ \t]*```[ \t]*$", re.DOTALL | re.M)


def final_number(text: str) -> Fraction | None:
    """The one number on the last line that reads `Answer: ...`; None without one, or with several.

    Markdown and LaTeX around it, thousands separators, a unit, `x = ` before it and fractions such
    as 3/8 or \\frac{3}{8} are understood. Of an equation the right-hand side counts, and nothing
    after an "about equal".
    """
    lines = _ANSWER_LINE.findall(text)
    if not lines:
        return None
    exact = _ROUNDED.split(lines[-1])[0].replace("\N{MINUS SIGN}", "-")
    plain = _MARKUP.sub(" ", _LATEX_FRACTION.sub(r"\1/\2", exact))
    found = _NUMBER.findall(plain.rsplit("=", 1)[-1])
    if len(found) != 1:
        return None
    number = re.sub(r"[,\s+]", "", found[0])
    numerator, _, denominator = number.partition("/")
    if denominator and not int(denominator):
        return None
    return Fraction(numerator) / int(denominator or 1)


def has_final_number(text: str) -> bool:
    return final_number(text) is not None


def code_blocks(text: str) -> list[tuple[str, str]]:
    """(language, content) of every fenced block; the language is empty where none is named."""
    return [(language.lower(), content) for language, content in _FENCE.findall(text)]


def parses_as_python(text: str) -> bool:
    """Whether every Python block parses and there is one; without fences, the whole text.

    Nothing is run: what a model writes stays text.
    """
    blocks = code_blocks(text)
    code = [content for language, content in blocks if language in ("", "py", "python", "python3")]
    if not blocks:
        code = [text]
    return bool(code) and any(map(str.strip, code)) and all(map(_is_python, code))


def _is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True
