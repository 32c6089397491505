"""What a measured point's steps had to move and compute, as plain data for its shard's note."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from bench.backends.openai import OpenAiConfig
from bench.backends.simulated import SimulatedConfig
from bench.phases import FUSED
from bench.records import RequestRecord
from bench.schema import BlockDiffusionConfig, RunConfig
from model import ModelConfig
from model.config_json import architecture

if TYPE_CHECKING:
    from model.work import ForwardKind, OpGroup


def step_work(config: RunConfig, requests: Iterable[RequestRecord]) -> dict[str, Any] | None:
    """Op groups of one denoise or decode step at the mean prefix of the requests' steps.

    Returns:
        the groups with no expert touched, and what each expert a layer adds to the weights; the
        same of a fused forward as `fused`, None where there was none. None for a simulation and a
        server, which tells of no step.
    """
    if isinstance(config.backend, SimulatedConfig | OpenAiConfig):
        return None
    model = architecture(config.model)
    step = _work(config, model, requests, "decode" if model.canvas_length is None else "denoise")
    return step and step | {FUSED: _work(config, model, requests, FUSED)}


def _work(
    config: RunConfig, model: ModelConfig, requests: Iterable[RequestRecord], kind: "ForwardKind"
) -> dict[str, Any] | None:
    """Of the mean forward of a kind; None where none ran."""
    from model.precision import Precision  # with torch, which the others do without
    from model.vocabulary import Vocabulary
    from model.work import forward_work

    length = model.canvas_length or 1
    prefixes = [
        request.prompt_tokens + (step.canvas_index - (kind == FUSED)) * length
        for request in requests
        for step in request.steps
        if step.phase == kind
    ]
    if not prefixes:
        return None
    context = round(sum(prefixes) / len(prefixes))

    sampler = config.sampler
    feeds_back = not isinstance(sampler, BlockDiffusionConfig) or sampler.self_conditioning

    def work(distinct_experts: int) -> "list[OpGroup]":
        return forward_work(
            model,
            kind,
            Precision(config.precision.name),
            context=context,
            batch_size=config.batch_size,
            distinct_experts=distinct_experts,
            vocabulary=Vocabulary(config.vocabulary.name),
            self_conditioning=feeds_back,
        )

    none, one = work(0), work(1)
    return {
        "context": context,
        "groups": [asdict(group) for group in none],
        "expert_bytes": sum(group.weight_bytes for group in one)
        - sum(group.weight_bytes for group in none),
    }
