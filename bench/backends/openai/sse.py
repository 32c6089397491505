"""Server-sent events from bytes: what arrived is cut into events, whatever the network cut it into.

Works on bytes, so that half a UTF-8 character at a chunk's end waits for its other half. Lines end
in LF, CR LF or CR; a comment (a line that begins with a colon) is nobody's event. An event that no
empty line ends is none (HTML Living Standard, section 9.2, "Server-sent events").
"""

import re
from dataclasses import dataclass

MAX_EVENT_BYTES = 10_000_000
"""The longest line, and the most data of an event."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class TooLongLineError(Exception):
    """A server sent more in one event than any answer holds."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event; `name` is message where the server gave it none."""

    name: str
    data: bytes


class SseReader:
    """Takes bytes as they arrive and gives the events that they complete."""

    def __init__(self, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max = max_event_bytes
        self._buffer = bytearray()
        self._scanned = 0  # bytes of the buffer in which no line ends
        self._after_cr = False  # a LF that comes now belongs to the line before
        self._at_begin = True
        self._name = b""
        self._data: list[bytes] = []
        self._data_bytes = 0

    @property
    def pending(self) -> bool:
        """Whether an event has begun and not ended."""
        return bool(self._buffer or self._data)

    def feed(self, data: bytes) -> list[Event]:
        """The events that end in `data`.

        Raises:
            TooLongLineError: a line or an event is longer than allowed.
        """
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        self._buffer += data
        events: list[Event] = []
        begin = 0
        for end in _LINE_END.finditer(self._buffer, self._scanned):
            event = self._line(bytes(self._buffer[begin : end.start()]))
            if event is not None:
                events.append(event)
            begin = end.end()
            self._after_cr = begin == len(self._buffer) and end.group() == b"\r"
        del self._buffer[:begin]
        self._scanned = len(self._buffer)
        self._check(len(self._buffer))
        return events

    def _line(self, line: bytes) -> Event | None:
        self._check(len(line))
        if self._at_begin:
            self._at_begin = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._dispatch()
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._data.append(value)
            self._data_bytes += len(value)
            self._check(self._data_bytes)
        elif field == b"event":
            self._name = value
        return None

    def _dispatch(self) -> Event | None:
        name, data = self._name, self._data
        self._name, self._data, self._data_bytes = b"", [], 0
        if not data:
            return None
        return Event(name.decode(errors="replace") or "message", b"\n".join(data))

    def _check(self, num_bytes: int) -> None:
        if num_bytes > self._max:
            raise TooLongLineError(f"more than {self._max:,} bytes in one event")
