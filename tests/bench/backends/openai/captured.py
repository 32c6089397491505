"""What real servers sent, read from `captures/`: bytes with their times and TCP boundaries.

A line `[ 14.28 ms] recv 220 B: '...'` is one read of a socket; a line without a length was taken
from a terminal and shortened, so its chunked framing is made anew.
"""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "captures"

_READ = re.compile(r"^\[\s*(?P<ms>[\d.]+) ms\] (?:recv (?P<size>\d+) B: )?(?P<text>'.*')$")
_HEADERS = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"connection: close\r\ntransfer-encoding: chunked\r\n\r\n"
)


@dataclass(frozen=True, slots=True)
class Read:
    """One read: seconds since the request, and what it brought."""

    at_s: float
    data: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request's answer; `cut` where the connection ended before the body did."""

    title: str
    reads: tuple[Read, ...]

    @property
    def raw(self) -> bytes:
        return b"".join(read.data for read in self.reads)


@cache
def exchanges(name: str) -> dict[str, Exchange]:
    """The exchanges of a capture by their titles."""
    found: dict[str, Exchange] = {}
    title, reads = "", []
    for line in [*(FOLDER / f"{name}.txt").read_text().splitlines(), "# end"]:
        if line.startswith("#"):
            if reads:
                found[title] = Exchange(title, _whole(reads))
            title, reads = line.lstrip("# "), []
        elif (match := _READ.match(line)) is not None:
            data = str(ast.literal_eval(match["text"])).encode()
            if match["size"] is None:
                data = _framed(data)
            else:
                assert len(data) == int(match["size"]), (title, line[:60])
            reads.append(Read(float(match["ms"]) / 1e3, data))
    return found


def page(name: str) -> str:
    """A capture that is a page of metrics."""
    return (FOLDER / f"{name}.txt").read_text()


def _whole(reads: list[Read]) -> tuple[Read, ...]:
    """With headers where the capture begins within a stream."""
    if reads[0].data.startswith(b"HTTP/1.1"):
        return tuple(reads)
    return (Read(reads[0].at_s, _HEADERS), *reads)


def _framed(data: bytes) -> bytes:
    """Chunks of HTTP with their true lengths."""
    ended = data.endswith(b"0\r\n\r\n")
    body = data.removesuffix(b"0\r\n\r\n").split(b"\r\n", 1)[1].removesuffix(b"\r\n")
    return b"%x\r\n%s\r\n" % (len(body), body) + (b"0\r\n\r\n" if ended else b"")
