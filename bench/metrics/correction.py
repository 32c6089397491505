"""Self-correction: how the answer changes during denoising, judged by a checker.

The answer at step t is the earlier canvases' text followed by the argmax of step t up to its own
first EOS, on the canvas that holds the answer's end. Three reference steps: half = ceil(T / 2);
accept = the first step by which every content position has been accepted at least once; parse = the
first step whose answer parses. A reference that is never reached is unresolved (None) and stays in
N.

Legend: T steps, L canvas positions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

REFERENCES = ("half", "accept", "parse")


@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer's way to its end.

    Attributes:
        correct_at: whether the answer was right at each reference; None where it is unresolved.
        unchanged_from: whether the answer at the reference already was the final one.
        ever_correct: right at some step.
    """

    correct_at: dict[str, bool | None]
    unchanged_from: dict[str, bool | None]
    ever_correct: bool


def answer_outcome(
    before: Sequence[int],
    accepted_TL: np.ndarray,
    argmax_TL: np.ndarray,
    num_content: int,
    *,
    eos_token_ids: frozenset[int],
    decode: Callable[[Sequence[int]], str],
    check: Callable[[str], bool],
    parses: Callable[[str], bool],
) -> Outcome:
    """Judges the answer at every step of its last canvas.

    Args:
        before: delivered tokens of the earlier canvases.
        num_content: content positions of the canvas as delivered.
    """
    texts = [
        decode([*before, *_content(row, eos_token_ids)]) for row in np.asarray(argmax_TL).tolist()
    ]
    right = [check(text) for text in texts]
    num_steps = len(texts)
    covered = np.logical_or.accumulate(accepted_TL[:, :num_content].astype(bool)).all(axis=1)
    steps = {
        "half": -(-num_steps // 2) - 1,
        "accept": int(covered.argmax()) if covered.any() else None,
        "parse": next((t for t, text in enumerate(texts) if parses(text)), None),
    }
    return Outcome(
        correct_at={name: None if t is None else right[t] for name, t in steps.items()},
        unchanged_from={
            name: None if t is None else texts[t] == texts[-1] for name, t in steps.items()
        },
        ever_correct=any(right),
    )


def _content(row: list[int], eos_token_ids: frozenset[int]) -> list[int]:
    """Tokens up to and including the first EOS."""
    end = next((i + 1 for i, token in enumerate(row) if token in eos_token_ids), len(row))
    return row[:end]
