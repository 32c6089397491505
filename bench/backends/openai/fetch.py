"""Small pages of a server, read whole within a deadline and a size."""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

import httpcore2 as httpcore

from bench.backends.openai.judge import HTTP_ERRORS, of_error
from bench.backends.openai.network import ArrivalBackend

MOST_BYTES = 8_000_000

Header = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Page:
    """What a GET brought; redirects are not followed."""

    status: int
    content: bytes


class FetchError(Exception):
    """A page that could not be read.

    Attributes:
        reason: code (`bench.backends.openai.events.Failure`).
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def checked_tls(url: str) -> ssl.SSLContext | None:
    """The system's certificates; none for plain HTTP, as reading them takes a moment."""
    return ssl.create_default_context() if url.lower().startswith("https:") else None


async def get(url: str, deadline_s: float, headers: Sequence[Header] = ()) -> Page:
    """Reads a page.

    Raises:
        FetchError: nobody answers, too slowly, or more than `MOST_BYTES`.
    """
    content = bytearray()
    try:
        async with (
            asyncio.timeout(deadline_s),
            httpcore.AsyncConnectionPool(
                ssl_context=checked_tls(url), network_backend=ArrivalBackend()
            ) as pool,
            pool.stream("GET", url, headers=list(headers)) as response,
        ):
            async for data in response.aiter_stream():
                content += data
                if len(content) > MOST_BYTES:
                    raise FetchError("too_long_line", f"more than {MOST_BYTES:,} bytes")
            return Page(response.status, bytes(content))
    except TimeoutError:
        raise FetchError("too_slow", f"waited {deadline_s:g} s") from None
    except HTTP_ERRORS as error:
        failure = of_error(error, begun=bool(content))
        raise FetchError(failure.reason, failure.detail) from None
