"""Sampler kernels in Triton's interpreter against `model.ops.reference` and the policies.

Legend: B seqs, L positions, T rows, V vocab.
"""

from typing import Any

import pytest
import torch
from torch import Tensor

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels import ops, sampler  # noqa: E402
from model.ops import reference  # noqa: E402
from model.sampling.policies import EntropyBound, StableAndConfident  # noqa: E402

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


State = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]  # canvas, argmax, unchanged, steps, done


def _policies(bound: float, stable: int | None, confident: float) -> tuple[Any, Any]:
    """Without `stable` no row stops."""
    accept = EntropyBound(torch.tensor(bound))
    if stable is None:
        return accept, None
    return accept, StableAndConfident(torch.tensor(stable), torch.tensor(confident))


def _fresh(batch: int, length: int) -> State:
    no_argmax, zero_B = torch.full((batch, length), -1), torch.zeros(batch, dtype=torch.int32)
    canvas = torch.randint(0, 99, (batch, length))
    return canvas, no_argmax, zero_B, zero_B.clone(), torch.zeros(batch, dtype=torch.bool)


def _accepted(entropy: list[float], bound: float) -> list[bool]:
    """What the kernel accepts of one row, having found the reference's decisions."""
    sampled = torch.tensor([entropy]), *torch.randint(0, 9, (3, 1, len(entropy)))
    given = *_policies(bound, None, 0.0), *sampled, *_fresh(1, len(entropy))
    found = ops.settle(*given)[0]
    assert torch.equal(found, reference.settle(*given)[0])
    return found[0].tolist()


@pytest.mark.parametrize(
    ("batch", "length", "bound", "stable"),
    [(1, 1, 0.0, 0), (1, 40, 0.1, None), (3, 7, 0.1, 2), (5, 100, 3.0, 0), (4, 300, 9.0, 1)],
)
def test_a_canvas_is_settled_as_the_reference_does(
    batch: int, length: int, bound: float, stable: int | None
) -> None:
    """Steps that follow each other: tokens repeat mostly, entropies fall, rows stop one by one."""
    torch.manual_seed(length)
    policies, state = _policies(bound, stable, 0.15), _fresh(batch, length)
    argmax, level_B1 = torch.randint(0, 99, (batch, length)), torch.rand(batch, 1) + 0.3
    accepted, stopped = [], []
    for step in range(6):
        changes_B1 = torch.rand(batch, 1) < 0.3
        argmax = torch.where(changes_B1, torch.randint(0, 99, (batch, length)), argmax)
        entropy = torch.rand(batch, length) ** 4 * level_B1 * 0.7**step
        candidate, renoise = torch.randint(0, 99, (2, batch, length))
        given = *policies, entropy, candidate, argmax, renoise, *state
        found, want = ops.settle(*given), reference.settle(*given)
        for each, wanted in zip(found, want, strict=True):
            assert each.dtype is wanted.dtype
            assert torch.equal(each, wanted)
        accepted.append(found[0])
        stopped.append(found[5])
        state = found[1:]
    if length > 1:
        assert 0 < torch.stack(accepted).float().mean() < 1
    assert torch.stack(stopped).any() == (stable is not None)
    assert not torch.stack(stopped).all() or stable == 0


def test_only_rows_beside_others_are_frozen() -> None:
    entropy, old, new = torch.ones(2, 3), torch.full((2, 3), 4), torch.full((2, 3), 5)
    zero_B, done_B = torch.zeros(2, dtype=torch.int32), torch.tensor([True, False])
    given = entropy, new, new, new, old, old, zero_B, zero_B, done_B
    policies = _policies(9.0, 1, 0.0)  # which is no reason to stop
    _, canvas, argmax, unchanged, steps, done = ops.settle(*policies, *given)
    assert canvas.tolist() == argmax.tolist() == [[4] * 3, [5] * 3]
    assert unchanged.tolist() == [1, 0]
    assert steps.tolist() == [0, 1]
    assert done.tolist() == [True, False]
    alone = ops.settle(*policies, *(each[:1] for each in given))
    assert alone[1].tolist() == alone[2].tolist() == [[5] * 3]


def test_equal_entropies_rank_by_position_and_only_finite_ones_are_accepted() -> None:
    nan, infinity = float("nan"), float("inf")
    assert _accepted([0.5, 0.5, 0.5, nan, 0.125], 0.75) == [True, True, False, False, True]
    assert _accepted([0.5, infinity, 0.5, nan, 0.125], 99.0) == [True, False, True, False, True]
    assert _accepted([0.0, -1e-9, 0.0, 0.0], 0.0) == [True] * 4


@pytest.mark.parametrize("length", [200, 256])
def test_sums_are_exact_to_a_few_ulps(length: int) -> None:
    """At thresholds 2^-21 below and above the exact sum and the exact mean the decision flips."""
    torch.manual_seed(length)
    tokens = torch.zeros(1, length, dtype=torch.int64)
    for _ in range(5):
        entropy = torch.rand(1, length)
        ranked = entropy[0].double().sort().values
        mean = float(ranked.mean())
        for margin, extra in ((1 - 2**-21, 0), (1 + 2**-21, 1)):
            rank = int(torch.randint(1, length, ()))
            bound = float(ranked[:rank].sum()) * margin
            given = entropy, *[tokens] * 5, *_fresh(1, length)[2:]
            found = ops.settle(*_policies(bound, 0, mean * margin), *given)
            assert found[0].sum() == rank + extra
            assert found[5].item() is bool(extra)


def test_rows_may_lie_apart() -> None:
    torch.manual_seed(0)
    entropy = torch.rand(6, 2).t()
    tokens = [each.t() for each in torch.randint(0, 9, (5, 6, 2))]
    given = *_policies(1.0, 0, 0.5), entropy, *tokens, *_fresh(2, 6)[2:]
    for each, wanted in zip(ops.settle(*given), reference.settle(*given), strict=True):
        assert torch.equal(each, wanted)


def test_a_nan_stops_no_row() -> None:
    entropy = torch.tensor([[0.0, float("nan")], [0.0, 0.0]])
    tokens = torch.zeros(2, 2, dtype=torch.int64)
    given = entropy, *[tokens] * 5, *_fresh(2, 2)[2:]
    assert ops.settle(*_policies(1.0, 0, 99.0), *given)[5].tolist() == [False, True]
