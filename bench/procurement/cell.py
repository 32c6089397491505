"""A number with its interval, its class and its source: what the tables of a report are made of.

A number made of others is of the weakest class among them.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from bench.procurement.laws import Law


class NumberClass(StrEnum):
    """How a number is known, strongest first."""

    MEASURED = "measured"
    PUBLISHED = "published"
    PROJECTED = "projected"
    ASSUMED = "assumed"


_ORDER = tuple(NumberClass)


def weakest(classes: Iterable[NumberClass]) -> NumberClass:
    """The class of a number made of numbers of these classes; at least one is needed."""
    return max(classes, key=_ORDER.index)


@dataclass(frozen=True, slots=True)
class Cell:
    """One number of a table.

    Attributes:
        value: None is unknown; `why_unknown` then says why.
        low, high: the 95 % interval, of an input the limits that were stated; None without.
        kind: the class of the weakest number that went into it.
        definition: what is counted, in one phrase.
        source: where a published or assumed number stands.
        why_no_interval: why nothing is known of a value's spread; empty for an exact number.
        law: how the number is drawn; None: by `low` and `high`, or exact without them.
    """

    value: float | None
    low: float | None
    high: float | None
    kind: NumberClass
    unit: str
    definition: str
    source: str = ""
    why_unknown: str = ""
    why_no_interval: str = ""
    law: Law | None = field(default=None, repr=False, compare=False)
