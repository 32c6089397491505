"""Every operation of the torch table against the reference table, over odd shapes."""

import pytest
import torch
from torch import Tensor

from model.ops import make_ops
from model.ops.reference import token_statistics
from model.sampling.policies import EntropyBound

REFERENCE, TORCH = make_ops("reference"), make_ops("torch")
DTYPES = [(torch.float32, 2e-6, 2e-6), (torch.bfloat16, 2e-2, 2e-2)]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.fixture(params=DTYPES, ids=lambda row: str(row[0]).removeprefix("torch."))
def precision(request: pytest.FixtureRequest) -> tuple[torch.dtype, float, float]:
    return request.param


def check(actual: Tensor, expected: Tensor, precision: tuple[torch.dtype, float, float]) -> None:
    dtype, rtol, atol = precision
    assert actual.dtype == expected.dtype == dtype
    torch.testing.assert_close(actual, expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize("shape", [(1, 1, 8), (2, 5, 123), (3, 128)])
def test_norms(shape: tuple[int, ...], precision: tuple[torch.dtype, float, float]) -> None:
    dtype = precision[0]
    x, residual = draw(*shape, dtype=dtype) * 3, draw(*shape, seed=1, dtype=dtype)
    weight = draw(shape[-1], seed=2, dtype=dtype)
    for given in (weight, None):
        check(TORCH.rms_norm(x, given, 1e-6), REFERENCE.rms_norm(x, given, 1e-6), precision)
    check(
        TORCH.add_rms_norm(residual, x, weight, 1e-6),
        REFERENCE.add_rms_norm(residual, x, weight, 1e-6),
        precision,
    )
    weights = (weight, None, weight * 2)
    for actual, expected in zip(
        TORCH.rms_norms(x, weights, 1e-6), REFERENCE.rms_norms(x, weights, 1e-6), strict=True
    ):
        check(actual, expected, precision)


def test_the_norm_of_zeros_is_zero() -> None:
    zeros = torch.zeros(2, 16)
    assert torch.equal(TORCH.rms_norm(zeros, None, 1e-6), zeros)


@pytest.mark.parametrize("value_is_key", [True, False])
@pytest.mark.parametrize(("batch", "length", "heads", "kv_heads"), [(1, 1, 4, 2), (3, 7, 6, 1)])
def test_qkv_norm_rope(
    batch: int,
    length: int,
    heads: int,
    kv_heads: int,
    value_is_key: bool,
    precision: tuple[torch.dtype, float, float],
) -> None:
    dtype, size = precision[0], 16
    qkv = draw(batch, length, heads + kv_heads * (2 - value_is_key), size, dtype=dtype)
    angle = draw(length, size, seed=3)
    given = (
        qkv,
        draw(size, seed=1, dtype=dtype),
        draw(size, seed=2, dtype=dtype),
        angle.cos().to(dtype),
        angle.sin().to(dtype),
        heads,
        kv_heads,
        1e-6,
    )
    for actual, expected in zip(
        TORCH.qkv_norm_rope(*given), REFERENCE.qkv_norm_rope(*given), strict=True
    ):
        check(actual, expected, precision)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize(("heads", "kv_heads", "keys"), [(4, 2, 9), (3, 3, 33), (8, 1, 5)])
def test_attention(
    heads: int, kv_heads: int, keys: int, masked: bool, precision: tuple[torch.dtype, float, float]
) -> None:
    dtype = precision[0]
    q = draw(2, heads, 5, 16, dtype=dtype)
    k, v = (draw(2, kv_heads, keys, 16, seed=s, dtype=dtype) for s in (1, 2))
    mask = None
    if masked:
        mask = torch.rand(2, 1, 5, keys, generator=torch.Generator().manual_seed(3)) < 0.6
        mask[..., 0] = True
    check(TORCH.attention(q, k, v, mask), REFERENCE.attention(q, k, v, mask), precision)


def test_gated_gelu(precision: tuple[torch.dtype, float, float]) -> None:
    x = draw(3, 5, 46, dtype=precision[0]) * 4
    check(TORCH.gated_gelu(x), REFERENCE.gated_gelu(x), precision)


@pytest.mark.parametrize(("num_experts", "top_k"), [(4, 2), (7, 1), (16, 4), (40, 2)])
def test_routing_and_experts(num_experts: int, top_k: int) -> None:
    scores, scale = draw(13, num_experts), draw(num_experts, seed=1).abs()
    actual, expected = (ops.route(scores, scale, top_k) for ops in (TORCH, REFERENCE))
    assert torch.equal(actual[0], expected[0])
    torch.testing.assert_close(actual[1], expected[1])
    x, gate_up = draw(13, 24, seed=2), draw(num_experts, 20, 24, seed=3) * 0.2
    down = draw(num_experts, 24, 10, seed=4) * 0.2
    outputs = [ops.experts(x, *expected, gate_up, down) for ops in (TORCH, REFERENCE)]
    torch.testing.assert_close(*outputs, rtol=1e-5, atol=1e-5)


def test_token_statistics_by_hand() -> None:
    probability = torch.tensor([0.1, 0.2, 0.7])
    logits = probability.log().expand(1, 4, 3)
    uniform = torch.tensor([[0.0, 0.0999, 0.2999, 0.9999]])
    candidate, argmax, entropy = token_statistics(logits, uniform)
    assert candidate.tolist() == [[0, 0, 1, 2]]
    assert argmax.tolist() == [[2] * 4]
    expected = -(probability * probability.log()).sum()
    torch.testing.assert_close(entropy, expected.expand(1, 4))


def test_candidates_follow_the_distribution() -> None:
    logits = draw(6)
    uniform = torch.rand(1, 20_000, generator=torch.Generator().manual_seed(5))
    candidate, _, _ = token_statistics(logits.expand(1, 20_000, 6), uniform)
    share = torch.bincount(candidate[0], minlength=6) / 20_000
    assert (share - logits.softmax(0)).abs().max() < 0.012


# Narrow, one block of tiles, several blocks, tiles of 8 tokens, tiles of one.
VOCABS = [(2, 32, 64), (1, 96, 8192), (1, 300, 8192), (2, 40, 5000), (1, 50, 1031)]


@pytest.mark.parametrize("temperature", [0.4, 0.8])
@pytest.mark.parametrize("spread", [0.3, 6.0, 40.0])
@pytest.mark.parametrize("shape", VOCABS, ids=str)
def test_sampling_in_fp32(shape: tuple[int, int, int], spread: float, temperature: float) -> None:
    """Same argmax and accepted positions; candidates by the fp64 distribution function."""
    raw = draw(*shape, seed=int(10 * spread)) * spread
    # Rows from certain to uncertain, so that every bound cuts somewhere.
    raw = raw * torch.linspace(0.2, 4, shape[1])[:, None]
    uniform = torch.rand(shape[:2], generator=torch.Generator().manual_seed(7))
    given = raw, 30.0, torch.tensor(temperature), uniform
    before = raw.clone()
    (candidate, argmax, entropy, p), expected = TORCH.sample(*given), REFERENCE.sample(*given)
    assert torch.equal(raw, before)
    assert torch.equal(argmax, expected[1])
    torch.testing.assert_close(entropy, expected[2], rtol=2e-6, atol=2e-6)
    torch.testing.assert_close(p, expected[3], rtol=2e-5, atol=1e-8)
    for bound in (0.01, 0.1, 1.0, 20.0):
        accept = EntropyBound(bound)
        assert torch.equal(accept(entropy), accept(expected[2]))
    scaled = REFERENCE.softcap(raw, 30.0) / temperature
    end = scaled.double().softmax(-1).cumsum(-1)
    begin = torch.nn.functional.pad(end, (1, 0))
    own = candidate[..., None]
    assert (begin.gather(-1, own)[..., 0] <= uniform + 2e-6).all()
    assert (end.gather(-1, own)[..., 0] >= uniform - 2e-6).all()
    if shape[-1] <= 1024:
        assert torch.equal(candidate, expected[0])


@pytest.mark.parametrize("shape", VOCABS, ids=str)
def test_sampling_in_bf16(shape: tuple[int, int, int]) -> None:
    raw = (draw(*shape) * 8).bfloat16()
    uniform = torch.rand(shape[:2], generator=torch.Generator().manual_seed(7))
    given = raw, 30.0, torch.tensor(0.6), uniform
    actual, expected = TORCH.sample(*given), REFERENCE.sample(*given)
    assert torch.equal(actual[1], expected[1])
    torch.testing.assert_close(actual[2], expected[2], rtol=2e-6, atol=2e-6)
    check(actual[3], expected[3].bfloat16(), (torch.bfloat16, 4e-3, 0))


def test_candidates_of_two_levels_follow_the_distribution() -> None:
    """Chi-square over 64 groups of neighbouring tokens, which tiles do not align with."""
    vocab, draws = 2048, 6000
    raw = draw(vocab) * 1.5
    uniform = torch.rand(1, draws, generator=torch.Generator().manual_seed(5))
    given = raw.expand(1, draws, vocab), 30.0, torch.tensor(0.7), uniform
    candidate = TORCH.sample(*given)[0]
    group = (torch.arange(vocab) * 7) // 224 % 64
    share = (REFERENCE.softcap(raw, 30.0) / 0.7).softmax(0)
    expected = torch.zeros(64).index_add_(0, group, share) * draws
    found = torch.bincount(group[candidate[0]], minlength=64)
    assert expected.min() > 5
    assert ((found - expected) ** 2 / expected).sum() < 117  # 63 degrees of freedom, p = 4e-5


def test_what_is_not_a_number_stays_visible() -> None:
    for vocab in (64, 4096):
        raw = draw(1, 3, vocab)
        raw[0, 1, vocab // 2] = torch.nan
        candidate, argmax, entropy, _ = TORCH.sample(
            raw, 30.0, torch.tensor(0.6), torch.full((1, 3), 0.5)
        )
        assert entropy.isnan().tolist() == [[False, True, False]]
        assert ((candidate >= 0) & (candidate < vocab)).all()
        assert ((argmax >= 0) & (argmax < vocab)).all()


def test_softcap_bounds_and_keeps_small_values() -> None:
    capped = REFERENCE.softcap(torch.tensor([-1e4, 0.01, 1e4]), 30.0)
    torch.testing.assert_close(capped, torch.tensor([-30.0, 0.01, 30.0]), rtol=1e-4, atol=0)
