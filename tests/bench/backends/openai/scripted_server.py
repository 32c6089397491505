"""A server that says what a script says: what real ones sent, byte for byte, or what bad ones do.

A script is chosen by the request's prompt. It writes, waits, resets; when it returns, the
connection is closed.
"""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.bench.backends.openai.captured import Exchange

OK = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
END = b"0\r\n\r\n"
DONE = b"data: [DONE]\n\n"
_APART_S = 0.001
"""Between two writes, so that they arrive as two reads."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client sent."""

    line: str
    headers: Mapping[str, str]
    body: dict[str, Any]


class Wire:
    """One connection as a script sees it."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self._writer = writer

    def send(self, data: bytes) -> None:
        """Writes at once and waits for nothing."""
        self._writer.write(data)

    async def write(self, *pieces: bytes) -> None:
        """Writes pieces that arrive apart."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            await asyncio.sleep(_APART_S)

    def reset(self) -> None:
        """Ends the connection with an RST."""
        own: socket.socket = self._writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[Wire], Awaitable[None]]


@dataclass(slots=True)
class Server:
    """Where it listens and what it was asked."""

    port: int = 0
    requests: list[Request] = field(default_factory=list)
    num_connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@asynccontextmanager
async def serving(
    scripts: Mapping[str, Script], ssl_context: Any = None, keep_alive: bool = False
) -> AsyncIterator[Server]:
    """A server for the time of a block; scripts by prompt, or by path for a GET."""
    server = Server()
    connections: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        server.num_connections += 1
        try:
            while True:
                request = await _read(reader)
                server.requests.append(request)
                await scripts[_name(request)](Wire(request, writer))
                if not keep_alive:
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            connections.discard(task)
            writer.close()

    listening = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=ssl_context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(head[0], headers, json.loads(body) if body else {})


def _name(request: Request) -> str:
    """The prompt, or the path of a GET."""
    body = request.body
    if "messages" in body:
        return str(body["messages"][-1]["content"])
    return str(body["prompt"]) if "prompt" in body else request.line.split()[1]


def replayed(exchange: Exchange, *, speed: float = float("inf")) -> Script:
    """A capture with its reads' boundaries, and at `speed` its pauses."""

    async def script(wire: Wire) -> None:
        before_s = 0.0
        for read in exchange.reads:
            await asyncio.sleep((read.at_s - before_s) / speed)
            before_s = read.at_s
            await wire.write(read.data)

    return script


def chunk(body: bytes) -> bytes:
    """One chunk of HTTP."""
    return b"%x\r\n%s\r\n" % (len(body), body)


def event(told: Mapping[str, Any]) -> bytes:
    """One server-sent event of JSON."""
    return b"data: " + json.dumps(told, ensure_ascii=False).encode() + b"\n\n"


def text_event(
    text: str, *, finish: str | None = None, usage: int | None = None, **more: Any
) -> bytes:
    """An event of the completions endpoint; `usage` is its running count of tokens."""
    told: dict[str, Any] = {"choices": [{"index": 0, "text": text, "finish_reason": finish} | more]}
    if usage is not None:
        told["usage"] = {"prompt_tokens": 8, "completion_tokens": usage}
    return event(told)


def sends(*pieces: bytes, end: bool = True) -> Script:
    """A stream of pieces, a chunk of HTTP each."""

    async def script(wire: Wire) -> None:
        await wire.write(OK, *map(chunk, pieces), *([END] if end else []))

    return script


def sends_raw(*pieces: bytes) -> Script:
    """Bytes as they are."""

    async def script(wire: Wire) -> None:
        await wire.write(*pieces)

    return script


def refuses(status: str, body: bytes, headers: str = "content-type: application/json") -> Script:
    """A status with a body."""
    head = f"HTTP/1.1 {status}\r\n{headers}\r\ncontent-length: {len(body)}\r\n\r\n"
    return sends_raw(head.encode() + body)


def stalls_after(*pieces: bytes) -> Script:
    """Writes bytes, then nothing."""

    async def script(wire: Wire) -> None:
        await wire.write(*pieces)
        await asyncio.sleep(60)

    return script


def trickles(begin: bytes, pieces: Iterable[bytes], every_s: float) -> Script:
    """Writes a beginning, then a piece at a time, slowly."""

    async def script(wire: Wire) -> None:
        await wire.write(begin)
        for piece in pieces:
            await wire.write(piece)
            await asyncio.sleep(every_s)

    return script


def resets_after(*pieces: bytes) -> Script:
    """Writes bytes, then an RST."""

    async def script(wire: Wire) -> None:
        await wire.write(*pieces)
        wire.reset()

    return script
