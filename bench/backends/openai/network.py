"""Connections that know when their bytes arrived.

The event loop calls `data_received` right after it has read a socket, for every socket that is
ready, before any task goes on. Bytes are stamped there: where 64 canvases arrive at once, the last
one's time does not hold the work on the 63 before it.
"""

import asyncio
import errno
import ssl
import time
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

import httpcore2 as httpcore

_MOST_WAITING_BYTES = 1_048_576
"""Read ahead of the reader; beyond it the socket is left alone."""


class ConnectRefusedError(httpcore.ConnectError):
    """Nobody listens."""


class TlsRefusedError(httpcore.ConnectError):
    """No encrypted connection: a certificate that does not hold, or a side that cannot."""


class ArrivalStream(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """One connection. Timeouts are its user's: reads and writes end when they are cancelled.

    Attributes:
        arrived_s: when the bytes that `read` gave last had been read from the socket, on
            `time.perf_counter`.
    """

    def __init__(self) -> None:
        self.arrived_s = 0.0
        self._transport: asyncio.Transport | None = None
        self._pieces: deque[tuple[float, bytes]] = deque()
        self._num_waiting_bytes = 0
        self._ended = False
        self._lost: Exception | None = None
        self._arrival: asyncio.Future[None] | None = None
        self._may_write = asyncio.Event()
        self._may_write.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._pieces.append((time.perf_counter(), data))
        self._num_waiting_bytes += len(data)
        if self._num_waiting_bytes > _MOST_WAITING_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        self._ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended, self._lost = True, exc
        self._may_write.set()
        self._wake()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """The next piece as it arrived, empty at the end.

        Raises:
            httpcore.ReadError: the connection was reset.
        """
        while not self._pieces:
            if self._lost is not None:
                raise httpcore.ReadError(str(self._lost)) from self._lost
            if self._ended:
                return b""
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        self.arrived_s, data = self._pieces.popleft()
        if len(data) > max_bytes:
            self._pieces.appendleft((self.arrived_s, data[max_bytes:]))
            data = data[:max_bytes]
        self._num_waiting_bytes -= len(data)
        if self._num_waiting_bytes <= _MOST_WAITING_BYTES and self._transport is not None:
            self._transport.resume_reading()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Hands bytes to the kernel, or waits until it takes more.

        Raises:
            httpcore.WriteError: the connection is gone.
        """
        if not buffer:
            return
        transport = self._transport
        if transport is None or transport.is_closing():
            raise httpcore.WriteError(str(self._lost or "the connection is closed"))
        transport.write(buffer)
        await self._may_write.wait()

    async def aclose(self) -> None:
        if self._transport is not None:
            self._transport.abort()  # what is unsent is of no use to anybody

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> "ArrivalStream":
        """Encrypts; the certificate is checked as the context says.

        Raises:
            TlsRefusedError: by either side.
            httpcore.ConnectError: the connection broke.
            httpcore.ConnectTimeout: not done in time.
        """
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                self._transport = await loop.start_tls(
                    self._transport, self, ssl_context, server_hostname=server_hostname
                )
        except TimeoutError as error:
            await self.aclose()
            raise httpcore.ConnectTimeout("TLS") from error
        except ssl.SSLError as error:
            await self.aclose()
            raise TlsRefusedError(str(error)) from error
        except OSError as error:
            await self.aclose()
            raise httpcore.ConnectError(str(error)) from error
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":  # asked of an idle connection: whether it is of no more use
            return self._ended or bool(self._pieces)
        return None if self._transport is None else self._transport.get_extra_info(info)

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


class ArrivalBackend(httpcore.AsyncNetworkBackend):
    """Makes such connections."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> ArrivalStream:
        """A connection to the first of the host's addresses that takes one.

        Raises:
            ConnectRefusedError: all refused.
            httpcore.ConnectError: none takes one.
            httpcore.ConnectTimeout: not done in time.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                _, stream = await loop.create_connection(ArrivalStream, host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout(f"{host}:{port}") from error
        except OSError as error:
            told = str(error)
            # The errors of several addresses come as one without a number.
            refusals = told.count(f"[Errno {errno.ECONNREFUSED}]")
            if refusals and refusals == told.count("[Errno "):
                raise ConnectRefusedError(told) from error
            raise httpcore.ConnectError(told) from error
        return stream
