"""What is asked of a server and what came of it: plain data.

Times are seconds on `time.perf_counter` since the request was handed to the client, taken right
after the read that brought the bytes.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

Row = TypeVar("Row", bound=tuple[Any, ...])


class Columns(list[Row]):
    """Named tuples, pickled as columns: in a tenth of the time that they take one by one."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (_rows, (type(self[0]), tuple(zip(*self, strict=True)))) if self else (Columns, ())


def _rows(kind: Any, columns: Iterable[Iterable[Any]]) -> Columns[Any]:
    return Columns(map(kind._make, zip(*columns, strict=True)))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a request has no answer.

    Attributes:
        reason: connect_refused, connect_failed, connect_timeout, tls_refused, no_first_byte,
            stalled, too_slow, disconnected (before an answer began), reset (within one),
            protocol_error, redirect_refused, http_NNN (a status other than 200), not_a_stream,
            encoded, malformed_event, too_long_line, in_band_error, no_finish_reason,
            finish_REASON (any other than stop and length), not_sent (nobody had answered before).
        detail: what the server or the system said, cut to one line.
    """

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Ask:
    """One request.

    Attributes:
        prompt: text, or token ids, which only the completions endpoint takes.
    """

    request_id: int
    prompt: str | tuple[int, ...]
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counts them."""

    prompt_tokens: int | None
    completion_tokens: int | None


class Chunk(NamedTuple):
    """An event with a choice: a role, some tokens' text, a whole canvas, or only an end.

    Attributes:
        characters: of its text, visible or reasoning.
        running: completion tokens up to and including this chunk, where the server told.
        ids: of its tokens, None where the server sent none.
    """

    at_s: float
    characters: int
    running: int | None = None
    ids: tuple[int, ...] | None = None


@dataclass(slots=True)
class Answer:
    """What became of a request.

    Attributes:
        sent_s: on `time.perf_counter`; all other times count from here.
        opened_s: the response's headers were complete.
        ended_s: the last byte, or the failure.
        chunks: in order of arrival.
        reasoning: what the server marked as reasoning, which is no part of `text`.
        finish_reason: the server's own word.
        done: whether `[DONE]` came; it proves nothing.
        failure: None for a complete answer.
    """

    request_id: int
    max_tokens: int
    sent_s: float
    opened_s: float | None = None
    ended_s: float = 0.0
    chunks: list[Chunk] = field(default_factory=Columns)
    text: str = ""
    reasoning: str = ""
    usage: Usage | None = None
    finish_reason: str | None = None
    done: bool = False
    failure: Failure | None = None
