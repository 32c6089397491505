"""The body of a request: what every server takes, and what only some do where it is asked for.

No seed is ever sent, and a temperature only where one is configured: vLLM refuses both for
diffusion models (reason http_400).
"""

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any

from bench.backends.openai.events import Ask

Endpoint = Enum("Endpoint", ["chat", "completions"])

PATHS = {Endpoint.chat: "/chat/completions", Endpoint.completions: "/completions"}


@dataclass(frozen=True, slots=True)
class RequestKnobs:
    """How a server is asked.

    Attributes:
        model: its name on the server.
        ignore_eos: ask the server to go on after an end (vLLM; `transformers serve` refuses it).
        running_usage: ask for the count of tokens so far in every event (vLLM).
        token_ids: ask for the ids of every event's tokens (vLLM).
        temperature: None leaves it to the server.
    """

    endpoint: Endpoint
    model: str
    ignore_eos: bool = False
    running_usage: bool = True
    token_ids: bool = False
    temperature: float | None = None


def body(ask: Ask, knobs: RequestKnobs) -> bytes:
    """A streamed request as JSON.

    Raises:
        ValueError: token ids for the chat endpoint, which takes text alone.
    """
    told: dict[str, Any] = {
        "model": knobs.model,
        "max_tokens": ask.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True}
        | ({"continuous_usage_stats": True} if knobs.running_usage else {}),
    }
    if knobs.endpoint is Endpoint.completions:
        told["prompt"] = ask.prompt if isinstance(ask.prompt, str) else list(ask.prompt)
    elif isinstance(ask.prompt, str):
        told["messages"] = [{"role": "user", "content": ask.prompt}]
    else:
        raise ValueError(
            f"prompt {ask.request_id} is token ids, which the chat endpoint does not take; "
            "valid: completions"
        )
    if knobs.ignore_eos:
        told["ignore_eos"] = True
    if knobs.token_ids:
        told["return_token_ids"] = True
    if knobs.temperature is not None:
        told["temperature"] = knobs.temperature
    return json.dumps(told, ensure_ascii=False).encode()
