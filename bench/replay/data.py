"""What of a run is played back: traced canvases, their clock, the sibling's answer.

Legend: T steps of a canvas.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bench.report.states import SampleCanvas, most_telling
from bench.report.view import Point, View


@dataclass(frozen=True, slots=True)
class Clock:
    """When each denoise step ended [T], by canvas index, seconds since the request began.

    `unknown` says why there is nothing; "" where there is.
    """

    step_end_s: Mapping[int, np.ndarray]
    unknown: str


@dataclass(frozen=True, slots=True)
class Sibling:
    """The same prompt answered autoregressively at another point of the run.

    Attributes:
        token_end_s: when each delivered token was in hand, seconds since the request began; None
            where the run does not tell.
    """

    point: Point
    text: str
    correct: bool | None
    delivered_tokens: int
    token_end_s: np.ndarray | None
    wall_s: float | None


@dataclass(frozen=True, slots=True)
class Generation:
    """One answered prompt of a diffusion point; None is what the run does not tell.

    Attributes:
        canvases: the traced ones, in order; the answer took `num_canvases`.
        tokens_before: content tokens of all canvases before one, by its index.
        conditioned: whether the sampler feeds its beliefs back into the next step.
        other_conditioning: the point whose configuration differs in that alone.
    """

    point: Point
    request_id: str
    task: str
    prompt: str | None
    text: str | None
    answer: str | None
    correct: bool | None
    delivered_tokens: int | None
    num_canvases: int | None
    wall_s: float | None
    canvases: tuple[SampleCanvas, ...]
    tokens_before: Mapping[int, int]
    clock: Clock
    sibling: Sibling | None
    conditioned: bool | None
    other_conditioning: str | None

    @property
    def num_cells(self) -> int:
        return sum(canvas.state_TL.size for canvas in self.canvases)


@dataclass(frozen=True, slots=True)
class Replay:
    """What of a run is shown.

    Attributes:
        first: the canvas to begin with, the one with most revisions.
        left_out: generations that could be shown as well and are not.
    """

    view: View
    generations: tuple[Generation, ...]
    first: SampleCanvas
    left_out: int = 0

    def only(self, request_id: int) -> "Replay":
        """The generations of one request.

        Raises:
            ValueError: no canvas of it was traced; the valid ones are named.
        """
        kept = tuple(g for g in self.generations if g.request_id == str(request_id))
        if not kept:
            valid = ", ".join(self.request_ids)
            raise ValueError(f"request {request_id} has no traced canvas; valid: {valid}")
        return replace(self, generations=kept, first=begin_with(kept))

    def at_most(self, num_cells: int) -> "Replay":
        """The most telling generations within so many (step, position) cells; one at least."""
        kept: set[tuple[str, str]] = set()
        cells = 0
        told = sorted(self.generations, key=lambda g: -max(c.revisions for c in g.canvases))
        for generation in told:
            cells += generation.num_cells
            if kept and cells > num_cells:
                break
            kept.add((generation.point.point_id, generation.request_id))
        shown = [g for g in self.generations if (g.point.point_id, g.request_id) in kept]
        left_out = len(self.generations) - len(shown)
        return replace(self, generations=tuple(shown), left_out=left_out)

    @property
    def request_ids(self) -> list[str]:
        return sorted({g.request_id for g in self.generations}, key=int)


def begin_with(generations: Iterable[Generation]) -> SampleCanvas:
    """The canvas with most revisions among all of them."""
    found = most_telling([canvas for g in generations for canvas in g.canvases])
    assert found is not None
    return found
