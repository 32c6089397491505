"""Self-conditioning without what no position believes in: the operation, the knob, and what of the
tiny model's beliefs is left out at which price.

The table of the last: `pytest -m slow -s tests/model/test_compacted.py`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from bench.backends.native import NativeSession
from bench.requests import run_batch
from bench.workloads import make_workload
from model import DiffusionSampling, EosPolicy, TraceLevel, generate, load
from model.diffusion import DiffusionTransformer
from model.execution import Compiled
from model.ops import make_ops, reference
from model.sampling import BlockDelivered
from model.transformer import StepWrapper, Unwrapped

TORCH = make_ops("torch")
LEAST = torch.tensor(0.01)


def believing(shape: tuple[int, ...], num_tokens: int, dtype: torch.dtype) -> Tensor:
    """Beliefs in at most so many tokens; each position's others share a thousandth."""
    torch.manual_seed(num_tokens)
    p = torch.full(shape, 0.001 / shape[-1])
    tokens = torch.randperm(shape[-1])[:num_tokens]
    if num_tokens:
        p[..., tokens] = torch.softmax(torch.randn(*shape[:-1], num_tokens) * 4, -1)
    return p.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(
    ("shape", "size", "num_tokens"),
    [((1, 1, 1), 3, 1), ((1, 7, 40), 5, 0), ((2, 6, 41), 8, 1), ((3, 5, 64), 9, 9)],
)
def test_selected_columns_give_what_masked_ones_do(
    shape: tuple[int, ...], size: int, num_tokens: int, dtype: torch.dtype
) -> None:
    p, weight = believing(shape, num_tokens, dtype), torch.randn(shape[-1], size).to(dtype)
    found, want = TORCH.soft_embedding(p, weight, LEAST), reference.soft_embedding(p, weight, LEAST)
    assert found.dtype is want.dtype is dtype
    assert found.shape == (*shape[:-1], size)
    tolerance = 1e-6 if dtype is torch.float32 else 1e-2
    torch.testing.assert_close(found, want, rtol=tolerance, atol=tolerance)
    by_hand = sum(p[..., [v]] * weight[v] for v in range(shape[-1]) if p[..., v].max() >= LEAST)
    torch.testing.assert_close(want, torch.zeros_like(want) + by_hand, rtol=0.02, atol=0.02)


def test_a_token_is_in_play_for_all_rows_where_one_believes_in_it_just_enough() -> None:
    p = torch.zeros(2, 3, 5)
    p[1, 2, 4], p[0, 0, 1] = 0.25, 0.25 - 2**-20
    p[0, 1, 4] = 0.125  # of a token that another row keeps
    assert reference.in_play(p, torch.tensor(0.25)).tolist() == [False] * 4 + [True]
    for ops in (reference, TORCH):
        found = ops.soft_embedding(p, torch.ones(5, 1), torch.tensor(0.25))
        assert found[..., 0].tolist() == [[0, 0.125, 0], [0, 0, 0.25]]


@pytest.mark.parametrize("ops", [reference, TORCH], ids=["reference", "torch"])
def test_a_nan_is_not_left_out(ops: Any) -> None:
    p = torch.zeros(1, 2, 6)
    p[0, 1, 3] = float("nan")
    found = ops.soft_embedding(p, torch.ones(6, 2), LEAST)
    assert found[0].isnan().tolist() == [[False, False], [True, True]]


def test_what_is_left_out_is_counted() -> None:
    p = torch.tensor([[[0.5, 0.25, 0.25, 0.0], [0.5, 0.375, 0.0, 0.125]]])
    kept, dropped = reference.left_out(p, torch.tensor(0.3))
    assert kept == 2
    assert dropped.tolist() == [[0.25, 0.125]]
    kept, dropped = reference.left_out(p, torch.tensor(0.25))
    assert kept == 3
    assert dropped.tolist() == [[0.0, 0.125]]


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"min_belief": -0.1}, "sampler.min_belief is -0.1; it must be >= 0 and < 1"),
        ({"min_belief": 1.0}, "sampler.min_belief is 1.0; it must be >= 0 and < 1"),
        ({"min_belief": float("nan")}, "sampler.min_belief is nan; it must be >= 0 and < 1"),
        (
            {"min_belief": 0.1, "self_conditioning": False},
            "sampler.min_belief is 0.1; it must be 0 with self_conditioning=False",
        ),
    ],
)
def test_a_knob_that_cannot_be_is_named(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DiffusionSampling(**knobs)


def test_an_fp8_vocabulary_leaves_nothing_out() -> None:
    model = load("tiny-diffusion", precision="bf16", vocabulary="fp8").model
    with pytest.raises(ValueError, match=r"is 0.1; it must be 0 with an fp8 vocabulary"):
        next(iter(generate(model, [[2, 8]], DiffusionSampling(min_belief=0.1), max_new_tokens=1)))


@pytest.fixture(scope="module")
def model() -> DiffusionTransformer:
    found = load("tiny-diffusion").model
    assert isinstance(found, DiffusionTransformer)
    return found


@contextmanager
def with_ops(model: DiffusionTransformer, **ops: Any) -> Iterator[None]:
    own = model.ops
    model.ops = replace(own, **ops)
    try:
        yield
    finally:
        model.ops = own


def canvases(
    model: DiffusionTransformer, min_belief: float, wrapper: StepWrapper | None = None
) -> list[Tensor]:
    """Mean entropies of every step of two canvases, for two prompts."""
    own, model.wrap_step = model.wrap_step, wrapper or Unwrapped()
    try:
        events = generate(
            model,
            [[2, 8, 9, 10], [2, 11, 12]],
            DiffusionSampling(max_denoising_steps=4, early_stop=False, min_belief=min_belief),
            max_new_tokens=40,
            eos_policy=EosPolicy.IGNORE,
            trace=TraceLevel.POSITIONS,
        )
        delivered = [event for event in events if isinstance(event, BlockDelivered)]
    finally:
        model.wrap_step = own
    return [block.trace.entropy for block in delivered if block.trace is not None]


def test_at_zero_the_dense_product_runs_and_above_the_operation(
    model: DiffusionTransformer,
) -> None:
    def never(*_: object) -> Tensor:
        raise AssertionError("compacted")

    def dense(p_BLV: Tensor, weight_VD: Tensor, _: Tensor) -> Tensor:
        return torch.matmul(p_BLV, weight_VD)

    with with_ops(model, soft_embedding=never):
        exact = canvases(model, 0.0)
        with pytest.raises(AssertionError, match="compacted"):
            canvases(model, 0.01)
    with with_ops(model, soft_embedding=dense):
        assert all(map(torch.equal, canvases(model, 0.01), exact))
    for least, close in ((1e-9, True), (0.3, False)):
        found = canvases(model, least)
        assert torch.equal(found[0][0], exact[0][0])  # nothing is believed before a first step
        assert torch.allclose(found[0][1], exact[0][1], rtol=0.02, atol=0.02) is close


def test_one_graph_of_fixed_shapes_serves_all_values(
    model: DiffusionTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced without a break, so that no shape hangs on a belief; inductor itself is left out."""
    compile_ = torch.compile

    def trace_only(step: Callable[..., Any], **knobs: Any) -> Callable[..., Any]:
        return compile_(step, backend="eager", dynamic=knobs["dynamic"], fullgraph=True)

    monkeypatch.setattr(torch, "compile", trace_only)
    compiled, before = Compiled(model.device), counters["stats"]["unique_graphs"]
    for least in (1e-6, 0.3):
        found, want = canvases(model, least, compiled), canvases(model, least)
        torch.testing.assert_close(found[0], want[0], rtol=0.02, atol=0.02)
    assert counters["stats"]["unique_graphs"] - before == 1


@dataclass(frozen=True)
class Study:
    """Answers of the tiny model to its own tasks with so much left out.

    Attributes:
        kept: share of the vocabulary in play, by denoise step of one prompt.
        dropped: largest probability that a position of the step lost.
    """

    correct: float
    steps: float
    kept: np.ndarray[Any, Any]
    dropped: np.ndarray[Any, Any]


def study(min_belief: float, num_prompts: int, measured: float | None = None) -> Study:
    """Every prompt by itself, in bf16.

    Args:
        measured: what is counted, where it is not what is left out.
    """
    loaded = load("tiny-diffusion", precision="bf16")
    model, least = loaded.model, torch.tensor(min_belief if measured is None else measured)
    kept: list[float] = []
    dropped: list[float] = []

    def sample(*given: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        found = TORCH.sample(*given)
        tokens, lost_BL = reference.left_out(found[3], least)
        kept.append(tokens.item() / found[3].shape[-1])
        dropped.append(lost_BL.max().item())
        return found

    session = NativeSession(
        loaded=loaded,
        sampling=DiffusionSampling(min_belief=min_belief),
        max_new_tokens=64,
        eos_policy=EosPolicy.STOP,
        trace=TraceLevel.COUNTS,
        seed=0,
    )
    with with_ops(model, sample=sample):
        found = [
            record
            for prompt in make_workload("tiny", num_prompts).prompts
            for record in run_batch(session, [prompt], process_id=0, repeat=0)
        ]
    steps = [c.steps for record in found for c in record.canvases if c.steps is not None]
    assert len(kept) == sum(steps)
    right = float(np.mean([bool(record.correct) for record in found]))
    return Study(right, float(np.mean(steps)), np.array(kept), np.array(dropped))


def test_little_is_lost_and_much_is_left_out() -> None:
    exact, without = study(0.0, 12, measured=1e-3), study(1e-3, 12)
    assert exact.correct - without.correct <= 1 / 12
    assert abs(without.steps - exact.steps) <= 2
    for each in (exact, without):
        assert each.kept.min() < each.kept.max() < 0.5
        tokens_left_out = 64 * (1 - each.kept)
        assert (each.dropped <= 1e-3 * tokens_left_out).all()
        assert each.dropped.max() > 0


@pytest.mark.slow
def test_the_table() -> None:
    print("\nmin_belief  kept %: mean  median  least  dropped mass: mean  most  steps  correct %")
    for least in (0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        one = study(least, 150)
        kept = 100 * one.kept
        print(
            f"{least:10g}  {kept.mean():12.1f}  {np.median(kept):6.1f}  {kept.min():5.1f}  "
            f"{one.dropped.mean():18.2e}  {one.dropped.max():.2e}  {one.steps:5.2f}  "
            f"{100 * one.correct:9.1f}"
        )
        assert one.correct >= 0.85
