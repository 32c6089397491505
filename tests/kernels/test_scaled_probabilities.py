"""Probabilities that leave the sampler in e4m3, in Triton's interpreter, against the reference.

Legend: T rows, V vocab.
"""

import pytest
import torch

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels import ops, sampler  # noqa: E402
from model.ops import reference  # noqa: E402

CAP, TEMPERATURE = 30.0, torch.tensor(0.45)


@pytest.mark.parametrize(
    ("rows", "vocab", "block"), [(1, 1, 64), (4, 64, 64), (5, 100, 32), (3, 1000, 128)]
)
@pytest.mark.parametrize("spread", [0.01, 8.0, 200.0])
def test_they_are_the_kernels_own_quantised_by_the_row(
    rows: int, vocab: int, block: int, spread: float
) -> None:
    """Bit by bit: each program finds the row's scale without having seen the row."""
    torch.manual_seed(vocab)
    raw = (torch.randn(rows, vocab + 7) * spread).bfloat16()[:, :vocab]
    _, argmax, _, lse = sampler.token_statistics(raw, CAP, TEMPERATURE, torch.rand(rows))
    p = sampler.soft_probabilities(raw, CAP, TEMPERATURE, lse, block=block)
    want = reference.quantise_rows(p)
    found = sampler.scaled_probabilities(raw, CAP, TEMPERATURE, lse, argmax, block=block)
    assert torch.equal(found.scale, want.scale)
    assert torch.equal(found.values.float(), want.values.float())
    assert found.values.float().amax(-1).tolist() == [448.0] * rows


def test_the_table_answers_as_the_reference_does() -> None:
    torch.manual_seed(0)
    raw, uniform = (torch.randn(2, 3, 120) * 6).bfloat16(), torch.rand(2, 3)
    *decided, belief = ops.sample_scaled(raw, CAP, TEMPERATURE, uniform)
    plain = ops.sample(raw, CAP, TEMPERATURE, uniform)
    for found, same in zip(decided, plain[:3], strict=True):
        assert torch.equal(found, same)
    want = reference.sample_scaled(raw, CAP, TEMPERATURE, uniform)[3]
    assert belief.values.shape == raw.shape
    assert belief.scale.shape == (2, 3, 1)
    # Where tanh's last bit flips a rounding a logit moves by one step of bf16.
    off = (belief.values.float() * belief.scale - want.values.float() * want.scale).abs()
    assert off.max() < 0.02
    assert (off < 1e-6).float().mean() > 0.98


def test_a_row_that_is_not_finite_stays_so() -> None:
    raw = torch.randn(3, 100).bfloat16()
    raw[1, 60] = float("nan")
    _, argmax, _, lse = sampler.token_statistics(raw, CAP, TEMPERATURE, torch.rand(3))
    found = sampler.scaled_probabilities(raw, CAP, TEMPERATURE, lse, argmax, block=32)
    assert found.values.float().isnan().all(-1).tolist() == [False, True, False]
