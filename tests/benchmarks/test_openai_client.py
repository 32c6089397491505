"""What the HTTP client adds to an arrival: a server of our own streams canvases with their times.

    pytest tests/benchmarks/test_openai_client.py --benchmark-enable -s

The server is a process of its own that sends 1,000 canvases of 256 tokens a second over 64
connections and writes into each when it was written. Both processes read the same clock
(CLOCK_MONOTONIC), so what a canvas was late is arrival minus writing: the way through the kernel,
waiting for a core and for the client's loop, until the client's own timestamp. A bare protocol that
only notes when bytes come does the same: its lateness is the machine's, the difference ours. The
bar: p99 at most 3 ms. Nothing asserts on time.
"""

import asyncio
import json
import multiprocessing
import re
import time
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection

import numpy as np

from bench.backends.openai.client import Client
from bench.backends.openai.events import Ask
from bench.backends.openai.load import closed_loop
from bench.backends.openai.request import Endpoint, RequestKnobs
from tests.bench.backends.openai.scripted_server import END, OK, Wire, chunk, event, serving

NUM_CONNECTIONS, RATE_PER_S, CANVAS_TOKENS = 64, 1000, 256
_EVERY_S = NUM_CONNECTIONS / RATE_PER_S
_STAMP = re.compile(r"@(\d+\.\d+)@")
_WORDS = "and so it goes on " * (CANVAS_TOKENS // 5)


def serve(pipe: Connection, num_canvases: int) -> None:
    """Streams to every connection `num_canvases` canvases, evenly spread over time."""

    async def stream(wire: Wire) -> None:
        wire.send(OK)
        index = int(str(wire.request.body["prompt"]))
        begin = time.perf_counter() + _EVERY_S * index / NUM_CONNECTIONS
        for canvas in range(num_canvases):
            await asyncio.sleep(begin + canvas * _EVERY_S - time.perf_counter())
            text = f"@{time.perf_counter():.6f}@{_WORDS}"
            told = {
                "choices": [{"index": 0, "text": text, "finish_reason": None}],
                "usage": {"prompt_tokens": 8, "completion_tokens": CANVAS_TOKENS * (canvas + 1)},
            }
            wire.send(chunk(event(told)))
        wire.send(chunk(event({"choices": [{"text": "", "finish_reason": "length"}]})) + END)

    async def run() -> None:
        scripts = {str(i): stream for i in range(NUM_CONNECTIONS)}
        async with serving(scripts, keep_alive=True) as server:
            pipe.send(server.port)
            await asyncio.get_running_loop().run_in_executor(None, pipe.recv)

    asyncio.run(run())


async def by_client(port: int) -> list[float]:
    """Seconds that each canvas was late at our client."""
    late_s: list[float] = []

    def on_answer(answer) -> None:
        assert answer.failure is None
        written = [float(stamp) for stamp in _STAMP.findall(answer.text)]
        arrived = [answer.sent_s + c.at_s for c in answer.chunks if c.characters]
        late_s.extend(a - w for a, w in zip(arrived, written, strict=True))

    knobs = RequestKnobs(Endpoint.completions, "canvases")
    url = f"http://127.0.0.1:{port}/v1"
    async with Client(url, knobs, connections=NUM_CONNECTIONS) as client:
        asks = [Ask(i, str(i), 10**6) for i in range(NUM_CONNECTIONS)]
        await closed_loop(asks, NUM_CONNECTIONS, client.ask, on_answer)
    return late_s


class Bare(asyncio.Protocol):
    """Notes when bytes come; looks for the stamps at the end."""

    def __init__(self, index: int) -> None:
        self.late_s: list[float] = []
        self.ended = asyncio.get_running_loop().create_future()
        self._asked = json.dumps({"prompt": str(index)}).encode()
        self._end = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        head = b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(self._asked)
        transport.write(head + self._asked)

    def data_received(self, data: bytes) -> None:
        at_s = time.perf_counter()
        self.late_s += [at_s - float(stamp) for stamp in _STAMP.findall(data.decode())]
        self._end = (self._end + data)[-len(END) :]
        if self._end == END:
            self._transport.close()
            self.ended.set_result(None)


async def by_bare_protocol(port: int) -> list[float]:
    """The same without a client."""
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda i=i: Bare(i), "127.0.0.1", port)
        for i in range(NUM_CONNECTIONS)
    ]
    await asyncio.gather(*(protocol.ended for _, protocol in made))
    return [late_s for _, protocol in made for late_s in protocol.late_s]


def late_ms(asking: Callable[[int], Awaitable[list[float]]], num_canvases: int) -> dict[str, float]:
    """Quantiles over all canvases, each with a server of its own."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, num_canvases))
    server.start()
    try:
        begin = time.perf_counter()
        late = np.array(asyncio.run(asking(ours.recv()))) * 1e3  # type: ignore[arg-type]
        seconds = time.perf_counter() - begin
    finally:
        ours.send("stop")
        server.join()
    assert len(late) == num_canvases * NUM_CONNECTIONS
    quantiles = {f"p{q}_ms": round(float(np.percentile(late, q)), 3) for q in (50, 99)}
    return quantiles | {"max_ms": round(float(late.max()), 3), "per_s": len(late) / seconds}


def test_added_latency(benchmark) -> None:
    num_canvases = 150 if benchmark.enabled else 2
    for asking in (by_bare_protocol, by_client, by_bare_protocol, by_client):
        found = late_ms(asking, num_canvases)
        benchmark.extra_info[asking.__name__] = found
        print(asking.__name__, found)
    benchmark.pedantic(late_ms, args=(by_client, 2), rounds=1)
