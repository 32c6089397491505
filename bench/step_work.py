"""What a measured point's steps had to move and compute, as plain data for its shard's note."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.backends.openai import OpenAiConfig
from bench.backends.simulated import SimulatedConfig
from bench.records import RequestRecord
from bench.schema import RunConfig
from model import PRESETS
from model.config_json import read_config

if TYPE_CHECKING:
    from model.work import OpGroup


def step_work(config: RunConfig, requests: Sequence[RequestRecord]) -> dict[str, Any] | None:
    """Op groups of one denoise or decode step at the mean prefix of the requests' steps.

    Returns:
        the groups with no expert touched, and what each expert a layer adds to the weights; None
        for a simulation and a server, which tells of no step.
    """
    if isinstance(config.backend, SimulatedConfig | OpenAiConfig):
        return None
    from model.precision import Precision  # with torch, which the others do without
    from model.work import forward_work

    name = config.model
    model = PRESETS[name] if name in PRESETS else read_config(Path(name).expanduser())
    length = model.canvas_length or 1
    prefixes = [
        request.prompt_tokens + step.canvas_index * length
        for request in requests
        for step in request.steps
        if step.phase in ("denoise", "decode")
    ]
    if not prefixes:
        return None
    context = round(sum(prefixes) / len(prefixes))

    def work(distinct_experts: int) -> "list[OpGroup]":
        return forward_work(
            model,
            "decode" if model.canvas_length is None else "denoise",
            Precision(config.precision.name),
            context=context,
            batch_size=config.batch_size,
            distinct_experts=distinct_experts,
        )

    none, one = work(0), work(1)
    return {
        "context": context,
        "groups": [asdict(group) for group in none],
        "expert_bytes": sum(group.weight_bytes for group in one)
        - sum(group.weight_bytes for group in none),
    }
