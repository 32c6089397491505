"""A canvas's trace made up from its counts: which position did what at which step.

A run keeps counts of every canvas but positions of a few. The positions made here have exactly the
recorded accepted, revoked and flipped positions of every step, and as nearly as a search finds, in
practice exactly, the canvas's other counts. Which position it was, and what the tokens on the way
were, is invented. Same arguments, same trace.

A position's history is two bit masks over the steps: where it is accepted (bit t) and where its
argmax differs from the step before. Moves that exchange histories between two positions leave every
step's counts alone, so the search only has to mend the canvas's.

Legend: T steps, P content positions, L canvas positions.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from bench.backends.simulated.recording import RecordedCanvas

_MOVES_A_POSITION = 500


@dataclass(frozen=True, slots=True)
class CanvasCounts:
    """Counts over content positions, named and defined like the columns of `steps` and `canvases`.

    Attributes:
        accepted, revoked, flips: one a step; nothing is revoked or flipped at the first.
    """

    accepted: Sequence[int]
    revoked: Sequence[int]
    flips: Sequence[int]
    never_accepted: int = 0
    flips_after_accept: int = 0
    direct_edits: int = 0
    revoke_rewrites: int = 0
    returns: int = 0


@dataclass(frozen=True, slots=True)
class _Position:
    """One position's history; `again` is the run of its argmax that has the final token already."""

    accepted: int = 0
    flips: int = 0
    again: int | None = None

    def runs_until(self, step: int) -> int:
        """Flips up to and including a step: the index of the run it belongs to."""
        return (self.flips & ((2 << step) - 1)).bit_count()

    def counts(self) -> tuple[int, int, int, int, int]:
        """(never accepted, flips after acceptance, direct edit, revoke-rewrite, return)."""
        num_flips = self.flips.bit_count()
        again = self.again if self.again is not None and self.again <= num_flips - 2 else None
        returns = int(again is not None)
        if not self.accepted:
            return 1, 0, 0, 0, returns
        tau = _lowest(self.accepted)
        after = self.flips >> (tau + 1)
        if not after or self.runs_until(tau) == again:  # final when accepted, or final again
            return 0, after.bit_count(), 0, 0, returns
        held = (2 << (_lowest(after) + 1)) - 1  # from tau until the argmax first left
        direct = (self.accepted >> tau) & held == held
        return 0, after.bit_count(), int(direct), int(not direct), returns

    def tokens(self, final: int, num_steps: int, wrong: Callable[[int], int]) -> list[int]:
        """The argmax of every step: another wrong token every run until the final one."""
        num_flips = self.flips.bit_count()
        again = self.again if self.again is not None and self.again <= num_flips - 2 else None
        runs = [wrong(run) for run in range(num_flips)] + [final]
        if again is not None:
            runs[again] = final
        return [runs[self.runs_until(step)] for step in range(num_steps)]


def make_canvas(
    counts: CanvasCounts,
    slots: Sequence[int],
    content: int,
    *,
    stop_reason: str,
    accepted_slots: np.ndarray,
    mean_entropy_nat: np.ndarray,
    wrong: Callable[[int], int],
    seed: str,
) -> RecordedCanvas:
    """A canvas that ends as `slots`, of which the first `content` are content positions.

    Args:
        accepted_slots: accepted positions of the whole canvas, [T].
        wrong: gives token ids that are in no right answer.
    """
    positions = _search(counts, content, random.Random(seed))
    num_steps, length = len(counts.accepted), len(slots)
    argmax = np.empty((num_steps, length), dtype=np.int32)
    argmax[:] = slots
    accepted = np.zeros((num_steps, length), dtype=bool)
    for i, position in enumerate(positions):
        argmax[:, i] = position.tokens(slots[i], num_steps, wrong)
        accepted[:, i] = [position.accepted >> t & 1 for t in range(num_steps)]
    outside = accepted_slots - accepted.sum(axis=1)
    accepted[:, content:] = np.arange(length - content) < outside[:, None]
    return RecordedCanvas(
        stop_reason=stop_reason,
        accepted_slots=accepted_slots,
        mean_entropy_nat=mean_entropy_nat,
        candidate=argmax,
        accepted=accepted,
        argmax=argmax,
        entropy_nat=np.broadcast_to(mean_entropy_nat[:, None], argmax.shape),
    )


def plain_counts(num_steps: int, content: int, num_revised: int = 0) -> CanvasCounts:
    """A canvas that accepts evenly, is settled a step before its last, and revokes nothing.

    Args:
        num_revised: positions that the last step still edits, after their acceptance; none where
            there is a single step.
    """
    usable = max(1, num_steps - 1)
    accepted = [-(-content * min(t, usable) // usable) for t in range(1, num_steps + 1)]
    flips = [0, *(now - before for before, now in pairwise(accepted))]
    revised = num_revised if num_steps > 1 else 0
    if num_steps > 1:
        flips[-1] += revised
    return CanvasCounts(
        accepted=accepted,
        revoked=[0] * num_steps,
        flips=flips,
        flips_after_accept=revised,
        direct_edits=revised,
    )


def _search(counts: CanvasCounts, content: int, rng: random.Random) -> list[_Position]:
    """Positions with the counts of every step, moved until the canvas's counts fit too."""
    positions = _start(counts, content, rng)
    target = (
        counts.never_accepted,
        counts.flips_after_accept,
        counts.direct_edits,
        counts.revoke_rewrites,
        counts.returns,
    )
    missing = [want - have for want, have in zip(target, _total(positions), strict=True)]
    for _ in range(_MOVES_A_POSITION * content if content > 1 else 0):
        if not any(missing):
            break
        chosen = rng.sample(range(content), 2)
        old = positions[chosen[0]], positions[chosen[1]]
        new = _exchanged(*old, num_steps=len(counts.accepted), rng=rng)
        change = zip(missing, _total(old), _total(new), strict=True)
        now = [miss + before - after for miss, before, after in change]
        if sum(map(abs, now)) <= sum(map(abs, missing)):
            missing = now
            for i, position in zip(chosen, new, strict=True):
                positions[i] = position
    return positions


def _start(counts: CanvasCounts, content: int, rng: random.Random) -> list[_Position]:
    """First acceptances as early as the counts allow, and text that settles as it is accepted."""
    accepted, flips = [0] * content, [0] * content
    never = [*range(content)[-1:], *range(content)[:-1]]  # the end of the content comes first
    num_first = content - counts.never_accepted
    held: list[int] = []
    revoked: list[int] = []
    for step, (number, lost) in enumerate(zip(counts.accepted, counts.revoked, strict=True)):
        rng.shuffle(held)
        gone, held = held[:lost], held[lost:]
        new = number - len(held)
        first = min(new, num_first)
        num_first -= first
        fresh, never = never[:first], never[first:]
        held += fresh + revoked[: new - first]
        revoked = revoked[new - first :] + gone
        for i in held:
            accepted[i] |= 1 << step
        others = [i for i in range(content) if i not in fresh and i not in never]
        others = rng.sample(others, len(others))
        for i in [*fresh, *reversed(never), *others][: counts.flips[step]]:
            flips[i] |= 1 << step
    return [_Position(*history) for history in zip(accepted, flips, strict=True)]


def _exchanged(
    one: _Position, two: _Position, *, num_steps: int, rng: random.Random
) -> tuple[_Position, _Position]:
    """Two positions after a random exchange that leaves the counts of every step alone."""
    step = rng.randrange(num_steps)
    kind = rng.randrange(3)
    if kind == 0:  # one step's flip
        swapped = (one.flips ^ two.flips) & 1 << step
        return (
            replace(one, flips=one.flips ^ swapped),
            replace(two, flips=two.flips ^ swapped),
        )
    if kind == 1:  # acceptance from a step on that both enter alike
        differ = one.accepted ^ two.accepted
        swapped = differ >> step << step if not differ << 1 >> step & 1 else 0
        return (
            replace(one, accepted=one.accepted ^ swapped),
            replace(two, accepted=two.accepted ^ swapped),
        )
    num_flips = one.flips.bit_count()  # which run has the final token already
    return replace(one, again=rng.choice([None, *range(num_flips - 1)])), two


def _total(positions: Sequence[_Position]) -> list[int]:
    return [sum(column) for column in zip(*(p.counts() for p in positions), strict=True)]


def _lowest(bits: int) -> int:
    """Index of the lowest set bit."""
    return (bits & -bits).bit_length() - 1
