"""When requests are sent, and that a long load needs no more memory than a short one."""

import asyncio
import math
import tracemalloc
from itertools import islice, pairwise
from pathlib import Path

import pandas as pd
import pytest

from bench.backends.openai.arrivals import poisson, read_arrivals
from bench.backends.openai.client import Client
from bench.backends.openai.events import Answer, Ask
from bench.backends.openai.load import closed_loop, open_loop
from tests.bench.backends.openai.asking import KNOBS
from tests.bench.backends.openai.scripted_server import (
    END,
    OK,
    chunk,
    sends_raw,
    serving,
    text_event,
)

ASKS = [Ask(i, "hi", 4) for i in range(40)]


class Counted:
    """Answers after a moment and counts how many are under way."""

    def __init__(self) -> None:
        self.now, self.most = 0, 0
        self.begun_s: list[float] = []

    async def ask(self, ask: Ask) -> Answer:
        self.now += 1
        self.most = max(self.most, self.now)
        self.begun_s.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.001 * (1 + ask.request_id % 3))
        self.now -= 1
        return Answer(ask.request_id, ask.max_tokens, sent_s=0.0)


def test_a_closed_loop_keeps_all_connections_busy() -> None:
    counted, answered = Counted(), list[Answer]()
    asyncio.run(closed_loop(ASKS, 4, counted.ask, answered.append))
    assert sorted(answer.request_id for answer in answered) == list(range(40))
    assert counted.most == 4


def test_a_closed_loop_takes_a_request_only_when_it_can_send_it() -> None:
    taken: list[int] = []

    def asks():
        for ask in ASKS:
            taken.append(ask.request_id)
            yield ask

    ahead: list[int] = []
    counted = Counted()
    done = iter(range(1, 99))
    asyncio.run(
        closed_loop(asks(), 4, counted.ask, lambda _: ahead.append(len(taken) - next(done)))
    )
    assert max(ahead) <= 4


def test_poisson_arrivals_do_not_wait_for_answers() -> None:
    counted, answered = Counted(), list[Answer]()

    async def slow(ask: Ask) -> Answer:
        found = await counted.ask(ask)
        await asyncio.sleep(0.2)
        return found

    late_s = asyncio.run(open_loop(ASKS, poisson(400.0, 0), slow, answered.append))
    assert len(answered) == 40
    gaps = [b - a for a, b in zip(counted.begun_s, counted.begun_s[1:], strict=False)]
    # 39 exponential gaps of 2.5 ms: their sum is 39 / 400 s, with a standard deviation of a sixth.
    assert 0.04 < sum(gaps) < 0.2 + late_s
    assert late_s < 1.0


@pytest.mark.parametrize("wrong", [0, -1])
def test_a_load_of_nothing_is_refused(wrong: int) -> None:
    counted = Counted()
    with pytest.raises(ValueError, match=f"connections is {wrong}"):
        asyncio.run(closed_loop(ASKS, wrong, counted.ask, print))
    with pytest.raises(ValueError, match=f"rate_per_s is {wrong}"):
        poisson(wrong, 0)


def test_poisson_times_have_the_rate_and_their_seed() -> None:
    times = list(islice(poisson(50.0, "a/0"), 4001))
    gaps = [b - a for a, b in pairwise(times)]
    assert times[0] == 0.0
    assert abs(sum(gaps) / len(gaps) * 50.0 - 1) < 4 / math.sqrt(len(gaps))
    assert list(islice(poisson(50.0, "a/0"), 9)) == times[:9]
    assert list(islice(poisson(50.0, "a/1"), 9)) != times[:9]


def test_times_of_a_file_are_kept(tmp_path: Path) -> None:
    seconds = [0.0, 0.05, 0.05, 0.15]
    (tmp_path / "times.txt").write_text("0\n0.05\n\n0.05\n0.15\n")
    table = pd.DataFrame({"request_id": range(4), "sent_s": seconds})
    table.to_csv(tmp_path / "times.csv", index=False)
    table.to_parquet(tmp_path / "times.parquet")
    for name in ("times.txt", "times.csv", "times.parquet"):
        assert list(read_arrivals(tmp_path / name).seconds) == seconds, name
    punctual = 0
    for _ in range(5):
        counted, answered = Counted(), list[Answer]()
        late_s = asyncio.run(open_loop(ASKS[:4], seconds, counted.ask, answered.append))
        after_s = [
            begun_s - counted.begun_s[0] - at_s
            for at_s, begun_s in zip(seconds, counted.begun_s, strict=True)
        ]
        assert min(after_s) >= -1e-3 - late_s  # the first may be late as well
        punctual += -1e-3 <= min(after_s) <= max(after_s) <= late_s + 0.05
    assert punctual  # a busy machine does not hold up every one


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", "0\n2\n1\n", "holds 1 after 2"),
        ("a.txt", "-1\n", "holds -1 after 0"),
        ("a.txt", "0\nnan\n", "holds nan"),
        ("a.txt", "soon\n", "could not convert"),
        ("a.csv", "at_s\n1\n", "no column sent_s"),
        ("a.parquet", "x", "valid: a number of seconds a line"),
        (".", None, "cannot be read"),
    ],
)
def test_a_file_of_no_times_is_refused(
    tmp_path: Path, name: str, content: str | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=words):
        read_arrivals(tmp_path / name)


def test_memory_stays_flat_under_a_long_load() -> None:
    """After 20 answers of 60 chunks the next 40 leave nothing behind."""
    told = b"".join(chunk(text_event("x" * 50, usage=i)) for i in range(60))
    last = chunk(text_event("", finish="stop")) + END
    held_bytes: list[int] = []

    async def run() -> None:
        async with (
            serving({"hi": sends_raw(OK + told + last)}, keep_alive=True) as server,
            Client(server.url, KNOBS, connections=4) as client,
        ):

            def on_answer(answer: Answer) -> None:
                assert (answer.failure, len(answer.chunks)) == (None, 61)
                held_bytes.append(tracemalloc.get_traced_memory()[0])
                server.requests.clear()

            asks = (Ask(i, "hi", 999) for i in range(60))
            await closed_loop(asks, 4, client.ask, on_answer)

    tracemalloc.start()
    try:
        asyncio.run(run())
    finally:
        tracemalloc.stop()
    one_answer_bytes = 60 * 150
    assert max(held_bytes[40:]) < max(held_bytes[:20]) + 4 * one_answer_bytes
