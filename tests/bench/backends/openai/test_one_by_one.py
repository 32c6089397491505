"""A server behind the backend protocol, through the harness's own timing of a request."""

import time
from dataclasses import replace
from typing import Any

import pytest

from bench.backends import Delivery
from bench.backends.openai.config import OpenAiConfig
from bench.backends.openai.one_by_one import UNSEEN, OneByOneSession, RequestFailedError
from bench.backends.openai.request import Endpoint
from bench.records import RequestRecord
from bench.requests import run_batch
from bench.workloads import Prompt
from model.tiny.tokenizer import build_tokenizer
from tests.bench.backends.openai.scripted_server import (
    END,
    OK,
    Script,
    Server,
    chunk,
    refuses,
    sends,
    sends_raw,
    text_event,
    trickles,
)
from tests.bench.backends.openai.test_session import running

PROMPT = Prompt(7, "sort", "sort dacb=", "abcd", "abcd".__eq__)


def session(server: Server, **knobs: Any) -> OneByOneSession:
    config = OpenAiConfig(**({"url": server.url, "served_model": "dg", "canvas_length": 8} | knobs))
    return OneByOneSession(config, max_new_tokens=16, tokenizer=build_tokenizer())


def asked(script: Script, **knobs: Any) -> tuple[RequestRecord, list[Delivery], Server]:
    """The harness's record of a request, and the events of the same request asked again."""
    with running({PROMPT.text: script}) as server, session(server, **knobs) as own:
        ids = own.encode(PROMPT.text)
        own.check([ids])
        (record,) = run_batch(own, [PROMPT], process_id=0, repeat=0)
        events = [e for e in own.answer([ids], [7]) if isinstance(e, Delivery)]
    return record, events, server


def test_who_answers() -> None:
    with running({}) as server, session(server) as own:
        identity = own.identity
        assert (identity.decoding, identity.canvas_length) == ("diffusion", 8)
        # What is served is the server's word; no hash of it is known.
        assert (identity.model, identity.weights_sha256) == ("dg", None)
        assert list(own.touched_experts([[1]], [0])) == []
    with running({}) as server, session(server, canvas_length=None) as own:
        assert own.identity.decoding == "autoregressive"


def test_a_request_with_an_end_in_its_second_canvas() -> None:
    """Counted by the server: 8 tokens, then 3 of which the EOS is hidden."""
    script = sends(text_event("abcd", usage=8), text_event("ef", finish="stop", usage=11))
    record, events, server = asked(script)
    assert (record.text, record.correct, record.finish_reason) == ("abcdef", False, "eos")
    assert record.delivered_tokens == 11
    assert [tokens for _, tokens in record.deliveries] == [8, 3]
    assert [request.body["messages"][0]["content"] for request in server.requests] == [
        PROMPT.text,
        PROMPT.text,
    ]
    rows = [event.rows[0] for event in events]
    assert [len(row.slots) for row in rows] == [8, 8]
    assert (rows[1].after_eos, rows[1].over_limit, rows[1].finish_reason) == (5, 0, "eos")
    assert rows[1].tokens.count(UNSEEN) + rows[0].tokens.count(UNSEEN) == 11 - 6


def test_the_servers_own_ids_are_taken() -> None:
    ids = build_tokenizer().encode("abcd", add_special_tokens=False).ids
    script = sends(text_event("abcd", finish="length", usage=4, token_ids=ids))
    record, events, _ = asked(script, token_ids=True)
    assert (record.correct, record.finish_reason, record.delivered_tokens) == (True, "length", 4)
    assert events[0].rows[0].tokens == ids


def test_times_are_those_of_arrival() -> None:
    """Canvases 0.1 s apart; the loop that tells of them runs when all have come."""
    pieces = [chunk(text_event("ab", usage=8)), chunk(text_event("cd", finish="length", usage=16))]
    record, _, _ = asked(trickles(OK, [*pieces, END], 0.1))
    (first_s, _), (last_s, _) = record.deliveries
    assert 0.09 < last_s - first_s < 0.5
    assert record.wall_s == last_s
    assert record.delivered_tokens == 16


def test_without_canvases_each_chunk_is_a_delivery() -> None:
    script = sends(
        *(text_event(c, usage=i + 1) for i, c in enumerate("abc")),
        text_event("d", finish="length", usage=4),
    )
    record, events, _ = asked(script, canvas_length=None)
    assert [tokens for _, tokens in record.deliveries] == [1, 1, 1, 1]
    assert (record.correct, len(events)) == (True, 4)


def test_a_request_that_fails_is_no_answer() -> None:
    with running({PROMPT.text: refuses("503 No", b"later")}) as server, session(server) as own:
        with pytest.raises(RequestFailedError, match="http_503: later") as failed:
            run_batch(own, [PROMPT], process_id=0, repeat=0)
        assert failed.value.failure.reason == "http_503"
        before = time.perf_counter()
        watch = own.stopwatch()
        watch.start()
        watch.mark()
        assert watch.laps().host_s[0] <= time.perf_counter() - before


def test_what_a_server_cannot_do_is_refused() -> None:
    with running({PROMPT.text: sends_raw()}) as server, session(server) as own:
        ids = own.encode(PROMPT.text)
        with pytest.raises(ValueError, match="batch_size 2"):
            list(own.answer([ids, ids], [0, 1]))
        with pytest.raises(ValueError, match=r"measure\.max_repairs=0"):
            list(own.answer([ids], [0], first_canvas=[[1] * 8]))
        with pytest.raises(ValueError, match=r"backend\.endpoint=completions"):
            own.check([[5, 6, 7]])
        assert server.requests == []


def test_ids_go_to_the_completions_endpoint_as_they_are() -> None:
    prompt = replace(PROMPT, token_ids=(5, 6, 7))
    script = sends(text_event("ab", finish="length", usage=2))
    scripts = {"[5, 6, 7]": script}
    with running(scripts) as server, session(server, endpoint=Endpoint.completions) as own:
        run_batch(own, [prompt], process_id=0, repeat=0)
        assert server.requests[0].body["prompt"] == [5, 6, 7]
