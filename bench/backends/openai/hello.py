"""A server before it is asked anything: is it there, does it serve the model, what is it called.

Only a server that is not there, that refuses the key or that lists other models ends a run; what it
says of itself is kept as its word.
"""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from bench.backends.openai.client import read_key, without
from bench.backends.openai.config import OpenAiConfig
from bench.backends.openai.fetch import FetchError, Header, Page, get
from bench.backends.openai.judge import one_line

_NOT_THERE = ("connect_refused", "connect_failed", "connect_timeout", "tls_refused")
_LONGEST_WORD = 60
_MOST_NAMES = 8


def greet(config: OpenAiConfig) -> str | None:
    """What the server says it is, as "vllm 0.19.0"; None where it says nothing.

    Raises:
        ValueError: it cannot be reached, refuses the key, or does not serve the model.
    """
    return asyncio.run(_greet(config))


async def _greet(config: OpenAiConfig) -> str | None:
    key = read_key(config.key_variable)
    headers = [] if key is None else [("Authorization", f"Bearer {key}")]
    clean = without(key)
    url = config.url.rstrip("/")
    try:
        page = await get(f"{url}/models", config.connect_s, headers)
    except FetchError as error:
        if error.reason not in _NOT_THERE:
            return None  # it may be busy, or know no such page; requests tell the rest
        raise ValueError(
            f"backend.url={config.url}: {error.reason}: {clean(str(error))}; valid: where an "
            "OpenAI-compatible server listens"
        ) from None
    if page.status in (401, 403):
        raise ValueError(
            f"backend.url={config.url}: http_{page.status}; valid: the server's key in a variable "
            f"that backend.key_variable names (now {config.key_variable or 'null'})"
        )
    models = _models(page)
    names = [clean(_word(model.get("id"))) for model in models]
    if names and config.served_model not in names:
        shown = ", ".join(names[:_MOST_NAMES])
        raise ValueError(f"backend.served_model is {config.served_model!r}; served: {shown}")
    owners = [_word(m.get("owned_by")) for m in models if m.get("id") == config.served_model]
    said = [*owners[:1], await _version(url, config.connect_s, headers)]
    return clean(" ".join(word for word in said if word)) or None


async def _version(url: str, deadline_s: float, headers: list[Header]) -> str:
    """As vLLM tells it beside its API."""
    parts = urlsplit(url)
    try:
        page = await get(f"{parts.scheme}://{parts.netloc}/version", deadline_s, headers)
    except FetchError:
        return ""
    told = _object(page)
    return _word(told.get("version"))


def _models(page: Page) -> list[dict[str, Any]]:
    data = _object(page).get("data")
    return [each for each in data if isinstance(each, dict)] if isinstance(data, list) else []


def _object(page: Page) -> dict[str, Any]:
    try:
        told = json.loads(page.content) if page.status == 200 else {}
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _word(told: Any) -> str:
    """A server's word in one short line of printable characters; empty for anything else."""
    line = one_line(told) if isinstance(told, str) else ""
    return "".join(c for c in line if c.isprintable())[:_LONGEST_WORD]
