"""What a denoise step plans to move, against its floor and against steps planted with waste."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model import preset
from model.ops import Ops, make_ops
from model.precision import Precision
from model.work import forward_work
from tests.model.planned import L2_BYTES, PlannedOp, by_group, planned_ops

FULL = preset("diffusiongemma-26b-a4b")
TORCH = make_ops("torch")


def floor(context: int, precision: Precision = Precision.FP8) -> dict[str, float]:
    groups = forward_work(FULL, "denoise", precision, context=context)
    return {group.name: group.bytes for group in groups}


@pytest.fixture(scope="module")
def planned() -> list[PlannedOp]:
    return planned_ops(FULL, TORCH, Precision.FP8, context=1024)


@pytest.fixture(scope="module")
def planned_bf16() -> float:
    return total(TORCH)


def total(ops: Ops) -> float:
    """Of a step in bf16, which is quicker to prepare."""
    return sum(op.bytes for op in planned_ops(FULL, ops, Precision.BF16, context=0))


@pytest.mark.parametrize("context", [0, 1024])
def test_a_step_plans_at_most_a_tenth_more_than_its_floor(
    context: int, planned: list[PlannedOp]
) -> None:
    ops = planned if context else planned_ops(FULL, TORCH, Precision.FP8, context=context)
    ratio = sum(op.bytes for op in ops) / sum(floor(context).values())
    assert 1 < ratio <= 1.10


def test_it_is_the_path_of_a_gpu_with_fp8_units(planned: list[PlannedOp]) -> None:
    names = {op.name for op in planned}
    assert {"_scaled_mm", "_scaled_grouped_mm"} <= names
    assert not any("cpu" in name for name in names)
    experts = sum(op.bytes for op in planned if op.name == "_scaled_grouped_mm")
    assert experts == pytest.approx(floor(1024)["experts"], rel=5e-3)


def test_no_group_is_planned_below_its_floor(planned: list[PlannedOp]) -> None:
    """A counter that missed a weight, the cache or the scores would say less."""
    found = by_group(planned)
    # The floor counts 2 bytes of a weight's scale and of a router's bias; the engine differs.
    for name, least in floor(1024).items():
        assert found[name] >= 0.995 * least, name


def with_sample(waste: Callable[[Tensor], object]) -> Ops:
    def sample(raw: Tensor, *rest: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        waste(raw)
        return TORCH.sample(raw, *rest)

    return replace(TORCH, sample=sample)


def test_an_extra_pass_over_the_scores_is_seen(planned_bf16: float) -> None:
    more = total(with_sample(lambda raw: raw.float()))
    assert more - planned_bf16 == 256 * FULL.vocab_size * (2 + 4)


def test_passes_over_what_stays_in_cache_are_free_and_over_more_are_not(
    planned_bf16: float,
) -> None:
    row_bytes = 4 * FULL.vocab_size
    fitting = L2_BYTES // row_bytes

    def extra(rows: int) -> float:
        def passes(raw: Tensor) -> None:
            wide = raw.new_empty((rows, FULL.vocab_size), dtype=torch.float32)
            for _ in range(3):
                wide.mul_(2)

        return total(with_sample(passes)) - planned_bf16

    assert extra(fitting) <= fitting * row_bytes  # read once
    assert extra(4 * fitting) == pytest.approx(4 * fitting * row_bytes * 6, rel=0.05)


def test_many_small_tensors_together_overflow_the_cache(planned_bf16: float) -> None:
    """No tensor is large, but all are kept."""

    def hoard(raw: Tensor) -> None:
        kept = [raw[:, row].float() for row in range(128)]
        for each in kept:
            each.add_(1)

    extra = total(with_sample(hoard)) - planned_bf16
    assert extra > 0.9 * 128 * FULL.vocab_size * (2 + 4 + 4)


def test_layers_count_as_often_as_the_model_has_them() -> None:
    def layers() -> Iterator[float]:
        for count in (1, 3):
            types = ("sliding",) * 5 * count + ("full",) * count
            config = replace(FULL, layer_types=types)
            found = by_group(planned_ops(config, TORCH, Precision.BF16, context=0))
            yield sum(found[name] for name in ("projections", "attention", "dense", "experts"))

    one, three = layers()
    assert three == pytest.approx(3 * one, rel=1e-6)


def test_experts_count_as_many_as_are_touched() -> None:
    """Three tokens reach 24 of 128 experts at most."""
    few = replace(FULL, canvas_length=3)
    found = by_group(planned_ops(few, TORCH, Precision.BF16, context=0))
    least = {g.name: g.bytes for g in forward_work(few, "denoise", Precision.BF16, context=0)}
    assert found["experts"] == pytest.approx(least["experts"], rel=0.01)
    assert found["experts"] < 24 / 128 * floor(0, Precision.BF16)["experts"]
