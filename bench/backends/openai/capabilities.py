"""What a server cannot tell, and why; a metric that needs it is None, never approximated."""

from bench.backends.capabilities import OF_POSITIONS, Capabilities, Steps
from bench.backends.openai.config import OpenAiConfig


def capabilities(config: OpenAiConfig) -> Capabilities:
    """Of a server behind HTTP."""
    counted = config.metrics_url is not None and config.canvas_length is not None
    forward = "a server tells when text is sent, not when a forward ends"
    steps = "an answer does not tell its denoising steps"
    final = "an answer shows its final tokens alone"
    noise = "a server takes neither a canvas to start from nor noise"
    missing = {
        "prefill_ms": "headers may come long before the prompt is read, text only after a canvas",
        "generation_tok_per_s_excl_prefill": "the prefill's time is unknown",
        "decode_ms": forward,
        "host_share": forward,
        "tokens_per_forward_all": forward,
        "distinct_experts_per_layer": "routers cannot be watched",
        "weight_bytes_per_step": "what a step reads is the server's own affair",
        "joules_per_token": "the server's device is not sampled",
    }
    if config.canvas_length is not None:
        missing |= {
            "step_ms": forward,
            "commit_ms": forward,
            "steps_per_canvas_median": steps,
            "steps_per_canvas_p90": steps,
            "cap_rate": steps,
            "tokens_per_forward_denoise": steps,
            "occupancy": steps,
            "repaired_share": noise,
            "preserved_share": noise,
        }
        missing |= dict.fromkeys(OF_POSITIONS, final)
    if not counted:
        missing["server_steps_per_canvas"] = (
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
