"""What a server cannot tell, and why; a metric that needs it is None, never approximated."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from bench.backends.openai.config import OpenAiConfig


class Steps(Enum):
    """How finely denoising steps are known."""

    PER_POSITION = "per_position"
    PER_REQUEST = "per_request"
    AGGREGATE = "aggregate"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend gives.

    Attributes:
        missing: metrics it cannot give, each with the reason.
    """

    steps: Steps
    device_time: bool
    seeds: bool
    step_cap: bool
    batch: bool
    missing: Mapping[str, str]


def capabilities(config: OpenAiConfig) -> Capabilities:
    """Of a server behind HTTP."""
    counted = config.metrics_url is not None and config.canvas_length is not None
    forward = "a server tells when text is sent, not when a forward ends"
    steps = "an answer does not tell its denoising steps"
    noise = "a server takes neither a canvas to start from nor noise"
    missing = {
        "prefill_ms": "headers may come long before the prompt is read, text only after a canvas",
        "generation_tok_per_s_excl_prefill": "the prefill's time is unknown",
        "step_ms": forward,
        "commit_ms": forward,
        "decode_ms": forward,
        "host_share": forward,
        "steps_per_canvas_p90": steps,
        "cap_rate": steps,
        "revised_after_accept": "an answer shows its final tokens alone",
        "net_correction": "an answer shows its final tokens alone",
        "repaired_share": noise,
        "preserved_share": noise,
        "distinct_experts_per_layer": "routers cannot be watched",
        "weight_bytes_per_step": "what a step reads is the server's own affair",
    }
    if not counted:
        missing["steps_per_canvas_mean"] = (
            "backend.metrics_url is null"
            if config.metrics_url is None
            else "backend.canvas_length is null"
        )
    return Capabilities(
        steps=Steps.AGGREGATE if counted else Steps.NONE,
        device_time=False,
        seeds=False,
        step_cap=False,
        batch=False,
        missing=missing,
    )
