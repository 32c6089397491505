"""Whether a server is still there: a load that it left is not sent to its end.

Each request has deadlines of its own, but hundreds that wait for them one after the other take
hours. So once a request was not reached by the server, and as many as `_TRIES` that were sent
afterwards were not either, the rest is not sent. They count as failed, with the reason.
"""

import time

from bench.backends.openai.events import Answer, Ask, Failure
from bench.backends.openai.judge import Wait

NOT_SENT = "not_sent"
_TRIES = 3
_NOBODY = (
    *("connect_refused", "connect_failed", "tls_refused", "disconnected", "http_504"),
    *(Wait.CONNECT.value, Wait.FIRST_BYTE.value),
)
"""Reasons of a failure that say that no server takes requests, as far as a client can see."""


class Patience:
    """Of all loads sent to one server; one after a load that was given up has less of it.

    Attributes:
        over: why no more is sent of this load, None as long as it goes on.
    """

    def __init__(self) -> None:
        self.over: str | None = None
        self._tries = _TRIES
        self._since_s: float | None = None
        self._failures = 0

    def begin(self) -> None:
        """Another load: a server may be back."""
        if self.over is not None:
            self._tries = 0
        self.over, self._since_s, self._failures = None, None, 0

    def note(self, answer: Answer) -> None:
        """Told of every request that was sent and ended."""
        failure = answer.failure
        if failure is None or failure.reason not in _NOBODY:
            self._tries, self._since_s = _TRIES, None
        elif self._since_s is None:
            self._since_s, self._failures = time.perf_counter(), 0
        elif answer.sent_s >= self._since_s:
            self._failures += 1
        if self._since_s is not None and self._failures >= self._tries and failure is not None:
            self.over = f"nobody answered {self._failures + 1} in a row, the last {failure.reason}"

    def unsent(self, ask: Ask) -> Answer:
        """In place of the answer to a request that is not sent any more."""
        assert self.over is not None
        answer = Answer(ask.request_id, ask.max_tokens, sent_s=time.perf_counter())
        answer.failure = Failure(NOT_SENT, self.over)
        return answer
