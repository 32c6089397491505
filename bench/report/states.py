"""The state of every canvas position at every step, and which canvas shows most. Pure; no plotting.

How a state looks is `bench.report.cells`.

Legend: T steps, L canvas positions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bench.report.style import State, plural

_NEEDED = ("request_id", "canvas_index", "step", "position", "accepted", "argmax", "entropy_nat")


def classify(accepted_TL: np.ndarray, argmax_TL: np.ndarray, content_L: np.ndarray) -> np.ndarray:
    """State codes [T, L]; where several apply, the rarer one wins.

    after EOS: beyond the delivered text. Revised: accepted at an earlier step, and the argmax
    changed at this one. Revoked: accepted at the step before, not at this one. Settled: accepted,
    and the argmax stays what it is until the end. Accepted: accepted, but will still change. Noise:
    the rest, given a random token for the next step.
    """
    changed_TL = np.zeros_like(accepted_TL)
    changed_TL[1:] = argmax_TL[1:] != argmax_TL[:-1]
    earlier_TL = np.zeros_like(accepted_TL)
    earlier_TL[1:] = np.logical_or.accumulate(accepted_TL, axis=0)[:-1]
    revoked_TL = np.zeros_like(accepted_TL)
    revoked_TL[1:] = accepted_TL[:-1] & ~accepted_TL[1:]
    final_TL = np.flip(np.logical_and.accumulate(np.flip(argmax_TL == argmax_TL[-1], 0), 0), 0)

    state_TL = np.full(accepted_TL.shape, State.NOISE, dtype=np.int8)
    state_TL[accepted_TL] = State.ACCEPTED
    state_TL[accepted_TL & final_TL] = State.SETTLED
    state_TL[revoked_TL] = State.REVOKED
    state_TL[changed_TL & earlier_TL] = State.REVISED
    state_TL[:, ~content_L] = State.AFTER_EOS
    return state_TL


@dataclass(frozen=True, slots=True)
class SampleCanvas:
    """One traced canvas.

    Attributes:
        state_TL, accepted_TL, entropy_TL: per step and position; entropy in nat.
        argmax_TL: token ids; `text_TL` the same as text.
        first_position: position of column 0, more than 0 when a long canvas was cropped.
    """

    point_id: str
    request_id: str
    canvas_index: int
    task: str
    state_TL: np.ndarray
    accepted_TL: np.ndarray
    entropy_TL: np.ndarray
    argmax_TL: np.ndarray
    text_TL: np.ndarray
    canvas_length: int
    first_position: int = 0

    @property
    def steps(self) -> int:
        return int(self.state_TL.shape[0])

    @property
    def revisions(self) -> int:
        return int((self.state_TL == State.REVISED).sum())

    @property
    def revocations(self) -> int:
        return int((self.state_TL == State.REVOKED).sum())

    @property
    def settled_at(self) -> int:
        """First step (from 1) from which the delivered text no longer changes."""
        content_L = self.state_TL[-1] != State.AFTER_EOS
        changed_T = (self.argmax_TL != self.argmax_TL[-1])[:, content_L].any(axis=1)
        return int(np.flatnonzero(changed_T)[-1]) + 2 if changed_T.any() else 1

    def finding(self, task: str) -> str:
        """What happened on this canvas in a sentence without its full stop; `task` as shown."""
        return (
            f"One canvas of {task}: accepted tokens were revised {plural(self.revisions, 'time')} "
            f"and revoked {plural(self.revocations, 'time')} before the text settled at step "
            f"{self.settled_at} of {self.steps}"
        )

    def cropped(self, width: int) -> "SampleCanvas":
        """The `width` neighbouring positions with most revisions and revocations."""
        if self.state_TL.shape[1] <= width:
            return self
        eventful_L = np.isin(self.state_TL, (State.REVISED, State.REVOKED)).sum(axis=0)
        start = int(np.convolve(eventful_L, np.ones(width), mode="valid").argmax())
        part = np.s_[:, start : start + width]
        return SampleCanvas(
            self.point_id,
            self.request_id,
            self.canvas_index,
            self.task,
            self.state_TL[part],
            self.accepted_TL[part],
            self.entropy_TL[part],
            self.argmax_TL[part],
            self.text_TL[part],
            self.canvas_length,
            self.first_position + start,
        )


def traced_canvases(positions: pd.DataFrame) -> list[SampleCanvas]:
    """Every canvas of a `positions` table, by point, request and place in the request."""
    if positions.empty or any(c not in positions.columns for c in ("point_id", *_NEEDED)):
        return []
    keys = ["point_id", "request_id", "canvas_index"]
    return [_sample(group) for _, group in positions.groupby(keys, sort=True)]


def most_telling(canvases: Sequence[SampleCanvas]) -> SampleCanvas | None:
    """The canvas with most revisions after acceptance, else the one with most steps."""
    # max keeps the first of equals, so the choice does not depend on row order.
    return max(canvases, key=lambda canvas: (canvas.revisions, canvas.steps), default=None)


def _sample(group: pd.DataFrame) -> SampleCanvas:
    grid = group.set_index(["step", "position"]).sort_index()
    shape = (group["step"].nunique(), group["position"].nunique())
    if len(grid) != shape[0] * shape[1]:  # a torn trace: keep the steps that are whole
        whole = grid.groupby(level="step").size()
        grid = grid.loc[whole[whole == shape[1]].index]
        shape = (len(grid) // shape[1], shape[1])

    def array(name: str) -> np.ndarray:
        return grid[name].to_numpy().reshape(shape)

    argmax_TL = array("argmax")
    accepted_TL = array("accepted").astype(bool)
    content_TL = array("content").astype(bool) if "content" in grid else np.ones(shape, dtype=bool)
    text_TL = array("argmax_text") if "argmax_text" in grid else argmax_TL.astype(str)
    first = group.iloc[0]
    return SampleCanvas(
        point_id=str(first["point_id"]),
        request_id=str(first["request_id"]),
        canvas_index=int(first["canvas_index"]),
        task=str(first.get("task", "")),
        state_TL=classify(accepted_TL, argmax_TL, content_TL[-1]),
        accepted_TL=accepted_TL,
        entropy_TL=array("entropy_nat").astype(float),
        argmax_TL=argmax_TL,
        text_TL=text_TL.astype(str),
        canvas_length=shape[1],
    )
