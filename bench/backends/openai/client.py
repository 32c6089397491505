"""Asks an OpenAI-compatible server over HTTP and keeps the time; every request comes to an end.

A request ends as an answer or as a failure with a reason (`judge.Failure`), never as an exception
and never later than its deadlines. Certificates are checked; redirects are refused, to any host, as
the key would go with them; the library beneath follows none and looks at no proxies, cookies or
other settings of the environment. The key is read from the environment variable that is named,
lives in the client's headers alone, and is taken out of whatever a server says.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import httpcore2 as httpcore

from bench.backends.openai.events import Answer, Ask, Failure
from bench.backends.openai.fetch import checked_tls
from bench.backends.openai.judge import (
    HTTP_ERRORS,
    StreamError,
    Wait,
    of_end,
    of_error,
    of_status,
    one_line,
)
from bench.backends.openai.network import ArrivalBackend, ArrivalStream
from bench.backends.openai.request import PATHS, RequestKnobs, body
from bench.backends.openai.sse import MAX_EVENT_BYTES, SseReader, TooLongLineError
from bench.backends.openai.transcript import Transcript
from bench.redact import redact

_MAX_MESSAGE_BYTES = 65_536
_MOVE_SHARE = 0.05
"""A deadline moves on with a byte only after this share of it, and ends by it later."""
_LONGEST_IDLE_S = 1.0
"""After which a connection is not used again; servers close idle ones after some seconds."""
_REDACTED = "[redacted]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadlines:
    """Seconds a request may wait.

    Attributes:
        connect_s: for a connection, and again for its TLS.
        first_byte_s: from the request to the first byte of the answer's body: queue, prefill and
            first canvas.
        gap_s: between two reads afterwards; a comment that keeps a stream alive counts as a byte.
        whole_s: for everything.
    """

    connect_s: float = 10.0
    first_byte_s: float = 600.0
    gap_s: float = 120.0
    whole_s: float = 1500.0


class Client:
    """A pool of connections to one server.

    Args:
        url: where the API begins.
        connections: the most at a time, None for no limit.
        tls: instead of the system's certificates; checks are part of it.

    Raises:
        ValueError: the variable that should hold the key is empty or holds no key.
    """

    def __init__(
        self,
        url: str,
        knobs: RequestKnobs,
        *,
        connections: int | None = 1,
        deadlines: Deadlines | None = None,
        key_variable: str | None = None,
        max_event_bytes: int = MAX_EVENT_BYTES,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = url.rstrip("/") + PATHS[knobs.endpoint]
        self._knobs = knobs
        self._deadlines = deadlines or Deadlines()
        self._max_event_bytes = max_event_bytes
        self._key = read_key(key_variable)
        self._headers = [
            ("Accept", "text/event-stream"),
            ("Accept-Encoding", "identity"),
            ("Content-Type", "application/json"),
            ("User-Agent", "canvasbench"),
        ]
        if self._key is not None:
            self._headers.append(("Authorization", f"Bearer {self._key}"))
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=tls or checked_tls(url),
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=_LONGEST_IDLE_S,
            network_backend=ArrivalBackend(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._pool.aclose()

    async def ask(self, ask: Ask) -> Answer:
        """Sends one request and reads its stream to the end.

        A connection that the server had closed while it was idle is no failure: the request is sent
        again, and its time begins anew.
        """
        content = body(ask, self._knobs)
        watch = _Watch(self._deadlines)
        answer = None
        while answer is None:
            answer = await self._attempt(ask, content, watch)
        self._scrub(answer)
        return answer

    async def _attempt(self, ask: Ask, content: bytes, watch: "_Watch") -> Answer | None:
        """The answer over one connection; None where that had been closed before."""
        answer = Answer(ask.request_id, ask.max_tokens, sent_s=time.perf_counter())
        transcript = Transcript(answer)
        connection = _Connection()
        try:
            async with watch.first_byte():
                await self._stream(content, answer, transcript, watch, connection)
        except TimeoutError:
            if not _complete(answer):
                answer.failure = answer.failure or Failure(watch.wait.value, watch.missed())
        except StreamError as error:
            answer.failure = error.failure
        except TooLongLineError as error:
            answer.failure = Failure("too_long_line", str(error))
        except HTTP_ERRORS as error:
            if answer.opened_s is None and not connection.fresh:
                return None
            if not _complete(answer):
                answer.failure = of_error(error, begun=answer.opened_s is not None)
        answer.ended_s = time.perf_counter() - answer.sent_s
        transcript.close()
        return answer

    async def _stream(
        self,
        content: bytes,
        answer: Answer,
        transcript: Transcript,
        watch: "_Watch",
        connection: "_Connection",
    ) -> None:
        asked = self._pool.stream(
            "POST",
            self._url,
            headers=self._headers,
            content=content,
            extensions={
                "timeout": {"connect": self._deadlines.connect_s},
                "trace": connection.note,
            },
        )
        async with asked as response:
            wire = response.extensions["network_stream"]
            assert isinstance(wire, ArrivalStream)
            answer.opened_s = wire.arrived_s - answer.sent_s
            if response.status != 200:
                await _refused(response, answer, watch)
                return
            _check_headers(response)
            reader = SseReader(self._max_event_bytes)
            async for data in response.aiter_stream():
                at_s = wire.arrived_s - answer.sent_s
                watch.next_byte()
                for event in reader.feed(data):
                    transcript.read(event, at_s)
            answer.failure = of_end(answer.finish_reason, done=answer.done, pending=reader.pending)

    def _scrub(self, answer: Answer) -> None:
        """Takes the key out of what the server said, and out of an error all secrets."""
        clean = without(self._key)
        answer.text, answer.reasoning = clean(answer.text), clean(answer.reasoning)
        if answer.failure is not None:
            detail = redact(clean(answer.failure.detail))
            answer.failure = Failure(answer.failure.reason, detail)


def _complete(answer: Answer) -> bool:
    """Whether the finish reason has come; what lacks behind it is no part of the answer."""
    return of_end(answer.finish_reason, done=False, pending=False) is None


class _Connection:
    """Whether a request made its connection or was given one that stood idle."""

    def __init__(self) -> None:
        self.fresh = False

    async def note(self, event: str, info: object) -> None:
        """Told by the HTTP client of everything it does."""
        self.fresh = self.fresh or event.startswith("connection.connect")


class _Watch:
    """A request's deadlines: one timeout that moves on with every byte."""

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._clock: Callable[[], float] = asyncio.get_running_loop().time
        self._whole = self._clock() + deadlines.whole_s
        self._timeout = asyncio.timeout_at(self._whole)
        self._moved = 0.0
        self.wait = Wait.WHOLE

    def first_byte(self) -> asyncio.Timeout:
        """A context that ends with TimeoutError; it begins by waiting for the first byte."""
        self._timeout = asyncio.timeout_at(
            self._until(Wait.FIRST_BYTE, self._deadlines.first_byte_s)
        )
        return self._timeout

    def next_byte(self) -> None:
        """Bytes have come; waits for more."""
        now = self._clock()
        if self.wait is not Wait.GAP or now > self._moved + _MOVE_SHARE * self._deadlines.gap_s:
            self._moved = now
            self._timeout.reschedule(
                self._until(Wait.GAP, (1 + _MOVE_SHARE) * self._deadlines.gap_s)
            )

    def missed(self) -> str:
        """What the deadline was that the request missed."""
        seconds = {
            Wait.FIRST_BYTE: self._deadlines.first_byte_s,
            Wait.GAP: self._deadlines.gap_s,
            Wait.WHOLE: self._deadlines.whole_s,
        }
        return f"waited {seconds[self.wait]:g} s"

    def _until(self, wait: Wait, seconds: float) -> float:
        when = self._clock() + seconds
        self.wait = wait if when < self._whole else Wait.WHOLE
        return min(when, self._whole)


def _header(response: httpcore.Response, name: bytes) -> str:
    """A header's value, empty where there is none."""
    values = (value for key, value in response.headers if key.lower() == name)
    return next(values, b"").decode("latin-1")


def _check_headers(response: httpcore.Response) -> None:
    """Refuses what is no plain stream of events."""
    encoding = _header(response, b"content-encoding") or "identity"
    if encoding != "identity":
        raise StreamError("encoded", f"the server sent content-encoding {encoding}")
    kind = _header(response, b"content-type")
    if kind.partition(";")[0].strip().lower() != "text/event-stream":
        raise StreamError("not_a_stream", f"the server sent content-type {kind or 'none'}")


async def _refused(response: httpcore.Response, answer: Answer, watch: _Watch) -> None:
    """Notes a status other than 200 with what the server said of it."""
    status = response.status
    if 300 <= status < 400:
        to = one_line(_header(response, b"location") or "nowhere")
        answer.failure = Failure("redirect_refused", f"http_{status} to {to}")
        return
    answer.failure = of_status(status, b"")
    said = bytearray()
    try:
        async for data in response.aiter_stream():
            watch.next_byte()
            said += data[: _MAX_MESSAGE_BYTES - len(said)]
            if len(said) == _MAX_MESSAGE_BYTES:
                break
    except HTTP_ERRORS:
        pass  # the status says it; its message was cut
    answer.failure = of_status(status, bytes(said))


def read_key(variable: str | None) -> str | None:
    """The key in an environment variable; None for no variable.

    Raises:
        ValueError: it holds none, or what no header can carry.
    """
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ValueError(f"environment variable {variable} holds no key")
    if not (key.isascii() and key.isprintable()):
        raise ValueError(f"environment variable {variable} holds what no header can carry")
    return key


def without(key: str | None) -> Callable[[str], str]:
    """Takes a key out of a text."""
    return lambda text: text if key is None else text.replace(key, _REDACTED)
