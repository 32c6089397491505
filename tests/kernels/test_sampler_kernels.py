"""Sampler kernels in Triton's interpreter against `model.ops.reference` and the policies.

Legend: B seqs, L positions, T rows, V vocab.
"""

import pytest
import torch
from torch import Tensor

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels import sampler  # noqa: E402
from model.ops import reference  # noqa: E402
from model.sampling.policies import EntropyBound  # noqa: E402

CAP = 30.0
SHAPES = pytest.mark.parametrize(
    ("rows", "vocab", "tile"), [(1, 1, 64), (4, 64, 64), (5, 100, 32), (3, 1000, 128)]
)


def _scaled(raw_TV: Tensor, temperature: Tensor) -> Tensor:
    return reference.softcap(raw_TV, CAP) / temperature


@SHAPES
@pytest.mark.parametrize("spread", [0.01, 4.0, 40.0])
def test_token_statistics(rows: int, vocab: int, tile: int, spread: float) -> None:
    torch.manual_seed(vocab)
    raw = (torch.randn(rows, vocab) * spread).bfloat16()
    temperature, uniform = torch.tensor(0.63), torch.rand(rows)
    candidate, argmax, entropy, lse = sampler.token_statistics(
        raw, CAP, temperature, uniform, tile=tile
    )
    x = _scaled(raw, temperature)
    _, want_argmax, want_entropy = reference.token_statistics(x, uniform)
    assert torch.equal(argmax, raw.float().argmax(-1))
    assert torch.equal(x.gather(1, argmax[:, None]), x.gather(1, want_argmax[:, None]))
    torch.testing.assert_close(entropy, want_entropy, rtol=1e-5, atol=2e-5)
    want_lse = x.bfloat16().float().logsumexp(-1)
    torch.testing.assert_close(lse, want_lse, rtol=1e-5, atol=1e-4)
    # The candidate is the inverse of the distribution function, up to 1e-5 at a boundary.
    cumulative = torch.softmax(x.double(), -1).cumsum(-1)
    upper = cumulative.gather(1, candidate[:, None]).squeeze(1)
    lower = upper - torch.softmax(x.double(), -1).gather(1, candidate[:, None]).squeeze(1)
    assert (uniform <= upper + 1e-5).all()
    assert (uniform >= lower - 1e-5).all()


def test_first_of_equal_maxima() -> None:
    raw = torch.zeros(3, 100).bfloat16()
    raw[0, [40, 70]] = 5.0
    raw[1, [99, 33]] = 5.0
    found = sampler.token_statistics(raw, CAP, torch.tensor(1.0), torch.zeros(3), tile=32)[1]
    assert found.tolist() == [40, 33, 0]


def test_uniform_at_the_ends() -> None:
    raw = torch.full((3, 100), -200.0).bfloat16()
    raw[:, 50] = 200.0  # all probability on one token
    raw[2, [7, 90]] = 200.0
    uniform = torch.tensor([0.0, 1 - 2**-24, 1 - 2**-24])
    got = sampler.token_statistics(raw, CAP, torch.tensor(0.4), uniform, tile=32)[0]
    assert got[1:].tolist() == [50, 90]
    assert 0 <= got[0] <= 50


def test_strided_rows() -> None:
    torch.manual_seed(0)
    wide = torch.randn(3, 150).bfloat16()
    uniform, temperature = torch.rand(3), torch.tensor(0.8)
    got = sampler.token_statistics(wide[:, :100], CAP, temperature, uniform, tile=32)
    want = sampler.token_statistics(wide[:, :100].contiguous(), CAP, temperature, uniform, tile=32)
    for each, wanted in zip(got, want, strict=True):
        assert torch.equal(each, wanted)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_nan_and_infinity() -> None:
    raw = torch.randn(3, 100).bfloat16()
    raw[0, 60] = float("nan")
    raw[1, 61] = float("inf")
    raw[2] = float("nan")
    candidate, argmax, entropy, lse = sampler.token_statistics(
        raw, CAP, torch.tensor(0.5), torch.rand(3), tile=32
    )
    assert entropy.isnan().tolist() == [True, False, True]
    assert ((candidate >= 0) & (candidate < 100) & (argmax >= 0) & (argmax < 100)).all()
    assert argmax[1] == 61
    p = sampler.soft_probabilities(raw, CAP, torch.tensor(0.5), lse, block=32)
    assert p.isnan().all(-1).tolist() == [True, False, True]
    assert not p[1].isnan().any()
    x = _scaled(raw[1:2], torch.tensor(0.5))
    torch.testing.assert_close(entropy[1:2], reference.token_statistics(x, torch.zeros(1))[2])


def test_draws_are_multinomial() -> None:
    """Evenly spaced uniforms give each token its share within one; random ones pass chi-square."""
    torch.manual_seed(1)
    vocab, draws = 11, 100
    logits, temperature = (torch.randn(vocab) * 1.5).bfloat16(), torch.tensor(1.3)
    raw = logits.repeat(draws, 1)
    p = torch.softmax(_scaled(logits, temperature), -1)
    even = (torch.arange(draws) + 0.5) / draws
    got = sampler.token_statistics(raw, CAP, temperature, even, tile=4)[0]
    assert ((got.bincount(minlength=vocab) - draws * p).abs() <= 1.01).all()
    got = sampler.token_statistics(raw, CAP, temperature, torch.rand(draws), tile=4)[0]
    chi_square = ((got.bincount(minlength=vocab) - draws * p) ** 2 / (draws * p)).sum()
    assert chi_square < 29.6  # 0.999 quantile at 10 degrees of freedom


@SHAPES
def test_soft_probabilities(rows: int, vocab: int, tile: int) -> None:
    torch.manual_seed(vocab)
    raw, temperature = (torch.randn(rows, vocab) * 8).bfloat16(), torch.tensor(0.45)
    lse = sampler.token_statistics(raw, CAP, temperature, torch.rand(rows), tile=tile)[3]
    got = sampler.soft_probabilities(raw, CAP, temperature, lse, block=tile)
    rounded = _scaled(raw, temperature).bfloat16()
    want = torch.softmax(rounded, -1, dtype=torch.float32).bfloat16()
    assert got.dtype is torch.bfloat16
    # A logit whose rounding flips (tanh differs in the last bit) moves by one ulp, up to 2^-3.
    same = torch.isclose(got.float(), want.float(), rtol=2**-7, atol=1e-7)
    assert same.float().mean() > 0.995
    torch.testing.assert_close(got.float(), want.float(), rtol=0.3, atol=1e-6)


@pytest.mark.parametrize(
    ("batch", "length", "bound"), [(1, 1, 0.0), (3, 7, 0.1), (2, 100, 3.0), (2, 300, 50.0)]
)
def test_accept_and_renoise(batch: int, length: int, bound: float) -> None:
    torch.manual_seed(length)
    entropy = torch.rand(batch, length) ** 4
    candidate, renoise = torch.randint(0, 99, (2, batch, length))
    accepted, canvas = sampler.accept_and_renoise(entropy, torch.tensor(bound), candidate, renoise)
    want = EntropyBound(bound)(entropy)
    assert torch.equal(accepted, want)
    assert torch.equal(canvas, torch.where(want, candidate, renoise))
    assert accepted.any()


def test_equal_entropies_rank_by_position_and_nan_is_refused() -> None:
    nan = float("nan")
    entropy = torch.tensor([[0.4, 0.4, 0.4, nan, 0.1]])
    tokens = torch.zeros(1, 5, dtype=torch.int64)
    accepted, _ = sampler.accept_and_renoise(entropy, torch.tensor(0.6), tokens, tokens)
    assert accepted.tolist() == [[True, True, False, False, True]]
    everything, _ = sampler.accept_and_renoise(entropy, torch.tensor(99.0), tokens, tokens)
    assert everything.tolist() == [[True, True, True, False, True]]
