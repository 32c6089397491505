"""ABBA blocks: four places, two pairs of neighbours; drift cancels within a block.

A place is a process. Which of a pair comes first is its place; where the two take turns, it is who
begins (`bench.ab.process`).
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

PLACES = 4
PAIRS = 2
MAX_PAIRS = 40
"""Of the sequential rule's last look: the most processes that an arm gets."""


@dataclass(frozen=True, slots=True)
class Place:
    """A place of a block.

    Attributes:
        block, place: from 0.
        is_candidate: whose process is measured here.
    """

    block: int
    place: int
    is_candidate: bool

    @property
    def pair(self) -> int:
        """From 0, over all blocks; also the process's number in its arm's run."""
        return PAIRS * self.block + self.place // 2


def block_orders(seed: int) -> Iterator[tuple[Place, ...]]:
    """Blocks without end, each ABBA or BAAB at random (B is the candidate)."""
    rng, block = random.Random(seed), 0
    while True:
        first = rng.random() < 0.5
        order = (first, not first, not first, first)
        yield tuple(Place(block, place, arm) for place, arm in enumerate(order))
        block += 1
