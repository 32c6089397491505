"""Asks a scripted server and gives the answers."""

import asyncio
import re
from collections.abc import Iterable, Mapping
from typing import Any

from bench.backends.openai.client import Client, Deadlines
from bench.backends.openai.events import Answer, Ask
from bench.backends.openai.load import closed_loop
from bench.backends.openai.request import Endpoint, RequestKnobs
from tests.bench.backends.openai.scripted_server import Script, Server, serving

KNOBS = RequestKnobs(Endpoint.completions, "dg")
SHORT = Deadlines(connect_s=1.0, first_byte_s=1.0, gap_s=0.8, whole_s=1.6)
PATIENT = Deadlines(connect_s=5.0, first_byte_s=20.0, gap_s=20.0, whole_s=30.0)


def ask_all(
    scripts: Mapping[str, Script],
    prompts: Iterable[str],
    *,
    knobs: RequestKnobs = KNOBS,
    deadlines: Deadlines = PATIENT,
    connections: int = 1,
    max_tokens: int = 64,
    keep_alive: bool = False,
    **more: Any,
) -> tuple[list[Answer], Server]:
    """Every prompt once; answers by the order of the prompts."""

    async def run() -> tuple[list[Answer], Server]:
        found: list[Answer] = []
        asks = [Ask(i, prompt, max_tokens) for i, prompt in enumerate(prompts)]
        async with serving(scripts, keep_alive=keep_alive) as server:
            client = Client(server.url, knobs, connections=connections, deadlines=deadlines, **more)
            async with client:
                await closed_loop(asks, connections, client.ask, found.append)
        return sorted(found, key=lambda answer: answer.request_id), server

    return asyncio.run(run())


def ask_one(script: Script, **settings: Any) -> Answer:
    """One prompt, "hi"."""
    (answer,), _ = ask_all({"hi": script}, ["hi"], **settings)
    return answer


def reason(answer: Answer) -> str | None:
    return None if answer.failure is None else answer.failure.reason


def token_ends(text: str) -> list[int]:
    """A stand-in for the captures' vocabulary: syllables, numbered words, single characters."""
    return [m.end() for m in re.finditer(r" ?w1\d\d| ?[a-z]{2}(?![a-z])|.", text, re.S)]
