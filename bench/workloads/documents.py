"""Synthetic documents of any length, of our own making: a ledger, letters, a station's log.

A document is a seeded stream of varied lines. Every eleventh notes the number on the tag of a key,
each time of another room, until there are no more rooms. One such note is what the document is
asked about, the others are there to be confused with it.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

VERSION = 1
"""Raised whenever the same seed would give another text."""

_NAMES = """
    Aldous Benna Corvin Delphine Edda Faro Greta Halvard Ines Jorun Kaspar Liesl Marten Noor Odile
    Piran Quirin Runa Stellan Tamsin Ulla Verena Wendel Ysolde Anselm Brida Cato Dorrit Emeric Fenna
""".split()
_FAMILIES = """
    Verrell Quill Marsh Ottoway Lindqvist Brandt Hollis Pereira Kessler Thorne Ruiz Vance Ashby
    Novak Calloway Denholm Fairweather Grieve Hartog Ives Jessop Kerr Lockwood Mercer Nyland Orme
""".split()
_TOWNS = """
    Averby Brackwater Coldharbour Dunmere Eastray Fellgate Grimsay Hollowmere Inchmoor Kelsey
    Larkfield Marrowby Northwick Oxley Pentire Ravensea Saltmarsh Thornby Underhill Wexcombe
""".split()
_ROOMS = [
    f"{side} {room}"
    for room in (
        "granary", "boathouse", "cellar", "chapel", "smithy", "loft", "dairy", "archive", "stable",
        "laundry", "workshop", "bakehouse", "infirmary", "armoury", "cooperage", "greenhouse",
    )
    for side in ("north", "south", "east", "west")
]  # fmt: skip
_MONTHS = """
    January February March April May June July August September October November December
""".split()
_NOTED_EVERY = 11


@dataclass(frozen=True, slots=True)
class Note:
    """A room's key and the number on its tag."""

    room: str
    number: int

    @property
    def sentence(self) -> str:
        return f"The tag on the key of the {self.room} bears the number {self.number}."


@dataclass(frozen=True, slots=True)
class Genre:
    """A kind of document.

    Attributes:
        opening: its first paragraph.
        line: a further line; takes the stream's random numbers and the line's number.
        noted: a line that carries a note's sentence.
    """

    opening: str
    line: Callable[[random.Random, int], str]
    noted: Callable[[random.Random, int, str], str]


def document_lines(genre: str, seed: str) -> tuple[Note, Iterator[str]]:
    """The note that is asked about, and the endless lines of a document that does not hold it."""
    chosen, rng = GENRES[genre], random.Random(f"document/{VERSION}/{genre}/{seed}")
    rooms = rng.sample(_ROOMS, len(_ROOMS))
    numbers = rng.sample(range(10_000, 100_000), len(rooms))
    notes = [Note(room, number) for room, number in zip(rooms, numbers, strict=True)]
    return notes[0], _lines(chosen, rng, notes[1:])


def needle_line(genre: str, seed: str, note: Note, number: int) -> str:
    """The line that holds the note asked about, as the document's line of that number."""
    rng = random.Random(f"needle/{VERSION}/{genre}/{seed}")
    return GENRES[genre].noted(rng, number, note.sentence)


def _lines(genre: Genre, rng: random.Random, notes: Sequence[Note]) -> Iterator[str]:
    left, number = list(notes), 0
    while True:
        if left and number % _NOTED_EVERY == 2:
            yield genre.noted(rng, number, left.pop().sentence)
        else:
            yield genre.line(rng, number)
        number += 1


def _person(rng: random.Random) -> str:
    return f"{rng.choice(_NAMES)} {rng.choice(_FAMILIES)}"


def _day(number: int) -> str:
    """A date that moves on by a day every third line."""
    month, day = divmod(number // 3, 28)
    return f"{day + 1} {_MONTHS[month % 12]} {1871 + month // 12}"


_GOODS = (
    ("cask", "lamp oil"), ("sack", "barley"), ("bolt", "grey cloth"), ("crate", "window glass"),
    ("barrel", "pitch"), ("bundle", "cane"), ("keg", "nails"), ("chest", "tea"), ("reel", "cord"),
    ("basket", "dried apples"), ("load", "slate"), ("jar", "honey"), ("stack", "oak boards"),
)  # fmt: skip
_REMARKS = (
    "Paid in full at the counter.", "To be settled by the end of the quarter.",
    "One was found damp and was set aside.", "Carried to the upper store by the two boys.",
    "The weight was taken twice and agreed.", "Half was sent on by the afternoon cart.",
    "The buyer asked for a receipt and was given one.", "Entered late, the clerk being ill.",
    "Exchanged against last month's delivery.", "The price was two shillings less than in spring.",
)  # fmt: skip


def _ledger_line(rng: random.Random, number: int) -> str:
    unit, goods = rng.choice(_GOODS)
    amount, pounds, shillings = rng.randint(2, 40), rng.randint(2, 60), rng.randint(2, 19)
    act, party = rng.choice((("Received of", "from"), ("Sold to", "of"), ("Delivered to", "of")))
    return (
        f"{_day(number)}. {act} {_person(rng)} {party} {rng.choice(_TOWNS)}, {amount} {unit}s of "
        f"{goods}, {pounds} pounds {shillings} shillings. {rng.choice(_REMARKS)}"
    )


def _ledger_note(rng: random.Random, number: int, sentence: str) -> str:
    return f"{_day(number)}. Keys looked over by {_person(rng)}. {sentence} Hung back on its hook."


_NEWS = (
    "the roof of the schoolhouse has been mended at last", "the river stands higher than in April",
    "the choir sang better than anybody had hoped", "the old mill was sold to a stranger",
    "nobody has yet found the brown mare", "the bread at the new bakery is very good",
    "the post came two days late again", "they mean to plant lime trees along the road",
    "the fair was rained out and moved to Sunday", "the doctor has bought himself a bicycle",
)  # fmt: skip
_FEELINGS = (
    "I must say it pleased me", "I was sorry to hear it", "Your aunt laughed when I told her",
    "We talked of nothing else all evening", "I would not have believed it in my youth",
    "You may make of that what you like", "I thought of you at once", "It will pass, I suppose",
)  # fmt: skip
_WISHES = (
    "Do write how the children are.", "Send word before you travel.", "Keep the stove lit.",
    "I enclose the pattern you asked for.", "Remember me to the neighbours.",
    "Tell me whether the parcel came.", "Do not let the hens into the garden.",
)  # fmt: skip


def _letter_line(rng: random.Random, number: int) -> str:
    return (
        f"{rng.choice(_TOWNS)}, {_day(number)}. Dear {rng.choice(_NAMES)}, {_person(rng)} came by "
        f"and says that {rng.choice(_NEWS)}. {rng.choice(_FEELINGS)}. {rng.choice(_WISHES)} "
        f"Yours, {rng.choice(_NAMES)}"
    )


def _letter_note(rng: random.Random, number: int, sentence: str) -> str:
    return (
        f"{rng.choice(_TOWNS)}, {_day(number)}. Dear {rng.choice(_NAMES)}, you wanted to know, so "
        f"I went and looked. {sentence} {rng.choice(_WISHES)} Yours, {rng.choice(_NAMES)}"
    )


_DEVICES = """
    barometer feed-pump beacon winch tide-gauge heater antenna generator compressor hatch-seal crane
""".split()
_STATES = (
    "within limits", "reset once, then steady", "noisy at high load", "replaced from spares",
    "reading drifts by two per cent", "left running overnight", "off for cleaning", "as yesterday",
)  # fmt: skip
_LEVELS = ("info", "info", "info", "notice", "warning")


def _clock(number: int) -> str:
    minutes = number * 7
    return f"day {minutes // 1440 + 1:03} {minutes // 60 % 24:02}:{minutes % 60:02}"


def _log_line(rng: random.Random, number: int) -> str:
    return (
        f"[{_clock(number)}] {rng.choice(_LEVELS)} {rng.choice(_DEVICES)}-{rng.randint(1, 9)}: "
        f"{rng.choice(_STATES)}; wind {rng.randint(0, 38)} m/s from {rng.randint(0, 35) * 10}, air "
        f"{rng.randint(-24, 19)} C, checked by {rng.choice(_FAMILIES)}"
    )


def _log_note(rng: random.Random, number: int, sentence: str) -> str:
    return f"[{_clock(number)}] notice inventory: {sentence} Signed {rng.choice(_FAMILIES)}"


GENRES = {
    "ledger": Genre(
        "What follows is the day-book of a trading house, copied as it stands.",
        _ledger_line,
        _ledger_note,
    ),
    "letters": Genre(
        "What follows is a collection of letters of one family, in the order they were found.",
        _letter_line,
        _letter_note,
    ),
    "log": Genre(
        "What follows is the log of a remote weather station, oldest entry first.",
        _log_line,
        _log_note,
    ),
}
