"""The session: outcomes with their ledgers, failures beside answers, counters around a run."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bench.backends.capabilities import Steps
from bench.backends.openai.config import OpenAiConfig
from bench.backends.openai.metrics import COMMITTED, GENERATED, POSITIONS, STEPS
from bench.backends.openai.request import Endpoint
from bench.backends.openai.session import OpenAiSession, Outcome, RunNote
from bench.workloads import Prompt
from tests.bench.backends.openai.scripted_server import (
    DONE,
    Script,
    Server,
    Wire,
    refuses,
    sends,
    serving,
    text_event,
)

TWO_CANVASES = sends(
    text_event("one canvas", usage=32), text_event("two", finish="stop", usage=40), DONE
)


@contextmanager
def running(scripts: dict[str, Script], *, keep_alive: bool = False) -> Iterator[Server]:
    """A server in a thread of its own, as the session runs a loop itself."""
    ready, found = threading.Event(), list[Any]()

    async def serve() -> None:
        stop = asyncio.Event()
        async with serving(scripts, keep_alive=keep_alive) as server:
            found.extend([server, asyncio.get_running_loop(), stop])
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    server, loop, stop = found
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt(i, "chat", text, None) for i, text in enumerate(texts)]


def ran(
    server: Server, texts: list[str], *, scraped: bool = False, **knobs: Any
) -> tuple[list[Outcome], RunNote]:
    if scraped:
        knobs["metrics_url"] = f"http://127.0.0.1:{server.port}/metrics"
    config = OpenAiConfig(
        **({"url": server.url, "served_model": "dg", "canvas_length": 32} | knobs)
    )
    outcomes: list[Outcome] = []
    session = OpenAiSession(config, max_new_tokens=64)
    note = session.run(prompts(*texts), outcomes.append)
    return sorted(outcomes, key=lambda outcome: outcome.request_id), note


def counters(*readings: tuple[int, int, int]) -> Script:
    """A page of metrics a reading: steps with commits, committed tokens, generated tokens."""
    left = iter(readings)

    async def script(wire: Wire) -> None:
        steps, committed, generated = next(left)
        values = {STEPS: steps, POSITIONS: steps * 32, COMMITTED: committed, GENERATED: generated}
        page = "".join(f'{name}{{model_name="dg"}} {value}\n' for name, value in values.items())
        await refuses("200 OK", page.encode(), "content-type: text/plain")(wire)

    return script


def test_answers_and_failures_of_one_run() -> None:
    scripts = {"good": TWO_CANVASES, "bad": refuses("503 Unavailable", b"")}
    with running(scripts) as server:
        found, note = ran(server, ["good", "bad", "good"], connections=2)
    assert [o.failure and o.failure.reason for o in found] == [None, "http_503", None]
    assert (note.num_answers, note.num_failures, note.work) == (2, 1, None)
    good = found[0]
    assert (good.finish_reason, good.count.delivered, good.answer.text) == (
        "eos",
        40,
        "one canvastwo",
    )
    assert good.ledger is not None
    assert (good.ledger.slots, good.ledger.after_eos, good.ledger.over_limit) == (64, 24, 0)
    assert good.wall_s == good.count.deliveries[-1].at_s <= good.ended_s
    assert (found[1].ledger, found[1].finish_reason, found[1].wall_s) == (None, None, None)
    begin_s, end_s = note.window_s
    assert end_s - begin_s >= good.ended_s


def test_counters_are_read_before_and_after() -> None:
    scripts = {"good": TWO_CANVASES, "/metrics": counters((50, 320, 300), (70, 448, 380))}
    with running(scripts) as server:
        _, note = ran(server, ["good", "good"], scraped=True, max_denoising_steps=4)
    assert note.work is not None
    assert note.contradictions == []
    # 20 forwards in 4 canvases, of which 4 are commits.
    assert (note.work.canvases, note.work.denoise_steps, note.work.generated_tokens) == (4, 16, 80)


@pytest.mark.parametrize(
    ("after", "knobs", "expected"),
    [
        ((70, 448, 380), {"max_denoising_steps": 3}, ["max_denoising_steps_without_effect"]),
        (
            (70, 448, 380),
            {"max_denoising_steps": 5, "early_stop": False},
            ["early_stop_without_effect"],
        ),
        ((65, 416, 380), {}, ["canvases_differ_from_the_servers"]),
        ((70, 448, 381), {}, ["tokens_differ_from_the_servers"]),
    ],
)
def test_counters_that_contradict_a_run(
    after: tuple[int, int, int], knobs: dict[str, Any], expected: list[str]
) -> None:
    scripts = {"good": TWO_CANVASES, "/metrics": counters((50, 320, 300), after)}
    with running(scripts) as server:
        _, note = ran(server, ["good", "good"], scraped=True, **knobs)
    assert note.contradictions == expected


def test_with_a_failure_canvases_and_tokens_are_not_compared() -> None:
    scripts = {"good": TWO_CANVASES, "bad": refuses("503 No", b"")}
    scripts["/metrics"] = counters((50, 320, 300), (70, 448, 999))
    with running(scripts) as server:
        _, note = ran(server, ["good", "bad"], scraped=True)
    assert (note.num_failures, note.contradictions) == (1, [])


def test_requests_at_random_times() -> None:
    now = most = 0

    async def slow(wire: Wire) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.2)
        now -= 1
        await TWO_CANVASES(wire)

    with running({"good": slow}) as server:
        found, note = ran(server, ["good"] * 20, rate_per_s=200.0)
    assert most > 2  # they do not wait for each other, though a closed loop would have one
    assert [outcome.failure for outcome in found] == [None] * 20
    assert note.late_s is not None
    sent = sorted(outcome.answer.sent_s for outcome in found)
    assert sent[-1] - sent[0] > 0.02


def test_counters_that_cannot_be_read_are_unknown_with_the_reason() -> None:
    for script, reason in (
        (refuses("404 Not Found", b"{}"), "metrics_unreadable: http_404"),
        (refuses("200 OK", b"<html>"), "metrics_unreadable: metrics line '<html>' is no sample"),
    ):
        with running({"good": TWO_CANVASES, "/metrics": script}) as server:
            _, note = ran(server, ["good"], scraped=True)
        assert note.num_answers == 1
        assert note.work is not None
        assert (note.work.canvases, note.work.reason) == (None, reason)


def test_the_key_does_not_go_to_the_page_of_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "k3y-of-mine")
    scripts = {"good": TWO_CANVASES, "/metrics": counters((1, 32, 1), (9, 96, 41))}
    with running(scripts) as server:
        ran(server, ["good"], scraped=True, key_variable="MY_KEY")
        sent = [request.headers.get("authorization") for request in server.requests]
    assert sent == [None, "Bearer k3y-of-mine", None]


def test_a_stop_beyond_the_limit_is_the_limits() -> None:
    """A server that rounds up to whole canvases and always says stop."""
    script = sends(text_event("x" * 90, usage=64), text_event("y", finish="stop", usage=96))
    with running({"good": script}) as server:
        (found,), _ = ran(server, ["good"])
    # Its total is over what was asked for and nothing bears it out: unknown, not 64.
    assert (found.count.delivered, found.finish_reason) == (None, "eos")
    ids = list(range(96))
    script = sends(text_event("x" * 90, finish="stop", usage=96, token_ids=ids))
    with running({"good": script}) as server:
        (found,), _ = ran(server, ["good"], token_ids=True)
    assert (found.count.delivered, found.count.over_limit, found.finish_reason) == (
        64,
        32,
        "length",
    )
    assert found.ledger is not None
    assert (found.ledger.slots, found.ledger.after_eos, found.ledger.over_limit) == (96, 0, 32)


def test_an_autoregressive_server_has_no_canvases() -> None:
    script = sends(
        *(text_event(c, usage=i + 1) for i, c in enumerate("abc")), text_event("", finish="length")
    )
    with running({"good": script}) as server:
        (found,), _ = ran(server, ["good"], canvas_length=None)
    assert (found.ledger, found.finish_reason, found.count.delivered) == (None, "length", 3)


def test_token_ids_need_the_completions_endpoint() -> None:
    ids = [Prompt(0, "fixed", "", None, token_ids=(5, 6, 7))]
    usual = {"url": "http://127.0.0.1:1/v1", "served_model": "dg"}
    with pytest.raises(ValueError, match=r"backend\.endpoint=completions"):
        OpenAiSession(OpenAiConfig(**usual), max_new_tokens=4).check(ids)
    own = OpenAiConfig(**usual, endpoint=Endpoint.completions)
    OpenAiSession(own, max_new_tokens=4).check(ids)


def test_what_a_server_cannot_give_has_its_reason() -> None:
    usual = {"url": "http://127.0.0.1:1/v1", "served_model": "dg", "canvas_length": 32}
    blind = OpenAiSession(OpenAiConfig(**usual), max_new_tokens=4).capabilities
    assert (blind.steps, blind.device_time, blind.seeds) == (Steps.NONE, False, False)
    assert blind.missing["server_steps_per_canvas"] == "backend.metrics_url is null"
    assert all(blind.missing.values())
    metrics = OpenAiConfig(**usual, metrics_url="http://127.0.0.1:1/metrics")
    seen = OpenAiSession(metrics, max_new_tokens=4).capabilities
    assert seen.steps is Steps.AGGREGATE
    assert "server_steps_per_canvas" not in seen.missing
