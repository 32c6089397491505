"""Servers that misbehave: each request fails for the right reason within its deadline."""

import asyncio
import json
import socket
import time

import pytest

from bench.backends.openai.client import Client
from bench.backends.openai.events import Ask
from bench.backends.openai.request import Endpoint, RequestKnobs
from tests.bench.backends.openai.asking import KNOBS, SHORT, ask_all, ask_one, reason
from tests.bench.backends.openai.scripted_server import (
    DONE,
    END,
    OK,
    Script,
    chunk,
    event,
    refuses,
    resets_after,
    sends,
    sends_raw,
    stalls_after,
    text_event,
    trickles,
)

GOOD = sends(text_event("four", usage=1), text_event("", finish="stop", usage=2), DONE)
CANVAS = text_event("a canvas of words", usage=32)
SLOWEST_S = 6.0
"""Deadlines here end within 1.6 s; the rest is for a busy machine."""

BAD: dict[str, tuple[Script, str]] = {
    "never answers": (stalls_after(), "no_first_byte"),
    "headers, then nothing": (stalls_after(OK), "no_first_byte"),
    "slow-loris header": (
        trickles(b"HTTP/1.1 200 OK\r\n", [b"x-a: b\r\n"] * 300, 0.02),
        "no_first_byte",
    ),
    "a canvas, then nothing": (stalls_after(OK, chunk(CANVAS)), "stalled"),
    "half an event, then nothing": (stalls_after(OK, chunk(CANVAS[:20])), "stalled"),
    "comments for ever": (trickles(OK, [chunk(b": ping\n\n")] * 300, 0.02), "too_slow"),
    "reset before headers": (resets_after(b""), "disconnected"),
    "closed before headers": (sends_raw(), "disconnected"),
    "reset mid-chunk": (resets_after(OK, chunk(CANVAS), chunk(CANVAS)[:30]), "reset"),
    "closed mid-chunk": (sends_raw(OK, chunk(CANVAS), chunk(CANVAS)[:30]), "reset"),
    "no HTTP": (sends_raw(b"hello\r\n\r\n"), "protocol_error"),
    "a chunk of no length": (sends_raw(OK, b"zz\r\n" + CANVAS), "protocol_error"),
    "[DONE] alone": (sends(DONE), "no_finish_reason"),
    "[DONE] without a finish": (sends(CANVAS, DONE), "no_finish_reason"),
    "clean end without a finish": (sends(CANVAS), "no_finish_reason"),
    "clean end within an event": (sends(CANVAS, CANVAS[:40]), "no_finish_reason"),
    "usage without a finish": (
        sends(CANVAS, event({"choices": [], "usage": {"completion_tokens": 32}}), DONE),
        "no_finish_reason",
    ),
    "error event after the finish": (
        sends(text_event("x", finish="stop"), event({"error": {"message": "late"}}), DONE),
        "in_band_error",
    ),
    "error as a text": (sends(event({"error": "no"}), DONE), "in_band_error"),
    "error by its event's name": (
        sends(b'event: error\ndata: {"message": "no"}\n\n'),
        "in_band_error",
    ),
    "error beside choices": (
        sends(event({"choices": [], "error": {"message": "no"}})),
        "in_band_error",
    ),
    "no JSON": (sends(b"data: {nothing\n\n"), "malformed_event"),
    "no object": (sends(b"data: [1]\n\n"), "malformed_event"),
    "choices of another kind": (sends(event({"choices": "one"})), "malformed_event"),
    "text of another kind": (sends(event({"choices": [{"text": 7}]})), "malformed_event"),
    "usage of another kind": (sends(event({"usage": 7})), "malformed_event"),
    "no UTF-8": (sends(b'data: {"choices": [{"text": "\xff"}]}\n\n'), "malformed_event"),
    "nested deeply": (sends(b"data: " + b"[" * 200_000 + b"\n\n"), "malformed_event"),
    "abort": (sends(CANVAS, text_event("", finish="abort"), DONE), "finish_abort"),
    "a finish of no word": (sends(text_event("", finish="<b>" * 99)), "finish_unknown"),
    "bad request": (refuses("400 Bad Request", b'{"error":{"message":"no seed"}}'), "http_400"),
    "too many": (refuses("429 Too Many Requests", b'{"detail":"wait"}'), "http_429"),
    "server error": (refuses("500 Internal Server Error", b"oops", "a: b"), "http_500"),
    "unavailable": (refuses("503 Service Unavailable", b""), "http_503"),
    "a refusal that stalls": (
        stalls_after(b"HTTP/1.1 500 No\r\ncontent-length: 9\r\n\r\nhalf"),
        "http_500",
    ),
    "a page": (refuses("200 OK", b"<html>", "content-type: text/html"), "not_a_stream"),
    "compressed": (
        refuses("200 OK", b"x", "content-type: text/event-stream\r\ncontent-encoding: gzip"),
        "encoded",
    ),
    "a header without end": (
        sends_raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000),
        "protocol_error",
    ),
    "too long a line": (sends(*[b"data: " + b"x" * 400_000] * 3), "too_long_line"),
}


def test_each_fails_for_its_reason_and_the_others_go_on() -> None:
    """All of them at once, with good requests in between, over 8 connections."""
    prompts = [prompt for name in BAD for prompt in (name, "good")]
    scripts = {name: script for name, (script, _) in BAD.items()} | {"good": GOOD}
    answers, _ = ask_all(
        scripts, prompts, deadlines=SHORT, connections=8, max_event_bytes=1_000_000
    )
    found = {prompts[a.request_id]: reason(a) for a in answers if a.request_id % 2 == 0}
    assert found == {name: expected for name, (_, expected) in BAD.items()}
    good = [answer for answer in answers if answer.request_id % 2]
    assert [(reason(answer), answer.text) for answer in good] == [(None, "four")] * len(BAD)
    assert max(answer.ended_s for answer in answers) < SLOWEST_S


def test_what_came_before_a_failure_is_kept() -> None:
    answer = ask_one(BAD["reset mid-chunk"][0])
    assert answer.text == "a canvas of words"
    assert len(answer.chunks) == 1


def test_ten_megabytes_in_one_line() -> None:
    """The limit as it is by itself; no more than one event is held."""
    answer = ask_one(sends(*[b"data: " + b"x" * 1_000_000] * 11))
    assert reason(answer) == "too_long_line"


def test_a_cut_behind_the_finish_reason_takes_nothing() -> None:
    finish = chunk(text_event("four", finish="length"))
    for script in (sends_raw(OK, finish), resets_after(OK, finish), stalls_after(OK, finish)):
        answer = ask_one(script, deadlines=SHORT)
        assert (reason(answer), answer.text, answer.finish_reason) == (None, "four", "length")


def test_half_a_character_in_each_of_two_chunks() -> None:
    told = text_event("naïve 🐈", finish="stop")
    for cut in range(1, len(told)):
        if told[cut] & 0xC0 == 0x80:  # within a character
            answer = ask_one(sends_raw(OK, chunk(told[:cut]), chunk(told[cut:]), END))
            assert (reason(answer), answer.text) == (None, "naïve 🐈")


def test_several_events_in_one_read_and_one_event_in_several() -> None:
    told = text_event("a", usage=32) + text_event("b", usage=64) + text_event("c", finish="length")
    whole = ask_one(sends(told))
    single = ask_one(sends_raw(OK, *(chunk(bytes([byte])) for byte in told), END))
    for answer in (whole, single):
        assert (reason(answer), answer.text) == (None, "abc")
        assert [c.running for c in answer.chunks] == [32, 64, None]


def test_what_comes_in_one_read_has_its_one_time() -> None:
    """Headers and two canvases: whatever is done with the first does not make the second late."""
    told = text_event("a", usage=32) + text_event("b", finish="length", usage=64)
    answer = ask_one(sends_raw(OK + chunk(told[:9]) + chunk(told[9:]) + END))
    assert {chunk.at_s for chunk in answer.chunks} == {answer.opened_s}


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # a port that nobody else gets and nobody listens at
        port = taken.getsockname()[1]

        async def run() -> None:
            async with Client(f"http://127.0.0.1:{port}", KNOBS, deadlines=SHORT) as client:
                answer = await client.ask(Ask(0, "hi", 4))
            assert reason(answer) == "connect_refused"

        asyncio.run(run())


def test_a_connection_that_is_never_made() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:  # fills the queue of those who wait
            each.setblocking(False)
            each.connect_ex(address)

        async def run() -> None:
            url = f"http://127.0.0.1:{address[1]}"
            begin = time.perf_counter()
            async with Client(url, KNOBS, deadlines=SHORT) as client:
                answer = await client.ask(Ask(0, "hi", 4))
            assert reason(answer) in ("connect_timeout", "no_first_byte")
            assert time.perf_counter() - begin < SLOWEST_S

        asyncio.run(run())
        for each in waiting:
            each.close()


@pytest.mark.parametrize("keep_alive", [True, False])
def test_a_connection_that_was_closed_while_idle_is_no_failure(keep_alive: bool) -> None:
    """A server that closes after every answer without saying so, and one that does not close."""
    answers, server = ask_all({"good": GOOD}, ["good"] * 5, keep_alive=keep_alive)
    assert [reason(answer) for answer in answers] == [None] * 5
    assert len(server.requests) == 5
    assert server.num_connections == (1 if keep_alive else 5)


def test_a_server_that_always_hangs_up_is_asked_once() -> None:
    answers, server = ask_all({"bad": sends_raw()}, ["bad"] * 3)
    assert [reason(answer) for answer in answers] == ["disconnected"] * 3
    assert len(server.requests) == 3


def test_the_body_is_what_every_server_takes() -> None:
    _, server = ask_all({"hi": GOOD}, ["hi"], knobs=RequestKnobs(Endpoint.chat, "dg"))
    (request,) = server.requests
    assert request.line == "POST /v1/chat/completions HTTP/1.1"
    assert request.body == {
        "model": "dg",
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    more = RequestKnobs(
        Endpoint.completions,
        "dg",
        ignore_eos=True,
        running_usage=False,
        token_ids=True,
        temperature=0.0,
    )
    _, server = ask_all({"hi": GOOD}, ["hi"], knobs=more)
    assert server.requests[0].body == {
        "model": "dg",
        "prompt": "hi",
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True},
        "ignore_eos": True,
        "return_token_ids": True,
        "temperature": 0.0,
    }
    assert json.dumps(server.requests[0].body)
