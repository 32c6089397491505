"""Connections that know when their bytes arrived."""

import asyncio
import select
import time
from collections.abc import Awaitable, Callable

import httpcore2 as httpcore
import pytest

from bench.backends.openai.network import ArrivalBackend, ArrivalStream, ConnectRefusedError

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def connected(peer: Peer, use: Callable[[ArrivalStream], Awaitable[None]]) -> None:
    """Uses a connection to a peer."""

    async def run() -> None:
        server = await asyncio.start_server(peer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        stream = await ArrivalBackend().connect_tcp("127.0.0.1", port, timeout=5.0)
        try:
            await asyncio.wait_for(use(stream), 60)
        finally:
            await stream.aclose()
            server.close()

    asyncio.run(run())


async def says_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"one")
    await asyncio.sleep(0.05)
    writer.write(b"two!")
    await writer.drain()
    writer.close()


def test_bytes_keep_the_time_they_arrived_at_however_late_they_are_read() -> None:
    asked = asyncio.Event()

    async def says_on_request(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"one")
        await asked.wait()
        writer.write(b"two!")
        writer.close()

    async def use(stream: ArrivalStream) -> None:
        while len(stream._pieces) < 1:
            await asyncio.sleep(0.001)
        between = time.perf_counter()
        asked.set()
        while len(stream._pieces) < 2:
            await asyncio.sleep(0.001)
        now = time.perf_counter()
        assert await stream.read(100) == b"one"
        first = stream.arrived_s
        assert await stream.read(100) == b"two!"
        assert first < between < stream.arrived_s < now
        assert await stream.read(100) == b""

    connected(says_on_request, use)


def test_work_on_one_connection_does_not_make_anothers_bytes_late() -> None:
    """Eight pieces lie ready at once: all are stamped before the first reader goes on."""

    async def run() -> None:
        writers: list[asyncio.StreamWriter] = []

        async def peer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.append(writer)

        server = await asyncio.start_server(peer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        streams = [await ArrivalBackend().connect_tcp("127.0.0.1", port) for _ in range(8)]
        while len(writers) < 8:
            await asyncio.sleep(0)

        begun_s: list[float] = []

        async def work(stream: ArrivalStream) -> float:
            await stream.read(100)
            begun_s.append(time.perf_counter())
            return stream.arrived_s

        readers = [asyncio.create_task(work(stream)) for stream in streams]
        await asyncio.sleep(0)
        for writer in writers:
            writer.write(b"x")
        sockets = [stream.get_extra_info("socket") for stream in streams]
        while len(select.select(sockets, [], [], 60)[0]) < 8:
            pass
        arrived_s = await asyncio.gather(*readers)
        assert max(arrived_s) < min(begun_s)
        for stream in streams:
            await stream.aclose()
        server.close()

    asyncio.run(run())


def test_a_piece_longer_than_asked_for_comes_in_parts_of_one_time() -> None:
    async def use(stream: ArrivalStream) -> None:
        await asyncio.sleep(0.1)
        assert await stream.read(2) == b"on"
        first = stream.arrived_s
        assert await stream.read(2) == b"e"
        assert stream.arrived_s == first

    connected(says_twice, use)


def test_a_reader_that_waits_holds_little() -> None:
    """A peer that would send for ever is slowed down by a reader that does not read."""
    sent = 0

    async def peer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        for _ in range(400):
            writer.write(b"x" * 250_000)
            await writer.drain()
            sent += 250_000
        writer.close()

    async def use(stream: ArrivalStream) -> None:
        last = -1
        while sent > last:  # until the peer is held up, or has sent everything
            last = sent
            await asyncio.sleep(0.2)
        assert sent < 50_000_000  # what is under way and in the kernel's buffers included
        total = 0
        while data := await stream.read(1 << 20):
            total += len(data)
        assert total == 100_000_000

    connected(peer, use)


def test_an_idle_connection_knows_that_it_was_closed() -> None:
    leaves = asyncio.Event()

    async def peer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await leaves.wait()
        writer.close()

    async def use(stream: ArrivalStream) -> None:
        assert not stream.get_extra_info("is_readable")
        leaves.set()
        while not stream.get_extra_info("is_readable"):
            await asyncio.sleep(0.001)
        with pytest.raises(httpcore.WriteError):
            await stream.write(b"anybody?")

    connected(peer, use)


def test_a_host_with_several_addresses_that_all_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_: object) -> None:
        raise OSError("Multiple exceptions: [Errno 111] Connect call failed, [Errno 111] Connect")

    async def run() -> None:
        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", refused)
        with pytest.raises(ConnectRefusedError):
            await ArrivalBackend().connect_tcp("localhost", 1)

    asyncio.run(run())
