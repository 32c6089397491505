"""Watching the routers: the counts are right, and watching changes nothing."""

import pytest
import torch

from model import DiffusionSampling, GreedySampling, generate, load
from model.routing import observed_routing
from model.sampling import BlockDelivered, StepDone

PROMPT = [2, 10, 11, 12, 13]


@pytest.mark.parametrize(("precision", "kernels"), [("fp32", "torch"), ("bf16", "torch")])
def test_every_layer_of_every_forward_is_counted(precision: str, kernels: str) -> None:
    model = load("tiny-diffusion", precision=precision, kernels=kernels).model
    config = model.config

    def tokens_and_counts(watch: bool) -> tuple[list[int], list[int]]:
        counts: list[int] = []
        with observed_routing(model) as touched:
            if not watch:
                touched = []
            for event in generate(model, [PROMPT], DiffusionSampling(), max_new_tokens=32):
                if isinstance(event, StepDone):
                    counts += [int(experts.sum()) for experts in touched]
                    assert len(touched) in (0, config.num_layers)
                    touched.clear()
                elif isinstance(event, BlockDelivered):
                    return event.rows[0].tokens, counts
        raise AssertionError

    watched, counts = tokens_and_counts(True)
    assert watched == tokens_and_counts(False)[0]
    assert counts
    assert all(config.moe.top_k <= count <= config.moe.num_experts for count in counts)
    assert not any(module._forward_hooks for module in model.modules())


def test_folded_and_plain_routers_touch_the_same_experts() -> None:
    found = []
    for kernels in ("reference", "torch"):
        model = load("tiny-diffusion", kernels=kernels).model
        with observed_routing(model) as touched:
            next(generate(model, [PROMPT], DiffusionSampling(), max_new_tokens=32))
        found.append(torch.stack(touched))
    assert torch.equal(*found)


def test_one_autoregressive_token_touches_its_top_k() -> None:
    model = load("tiny-autoregressive", weights="dummy", precision="bf16").model
    events = generate(model, [PROMPT], GreedySampling(), max_new_tokens=3)
    with observed_routing(model) as touched:
        for event in events:
            if isinstance(event, StepDone) and event.phase == "decode":
                assert [int(e.sum()) for e in touched] == [2] * model.config.num_layers
            touched.clear()
