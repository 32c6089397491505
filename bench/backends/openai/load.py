"""When requests are sent: as many at a time as there are connections, or at times of their own.

Answers are handed over as they come and not kept, so a long load needs no more memory than a short
one.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable

from bench.backends.openai.events import Answer, Ask

AskServer = Callable[[Ask], Awaitable[Answer]]
OnAnswer = Callable[[Answer], None]


async def closed_loop(
    asks: Iterable[Ask], connections: int, ask_server: AskServer, on_answer: OnAnswer
) -> None:
    """Keeps `connections` requests under way until all are answered: a new one for each that ends.

    Raises:
        ValueError: fewer than one connection.
    """
    if connections < 1:
        raise ValueError(f"connections is {connections}; it must be >= 1")
    waiting = iter(asks)

    async def one_connection() -> None:
        for ask in waiting:
            on_answer(await ask_server(ask))

    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(one_connection())
            # Making a connection takes a moment, in which none that is made should wait.
            await asyncio.sleep(0)


async def open_loop(
    asks: Iterable[Ask],
    arrivals_s: Iterable[float],
    ask_server: AskServer,
    on_answer: OnAnswer,
    at_once: Callable[[], bool] = lambda: False,
) -> float:
    """Sends each request at its time, however many are then under way.

    Args:
        arrivals_s: seconds after now, at least one a request.
        at_once: whether the rest waits for its times no more.

    Returns:
        The most seconds by which a request was sent late: a client that cannot keep up.
    """
    latest = 0.0

    async def one(ask: Ask) -> None:
        on_answer(await ask_server(ask))

    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for at_s, ask in zip(arrivals_s, asks, strict=False):
            if not at_once():
                await asyncio.sleep(max(0.0, begin + at_s - time.perf_counter()))
                latest = max(latest, time.perf_counter() - begin - at_s)
            group.create_task(one(ask))
    return latest
