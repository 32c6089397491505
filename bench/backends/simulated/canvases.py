"""Recorded canvases as a batch plays them: cut, prolonged, stacked.

Legend: B seqs, L canvas, T steps.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bench.backends import Trace
from bench.backends.simulated.recording import EOS, PAD, RecordedCanvas

_BY_POSITION = ("candidate", "accepted", "argmax", "entropy_nat")


def played(canvas: RecordedCanvas, steps: int, stop_reason: str) -> RecordedCanvas:
    """A canvas after another number of steps: cut, or its last step repeated."""
    at = np.minimum(np.arange(steps), canvas.steps - 1)
    return RecordedCanvas(
        stop_reason=stop_reason,
        accepted_slots=canvas.accepted_slots[at],
        mean_entropy_nat=canvas.mean_entropy_nat[at],
        candidate=canvas.candidate[at],
        accepted=canvas.accepted[at],
        argmax=canvas.argmax[at],
        entropy_nat=canvas.entropy_nat[at],
    )


def nothing_more(canvas: RecordedCanvas) -> RecordedCanvas:
    """The canvas that follows the last one recorded: one step, and it is the end."""
    argmax = np.full_like(canvas.argmax[:1], PAD)
    argmax[:, 0] = EOS
    return replace(
        canvas,
        stop_reason="converged",
        accepted_slots=np.full_like(canvas.accepted_slots[:1], argmax.shape[1]),
        mean_entropy_nat=np.zeros(1),
        candidate=argmax,
        accepted=np.ones(argmax.shape, dtype=bool),
        argmax=argmax,
        entropy_nat=np.zeros(argmax.shape),
    )


def stacked(canvases: Sequence[RecordedCanvas | None], length: int, level: str) -> Trace:
    """The batch's trace; a row that is done holds its last step, one that is over is blank."""
    playing = [canvas for canvas in canvases if canvas is not None]
    num_steps = max(canvas.steps for canvas in playing)
    blank = replace(
        nothing_more(playing[0]), argmax=np.full((1, length), PAD), accepted_slots=np.zeros(1, int)
    )
    rows = [played(canvas or blank, num_steps, "") for canvas in canvases]

    def joined(name: str) -> np.ndarray:
        return np.stack([getattr(row, name) for row in rows], axis=1)

    by_position: dict[str, np.ndarray | None] = dict.fromkeys(_BY_POSITION)
    if level != "counts":
        by_position |= {name: joined(name) for name in _BY_POSITION}
    return Trace(
        accepted_slots=joined("accepted_slots"),
        mean_entropy_nat=joined("mean_entropy_nat"),
        **by_position,
    )
