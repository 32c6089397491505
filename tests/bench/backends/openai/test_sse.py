"""The reader of server-sent events: the same events however the bytes are cut."""

import json
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.backends.openai.sse import Event, SseReader, TooLongLineError

STREAM = (
    b"\xef\xbb\xbfdata: begins with a byte order mark\n\n"
    b": a comment\r\n"
    b'data: {"text": "caf\xc3\xa9 \xf0\x9f\x90\x88"}\n\n'
    b"event: error\rdata: one\rdata:two\r\r"
    b"retry: 3\r\nid: 7\r\n\r\n"
    b"data\n\n"
    b"data: [DONE]\n\n"
    b"data: never ended\n"
)
EVENTS = [
    Event("message", b"begins with a byte order mark"),
    Event("message", '{"text": "café 🐈"}'.encode()),
    Event("error", b"one\ntwo"),
    Event("message", b""),
    Event("message", b"[DONE]"),
]


def read(pieces: list[bytes]) -> tuple[list[Event], SseReader]:
    reader = SseReader()
    return [event for piece in pieces for event in reader.feed(piece)], reader


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_cuts_do_not_matter(size: int) -> None:
    found, reader = read([STREAM[i : i + size] for i in range(0, len(STREAM), size)])
    assert found == EVENTS
    assert reader.pending


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_cuts_do_not_matter(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(places)]
    assert read(pieces)[0] == EVENTS


def test_half_a_character_waits_for_its_other_half() -> None:
    whole = 'data: {"text": "é"}\n\n'.encode()
    middle = whole.index(b"\xc3") + 1
    reader = SseReader()
    assert reader.feed(whole[:middle]) == []
    (event,) = reader.feed(whole[middle:])
    assert json.loads(event.data) == {"text": "é"}
    assert not reader.pending


def test_a_line_break_in_two_halves_is_one() -> None:
    found, _ = read([b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n"])
    assert found == [Event("message", b"a\nb")]


@pytest.mark.parametrize(
    "pieces",
    [
        [b"data: " + b"x" * 2000],
        [b"data: " + b"x" * 600, b"x" * 600],
        [b"data: " + b"x" * 2000 + b"\n\n"],
        [b"data: " + b"x" * 90 + b"\n"] * 20,
    ],
    ids=["unended", "in pieces", "ended", "many lines"],
)
def test_too_much_in_one_event_is_refused(pieces: list[bytes]) -> None:
    reader = SseReader(max_event_bytes=1000)
    for piece in pieces[:-1]:
        with suppress(TooLongLineError):
            reader.feed(piece)
    with pytest.raises(TooLongLineError, match="1,000 bytes"):
        reader.feed(pieces[-1])


def test_many_events_are_not_too_long() -> None:
    reader = SseReader(max_event_bytes=1000)
    assert len(reader.feed((b"data: " + b"x" * 500 + b"\n\n") * 50)) == 50
