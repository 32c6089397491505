"""Reads one stream's events into an answer; keeps no event and no bytes."""

import json
from typing import Any

from bench.backends.openai.events import Answer, Chunk, Usage
from bench.backends.openai.judge import StreamError, message
from bench.backends.openai.sse import Event

_DONE = b"[DONE]"


class Transcript:
    """Fills an answer, event by event. Of several choices the first counts: one was asked for."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._text: list[str] = []
        self._reasoning: list[str] = []

    def read(self, event: Event, at_s: float) -> None:
        """Takes an event that arrived at `at_s`.

        Raises:
            StreamError: in_band_error, malformed_event.
        """
        if event.data.strip() == _DONE:
            self._answer.done = True
            return
        told = _parsed(event)
        if told.get("usage") is not None:
            self._answer.usage = _usage(told["usage"])
        choices = told.get("choices") or []
        if not isinstance(choices, list) or not all(isinstance(c, dict) for c in choices):
            raise StreamError("malformed_event", f"choices is {choices!r}")
        for choice in choices:
            if choice.get("index", 0) == 0:
                self._choice(choice, at_s, told.get("usage") is not None)

    def close(self) -> None:
        """Puts the text together; to be called once, whatever ended the stream."""
        self._answer.text = "".join(self._text)
        self._answer.reasoning = "".join(self._reasoning)

    def _choice(self, choice: dict[str, Any], at_s: float, has_usage: bool) -> None:
        delta = choice.get("delta") or {}
        if not isinstance(delta, dict):
            raise StreamError("malformed_event", f"delta is {delta!r}")
        text = _text(delta.get("content")) + _text(choice.get("text"))
        reasoning = _text(delta.get("reasoning_content") or delta.get("reasoning"))
        self._text.append(text)
        self._reasoning.append(reasoning)
        usage = self._answer.usage
        self._answer.chunks.append(
            Chunk(
                at_s=at_s,
                characters=len(text) + len(reasoning),
                running=usage.completion_tokens if usage is not None and has_usage else None,
                ids=_ids(choice.get("token_ids")),
            )
        )
        if choice.get("finish_reason") is not None:
            self._answer.finish_reason = str(choice["finish_reason"])


def _parsed(event: Event) -> dict[str, Any]:
    """The event's object.

    An error is looked for first, as servers splice its words in unescaped or send it under an
    event's name.
    """
    if event.name == "error" or event.data.lstrip().startswith(b'{"error"'):
        raise StreamError("in_band_error", message(event.data))
    try:
        told = json.loads(event.data)
    except ValueError as error:  # bytes that are no UTF-8 included
        raise StreamError("malformed_event", f"{error} in {event.data[:80]!r}") from None
    except RecursionError:
        raise StreamError("malformed_event", "nested too deeply") from None
    if not isinstance(told, dict):
        raise StreamError("malformed_event", f"no object: {event.data[:80]!r}")
    if told.get("error"):
        raise StreamError("in_band_error", message(event.data))
    return told


def _usage(told: Any) -> Usage:
    if not isinstance(told, dict):
        raise StreamError("malformed_event", f"usage is {told!r}")
    return Usage(_count(told.get("prompt_tokens")), _count(told.get("completion_tokens")))


def _count(told: Any) -> int | None:
    """A number of tokens; what is none is unknown."""
    whole = isinstance(told, int) and not isinstance(told, bool)
    return told if whole and told >= 0 else None


def _ids(told: Any) -> tuple[int, ...] | None:
    if told is None:
        return None
    if not isinstance(told, list) or not all(isinstance(each, int) for each in told):
        raise StreamError("malformed_event", f"token_ids is {told!r}")
    return tuple(told)


def _text(told: Any) -> str:
    if told is None:
        return ""
    if not isinstance(told, str):
        raise StreamError("malformed_event", f"text is {told!r}")
    return told
