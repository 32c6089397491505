"""A long load keeps memory flat: what it leaves lies on the disk, and nothing of it is lost."""

import errno
import gc
import pickle
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.backends import Loaded
from bench.backends.openai import OpenAiConfig
from bench.backends.openai.canvases import Canvas
from bench.backends.openai.events import Chunk, Columns
from bench.backends.openai.served import ServedModel, ServedSession
from bench.backends.openai.spool import Made, Spool
from bench.backends.openai.tokens import Delivery
from bench.worker import reason_of
from bench.workloads import Prompt
from model.tiny.tokenizer import build_tokenizer
from tests.bench.backends.openai.scripted_server import (
    END,
    OK,
    Script,
    chunk,
    event,
    sends_raw,
    text_event,
)
from tests.bench.backends.openai.test_session import running

NUM_CANVASES = 20
ANSWER = sends_raw(
    OK
    + chunk(text_event("a" * 99, usage=32 * NUM_CANVASES - 1))
    + chunk(text_event("b", finish="length", usage=32 * NUM_CANVASES))
    + END
)
"""640 tokens in 20 canvases of 32: 19 at once, then the last."""
FAILURE = sends_raw(
    OK + chunk(text_event("a" * 99, usage=32)) + chunk(event({"error": {"message": "gone"}})) + END
)
MODEL = ServedModel(
    name="tiny-diffusion",
    decoding="diffusion",
    vocab_size=64,
    bos_token_id=1,
    eos_token_ids=(2,),
    tokenizer=build_tokenizer(),
    max_new_tokens=32 * NUM_CANVASES,
    ignore_eos=False,
    seed=0,
)
GOOD = Prompt(0, "sort", "sort ab=", "ab", check="ab".__eq__)
BAD = replace(GOOD, text="sort ba=")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and /proc")
BOTH = {GOOD.text: ANSWER, BAD.text: FAILURE}


def load(
    prompts: Sequence[Prompt],
    folder: Path | None = None,
    scripts: dict[str, Script] | None = None,
    on_outcome: Callable[[], None] = lambda: None,
) -> Loaded:
    """Every prompt once, by its place in the list, eight under way at a time."""
    with running(scripts or BOTH, keep_alive=True) as server:

        def ended() -> None:
            server.requests.clear()
            on_outcome()

        config = OpenAiConfig(url=server.url, served_model="dg", canvas_length=32, connections=8)
        session = ServedSession(config, MODEL, server=None, stack=ExitStack(), folder=folder)
        own = [replace(prompt, request_id=i) for i, prompt in enumerate(prompts)]
        return session.answer_all(own, process_id=0, repeat=0, on_outcome=ended)


def growth_bytes(
    prompts: Sequence[Prompt], folder: Path, held_bytes: Callable[[], int]
) -> tuple[float, Loaded]:
    """Bytes an answer that a load holds more at its end than after its first quarter."""
    held: list[int] = []
    ended = iter(range(1, len(prompts) + 1))
    marks = (len(prompts) // 4, len(prompts))

    def mark() -> None:
        if next(ended) in marks:
            gc.collect()
            held.append(held_bytes())

    found = load(prompts, folder, on_outcome=mark)
    return (held[1] - held[0]) / (marks[1] - marks[0]), found


def test_a_long_load_keeps_nothing_of_a_request_in_memory(tmp_path: Path) -> None:
    """Answers and failures in turn; as a record in memory each would be 4 kB."""
    prompts = [GOOD, GOOD, GOOD, BAD] * 250
    tracemalloc.start()
    try:
        grown, found = growth_bytes(prompts, tmp_path, lambda: tracemalloc.get_traced_memory()[0])
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        num_canvases = [len(request.canvases) for request in found.requests]
        reading = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    print(f"{grown:.0f} bytes an answer while the load runs, {reading:,} in all to read it back")
    assert grown < 400
    assert reading < 500_000
    assert num_canvases == [NUM_CANVASES] * 750
    assert [failed.failure for failed in found.failed] == ["in_band_error"] * 250


@pytest.mark.slow
def test_resident_memory_of_a_long_load(tmp_path: Path) -> None:
    """With the server in the same process."""
    resident = psutil.Process().memory_info
    grown, _ = growth_bytes([GOOD] * 10_000, tmp_path, lambda: int(resident().rss))
    print(f"{grown:,.0f} bytes an answer")
    assert grown < 500


def test_records_are_the_same_whenever_they_are_read(tmp_path: Path) -> None:
    found = load([GOOD, BAD, GOOD], tmp_path)
    first, again = list(found.requests), list(found.requests)
    assert sorted(record.request_id for record in first) == [0, 2]
    assert [(r.request_id, r.sent_s, r.deliveries, r.text) for r in first] == [
        (r.request_id, r.sent_s, r.deliveries, r.text) for r in again
    ]
    for record in first:
        assert (record.correct, record.delivered_tokens) == (False, 640)
        assert [len(canvas.slots) for canvas in record.canvases] == [32] * NUM_CANVASES
        assert record.sent_s is not None
        assert 0 <= record.sent_s < found.window_s[1] - found.window_s[0]
    (failed,) = found.failed
    assert (failed.request_id, failed.text) == (1, "a" * 99)
    assert 0 <= failed.sent_s < found.window_s[1] - found.window_s[0]


@LINUX
def test_a_full_disk_ends_the_load_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, full = 0, Path("/dev/full")

    def ended() -> None:
        nonlocal asked
        asked += 1

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: full.open("r+b"))
    with pytest.raises(OSError, match="No space left") as raised:
        load([GOOD] * 400, on_outcome=ended)
    assert raised.value.errno == errno.ENOSPC
    assert reason_of(raised.value) == "disk_full"
    assert asked < 100


@pytest.mark.parametrize(
    "value",
    [
        Columns[Any](),
        Columns([Chunk(0.5, 3), Chunk(1.0, 0, 32, (1, 2))]),
        Columns([Delivery(0.5, None)]),
        Columns([Canvas(0.5, 32)] * 3),
    ],
)
def test_columns_come_back_as_they_were(value: Columns[Any]) -> None:
    back = pickle.loads(pickle.dumps(value, protocol=5))
    assert (type(back), back) == (Columns, value)
    assert [type(row) for row in back] == [type(row) for row in value]


@LINUX
def test_a_spool_is_read_while_it_is_written(tmp_path: Path) -> None:
    """Its file has no name and lies where it is told to."""
    spool = Spool[str](tmp_path)
    doubled = Made(spool, lambda text: text * 2)
    for text in ("a", "b" * 100_000, "c"):
        spool.append(text)
        assert list(spool)[-1] == text
    assert [(x, y) for x in spool for y in doubled] == [
        (x, y * 2) for x in ("a", "b" * 100_000, "c") for y in ("a", "b" * 100_000, "c")
    ]
    assert (len(spool), len(doubled)) == (3, 3)
    assert list(tmp_path.iterdir()) == []
    assert any(name.startswith(str(tmp_path)) for name in open_files())
    del spool, doubled
    gc.collect()
    assert not any(name.startswith(str(tmp_path)) for name in open_files())


def open_files() -> list[str]:
    """What this process has open, files without a name included."""
    found = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the folder's own
            found.append(str(descriptor.readlink()))
    return found
