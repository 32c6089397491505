"""The end of a step: what it decides, and whose code decides it."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model import DiffusionSampling, generate, load
from model.ops import make_ops, reference
from model.sampling import BlockDelivered, TraceLevel
from model.sampling.block_diffusion import Denoiser
from model.sampling.policies import EntropyBound, StableAndConfident

TORCH = make_ops("torch")


def test_a_step_is_settled_as_by_hand() -> None:
    """Three rows: the first goes on, the second was done before, the third stops now."""
    entropy = torch.tensor([[0.25, 0.5, 0.125, 0.5], [9.0] * 4, [0.0] * 4])
    candidate, renoise = torch.full((3, 4), 10), torch.full((3, 4), 20)
    argmax = torch.tensor([[1, 2, 3, 4], [5] * 4, [6] * 4])
    last = torch.tensor([[1, 2, 3, 0], [7] * 4, [6] * 4])
    canvas, count = torch.full((3, 4), 30), torch.tensor([3, 3, 3], dtype=torch.int32)
    done = torch.tensor([False, True, False])
    policies = EntropyBound(0.375), StableAndConfident(4, 0.005)
    given = entropy, candidate, argmax, renoise, canvas, last, count, count, done
    accepted, next_canvas, next_argmax, unchanged, steps, stopped = TORCH.settle(*policies, *given)
    # Of row 0 the entropies before each are 0.125, 0.375, 0 and 0.875.
    assert accepted.tolist() == [[True, True, True, False], [True] + [False] * 3, [True] * 4]
    assert next_canvas.tolist() == [[10, 10, 10, 20], [30] * 4, [10] * 4]
    assert next_argmax.tolist() == [[1, 2, 3, 4], [7] * 4, [6] * 4]
    assert unchanged.tolist() == [0, 4, 4]
    assert steps.tolist() == [4, 3, 4]
    assert stopped.tolist() == [False, True, True]
    assert TORCH.settle(policies[0], None, *given)[5] is done


class EveryOther:
    """An acceptance of somebody else's."""

    def __call__(self, entropy_BL: Tensor) -> Tensor:
        return (torch.arange(entropy_BL.shape[1]) % 2 == 0).expand_as(entropy_BL)


class AtOnce:
    """An early stop of somebody else's."""

    def __call__(self, unchanged_steps_B: Tensor, entropy_BL: Tensor) -> Tensor:
        return torch.ones_like(unchanged_steps_B, dtype=torch.bool)


class Certain(EntropyBound):
    """A shipped policy with another rule."""

    def __call__(self, entropy_BL: Tensor) -> Tensor:
        return torch.ones_like(entropy_BL, dtype=torch.bool)


@pytest.mark.parametrize(
    ("policies", "share", "num_steps"),
    [
        ({}, None, None),
        ({"_stop": None}, None, 4),
        ({"_accept": EveryOther()}, 0.5, None),
        ({"_accept": Certain(0.1)}, 1.0, None),
        ({"_stop": AtOnce()}, None, 1),
    ],
    ids=["shipped", "shipped, forced", "accept", "subclass", "stop"],
)
def test_the_table_settles_what_it_knows_and_torch_everything_else(
    policies: dict[str, Any],
    share: float | None,
    num_steps: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A table with a kernel in the place of its `settle`; policies in the place of the shipped."""
    calls = []

    def kernel(accept: Any, stop: Any, *rows: Tensor) -> Any:
        calls.append((accept, stop))
        return reference.settle(accept, stop, *rows)

    made = Denoiser.__init__

    def with_policies(self: Denoiser, *given: Any) -> None:
        made(self, *given)
        self.__dict__.update(policies)

    monkeypatch.setattr(Denoiser, "__init__", with_policies)
    loaded = load("tiny-diffusion")
    loaded.model.ops = replace(TORCH, settle=kernel)
    events = generate(
        loaded.model,
        [[2, 9, 10, 11]],
        DiffusionSampling(max_denoising_steps=4),
        max_new_tokens=32,
        trace=TraceLevel.POSITIONS,
    )
    (block,) = (event for event in events if isinstance(event, BlockDelivered))
    steps = block.rows[0].steps
    is_shipped = all(policy is None for policy in policies.values())
    assert len(calls) == (steps if is_shipped else 0)
    assert num_steps in (None, steps)
    assert block.trace is not None
    assert block.trace.accepted is not None
    assert share in (None, block.trace.accepted.float().mean())
