"""A forward's work: totals of the released shape, and what must scale with what."""

import pytest

from model import preset
from model.precision import Precision
from model.work import expected_distinct_experts, forward_work

FULL, SIBLING = preset("diffusiongemma-26b-a4b"), preset("gemma-4-26b-a4b")


@pytest.mark.parametrize(
    ("precision", "gigabytes", "gflop"),
    [(Precision.BF16, 51.98, 2533), (Precision.FP8, 27.5, 2533)],
)
def test_a_denoise_step_of_the_released_shape(
    precision: Precision, gigabytes: float, gflop: float
) -> None:
    """Totals of the kernel plan, at 1,024 cached positions."""
    groups = forward_work(FULL, "denoise", precision, context=1024, distinct_experts=128)
    assert sum(g.weight_bytes for g in groups) / 1e9 == pytest.approx(gigabytes, rel=3e-3)
    assert sum(g.flops for g in groups) / 1e9 == pytest.approx(gflop, rel=3e-3)
    assert sum(g.activation_bytes for g in groups) / 1e6 == pytest.approx(556.6, rel=3e-3)


def test_a_commit_needs_no_vocabulary() -> None:
    names = {g.name for g in forward_work(FULL, "commit", Precision.FP8, context=1024)}
    assert names.isdisjoint({"logits", "sampling", "self_conditioning"})


def test_a_decode_step_reads_eight_experts_a_layer() -> None:
    groups = forward_work(SIBLING, "decode", Precision.BF16, context=1024)
    assert sum(g.weight_bytes for g in groups) / 1e9 == pytest.approx(7.65, rel=5e-3)
    assert expected_distinct_experts(SIBLING, 1) == pytest.approx(8)
    assert expected_distinct_experts(FULL, 256) == pytest.approx(128, abs=1e-3)


def test_weights_are_read_once_whatever_the_batch() -> None:
    one, four = (
        forward_work(FULL, "denoise", Precision.FP8, context=0, batch_size=n, distinct_experts=128)
        for n in (1, 4)
    )
    assert [g.weight_bytes for g in one] == [g.weight_bytes for g in four]
    assert sum(g.flops for g in four) == pytest.approx(4 * sum(g.flops for g in one))


def test_what_a_model_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="no decode forward; valid: prefill, denoise, commit"):
        forward_work(FULL, "decode", Precision.FP8, context=0)
    with pytest.raises(ValueError, match="new_tokens"):
        forward_work(FULL, "prefill", Precision.FP8, context=0)
