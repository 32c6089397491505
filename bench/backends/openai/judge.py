"""What a stream's end means: an answer, or a failure with a reason.

Only a `finish_reason` makes an answer complete. A clean end without one is none, `[DONE]` is a word
that servers also send after an error, and an event with `error` is an error whatever follows: vLLM
answers 200 and ends cleanly when its engine dies, `transformers serve` sends no `[DONE]` at all.
Once the finish reason is there, bytes missing behind it take nothing from the answer.
"""

import json
import re
from enum import Enum

import httpcore2 as httpcore

from bench.backends.openai.events import Failure
from bench.backends.openai.network import ConnectRefusedError, TlsRefusedError

FINISHES = {"stop": "eos", "length": "length"}
"""A server's finish reasons that end an answer, and ours for them. `stop` may also be a stop
string: no request here sets one."""

_DETAIL_CHARACTERS = 500


class Wait(Enum):
    """What a request waits for; each has its deadline, and a reason for missing it."""

    CONNECT = "connect_timeout"
    FIRST_BYTE = "no_first_byte"
    GAP = "stalled"
    WHOLE = "too_slow"


class StreamError(Exception):
    """A request ends here."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.failure = Failure(reason, one_line(detail))


def one_line(text: str) -> str:
    """A server's words in one line of bounded length."""
    return " ".join(text.split())[:_DETAIL_CHARACTERS]


def of_end(finish_reason: str | None, *, done: bool, pending: bool) -> Failure | None:
    """Of a body that ended cleanly.

    Args:
        finish_reason: the server's, None where no event had one.
        done: whether `[DONE]` came.
        pending: whether the last event was cut.
    """
    if finish_reason in FINISHES:
        return None
    if finish_reason is not None:
        known = re.fullmatch(r"[a-z_]{1,32}", finish_reason)
        return Failure(f"finish_{finish_reason if known else 'unknown'}", one_line(finish_reason))
    how = "with [DONE]" if done else "within an event" if pending else "without [DONE]"
    return Failure("no_finish_reason", f"the stream ended {how}")


def of_status(status: int, body: bytes) -> Failure:
    """Of an answer other than 200, with the message in whatever shape it came."""
    return Failure(f"http_{status}", one_line(message(body)) or "no message")


def message(body: bytes) -> str:
    """The words of an error: {"error": {"message"}}, {"error": text}, {"detail"}, or plain text."""
    text = body.decode(errors="replace")
    try:
        told = json.loads(text, strict=False)
    except ValueError:
        return text
    for key in ("error", "detail", "message"):
        if isinstance(told, dict) and told.get(key):
            inner = told[key]
            if isinstance(inner, dict) and isinstance(inner.get("message"), str):
                return str(inner["message"])
            return inner if isinstance(inner, str) else json.dumps(inner)
    return text


HTTP_ERRORS = (
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.TimeoutException,
    httpcore.UnsupportedProtocol,
)
"""What the HTTP library raises."""


def of_error(error: Exception, *, begun: bool) -> Failure:
    """Of what the HTTP library raised.

    Args:
        begun: whether the response had begun.
    """
    detail = one_line(f"{type(error).__name__}: {error}")
    if isinstance(error, httpcore.ConnectTimeout):
        return Failure(Wait.CONNECT.value, detail)
    if isinstance(error, httpcore.ConnectError):
        if isinstance(error, TlsRefusedError):
            return Failure("tls_refused", detail)
        refused = isinstance(error, ConnectRefusedError)
        return Failure("connect_refused" if refused else "connect_failed", detail)
    # The library has one class for bytes that are no HTTP and for bytes that lack.
    cut = "peer closed connection" in str(error) or "disconnected" in str(error)
    if isinstance(error, httpcore.NetworkError) or cut:
        return Failure("reset" if begun else "disconnected", detail)
    return Failure("protocol_error", detail)
