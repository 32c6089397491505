"""A YAML file read key by key: every mistake is one line with the path of its key."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.procurement.cell import Cell, NumberClass
from bench.procurement.laws import Law, Triangular, Uniform
from bench.report.cells import visible

_LIMITS = ("low", "mode", "high")
_WORDS = ("class", "source")
_LARGEST = 1e12
"""Of any number: what is beyond is a slip of the pen."""


@dataclass(frozen=True, slots=True)
class Rule:
    """What a number must be; `words` say it."""

    holds: Callable[[float], bool]
    words: str


ABOVE_ZERO = Rule(lambda value: value > 0, "above 0")
NOT_NEGATIVE = Rule(lambda value: value >= 0, "0 or more")
SHARE = Rule(lambda value: 0 < value <= 1, "above 0 and at most 1")
AT_LEAST_ONE = Rule(lambda value: value >= 1, "1 or more")


@dataclass(frozen=True, slots=True)
class Entries:
    """A mapping of the file, and the path of keys that leads to it."""

    where: str
    path: str
    given: Mapping[str, Any]

    @classmethod
    def of(cls, where: str, path: str, given: object, valid: Sequence[str] | None) -> "Entries":
        """The mapping at `path`.

        Args:
            valid: its keys; None where they are names of the user's own.

        Raises:
            ValueError: no mapping of names, or a key that is none of `valid`.
        """
        place = f"{where}: {path}" if path else where
        if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
            raise ValueError(f"{place} is {given!r}; it must be a mapping of names")
        found = cls(where, path, given)
        for key in given:
            if valid is not None and key not in valid:
                raise ValueError(f"{found.at(key)} is unknown; valid: {', '.join(valid)}")
        return found

    def at(self, key: str) -> str:
        """How a message names a key."""
        return f"{self.where}: {self.key(key)}"

    def key(self, key: str) -> str:
        """The full path of a key, which also names its stream of draws."""
        return f"{self.path}.{key}" if self.path else key

    def inner(self, key: str, valid: Sequence[str] | None) -> "Entries | None":
        """The mapping below a key, None where the key is missing."""
        if self.given.get(key) is None:
            return None
        return Entries.of(self.where, self.key(key), self.given[key], valid)

    def text(self, key: str, default: str = "") -> str:
        """Text of which every character shows: none moves a terminal's or a reader's eye."""
        found = self.given.get(key, default)
        if not isinstance(found, str):
            raise ValueError(f"{self.at(key)} is {found!r}; it must be text")
        return visible(found, keep=" ")

    def flag(self, key: str) -> bool:
        """False where it is missing."""
        found = self.given.get(key, False)
        if not isinstance(found, bool):
            raise ValueError(f"{self.at(key)} is {found!r}; valid: true, false")
        return found

    def plain(self, key: str, rule: Rule) -> float | None:
        """A number without a range; None where it is missing."""
        given = self.given.get(key)
        return None if given is None else self._value(self.at(key), given, rule)

    def number(self, key: str, rule: Rule, *, unit: str, definition: str) -> Cell | None:
        """A number, or a range of it, with its class; None where it is missing.

        Raises:
            ValueError: no number, out of its rule, limits in the wrong order, an unknown class.
        """
        given = self.given.get(key)
        if given is None:
            return None
        if not isinstance(given, dict):
            value = self._value(self.at(key), given, rule)
            return Cell(value, None, None, NumberClass.ASSUMED, unit, definition)
        parts = Entries.of(self.where, self.key(key), given, ("value", *_LIMITS, *_WORDS))
        value, low, high, law = parts._values(rule)
        kind, source = parts._standing()
        return Cell(value, low, high, kind, unit, definition, source, law=law)

    def required(self, key: str, rule: Rule, *, unit: str, definition: str, why: str) -> Cell:
        """As `number`, for one that must be there.

        Raises:
            ValueError: also where it is missing; `why` says what for it is needed.
        """
        found = self.number(key, rule, unit=unit, definition=definition)
        if found is None:
            raise ValueError(f"{self.at(key)} is missing; {why}")
        return found

    def _values(self, rule: Rule) -> tuple[float, float | None, float | None, Law | None]:
        stated = [name for name in ("value", *_LIMITS) if name in self.given]
        numbers = {name: self._value(self.at(name), self.given[name], rule) for name in stated}
        law: Law | None
        match stated:
            case ["value"]:
                return numbers["value"], None, None, None
            case ["low", "high"]:
                low, high = numbers["low"], numbers["high"]
                mode, law = (low + high) / 2, Uniform(low, high) if low < high else None
            case ["low", "mode", "high"]:
                low, mode, high = (numbers[name] for name in _LIMITS)
                law = Triangular(low, mode, high) if low < high else None
            case _:
                raise ValueError(
                    f"{self.where}: {self.path} has {', '.join(stated) or 'no number'}; valid: a"
                    " number, {value: X}, {low: X, high: Y} or {low: X, mode: Y, high: Z}"
                )
        if not low <= mode <= high:
            raise ValueError(
                f"{self.where}: {self.path} has low {low:g}, mode {mode:g}, high {high:g}; they"
                " must not fall"
            )
        return mode, low, high, law

    def _standing(self) -> tuple[NumberClass, str]:
        named, source = self.given.get("class", NumberClass.ASSUMED.value), self.text("source")
        if named not in list(NumberClass):
            valid = ", ".join(NumberClass)
            raise ValueError(f"{self.at('class')} is {named!r}; valid: {valid}")
        kind = NumberClass(named)
        if kind is not NumberClass.ASSUMED and not source:
            raise ValueError(f"{self.at('source')} is missing; a {kind} number needs its source")
        return kind, source

    @staticmethod
    def _value(place: str, given: object, rule: Rule) -> float:
        is_number = isinstance(given, int | float) and not isinstance(given, bool)
        if not is_number or not abs(float(given)) < float("inf"):  # type: ignore[arg-type]
            raise ValueError(f"{place} is {given!r}; it must be a number {rule.words}")
        value = float(given)  # type: ignore[arg-type]
        if value > _LARGEST:
            raise ValueError(f"{place} is {value:g}; it must be at most {_LARGEST:g}")
        if not rule.holds(value):
            raise ValueError(f"{place} is {value:g}; it must be {rule.words}")
        return value
