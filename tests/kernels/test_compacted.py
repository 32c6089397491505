"""Compacted self-conditioning in Triton's interpreter against `model.ops.reference`.

Legend: T positions, V vocab, D model, U tokens in play.
"""

import pytest
import torch
from torch import Tensor

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels import compacted, ops  # noqa: E402
from model.kernels.compacted import Tile  # noqa: E402
from model.ops import reference  # noqa: E402

LEAST = torch.tensor(0.0625)
SMALL = Tile(rows=16, out=32, inner=16)


@pytest.fixture(autouse=True)
def few_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that finds nothing left of the list takes the interpreter as long as any other."""
    monkeypatch.setattr(compacted, "_PROGRAMS", 9)


def _believing(shape: tuple[int, ...], tokens: list[int], seed: int = 0) -> Tensor:
    """Each position believes in some of the tokens, and in all others less than LEAST."""
    torch.manual_seed(seed)
    p = torch.rand(shape) * 0.05
    for token in tokens:
        rows = torch.rand(shape[:-1]) < 0.5
        rows.view(-1)[torch.randint(rows.numel(), ())] = True
        p[..., token] = torch.where(rows, torch.rand(shape[:-1]) * 0.9 + 0.07, p[..., token])
    return p.bfloat16()


def _check(p: Tensor, weight: Tensor, tile: Tile | None = SMALL) -> Tensor:
    """What the kernels answer, having found it as near fp64 as one rounding to bf16 is."""
    found = compacted.soft_embedding(p, weight, LEAST, tile)
    assert found.dtype is torch.bfloat16
    exact = reference.soft_embedding(p.double(), weight.double(), LEAST)
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-5)
    want = reference.soft_embedding(p, weight, LEAST)
    torch.testing.assert_close(found, want, rtol=2**-6, atol=1e-3)
    return found


@pytest.mark.parametrize(
    ("shape", "size", "tokens"),
    [
        ((1, 3, 1), 16, [0]),
        ((1, 5, 100), 40, []),
        ((1, 5, 100), 40, [99]),
        ((2, 20, 600), 33, [0, 7, 255, 256, 257, 599]),
        ((3, 7, 1000), 48, list(range(0, 1000, 3))),
        ((1, 17, 300), 64, list(range(300))),
    ],
    ids=["one token", "none", "the last", "over blocks", "a third", "all"],
)
def test_against_the_reference(shape: tuple[int, ...], size: int, tokens: list[int]) -> None:
    p = _believing(shape, tokens)
    weight = torch.randn(shape[-1], size).bfloat16()
    found = _check(p, weight)
    assert found.any() == bool(tokens)
    dense = torch.matmul(p.double(), weight.double())
    close = torch.allclose(found.double(), dense, rtol=2**-8, atol=1e-5)
    assert close == (len(tokens) == shape[-1])  # what is left out is missed, and only then


def test_the_shipped_tile() -> None:
    _check(_believing((1, 4, 500), [3, 400]), torch.randn(500, 48).bfloat16(), tile=None)


def test_the_list_is_ascending_and_its_columns_lie_side_by_side() -> None:
    tokens = [2, 3, 254, 255, 256, 511, 512, 700]
    p = _believing((9, 701), tokens)
    token_U, packed_TU, total = compacted.compact(p, LEAST, 64)
    assert total.tolist() == [len(tokens)]
    assert token_U[: len(tokens)].tolist() == tokens
    assert torch.equal(packed_TU[:, : len(tokens)], p[:, tokens])
    assert not token_U[len(tokens) : 64].any()
    assert not packed_TU[:, len(tokens) : 64].any()


def test_a_list_that_ends_on_a_multiple_is_not_filled_up() -> None:
    tokens = list(range(100, 164))
    p = _believing((3, 192), tokens)
    token_U, packed_TU, total = compacted.compact(p, LEAST, 64)
    assert total.tolist() == [64]
    assert token_U[:64].tolist() == tokens
    assert torch.equal(packed_TU[:, :64], p[:, tokens])


def test_exactly_the_least_belief_is_in_play_and_a_bit_less_is_not() -> None:
    p = torch.zeros(2, 10).bfloat16()
    p[0, 4], p[1, 6] = 0.0625, 0.0625 * (1 - 2**-8)
    token_U, _, total = compacted.compact(p, LEAST, 16)
    assert token_U[: total.item()].tolist() == [4]
    assert reference.in_play(p, LEAST).nonzero().flatten().tolist() == [4]


def test_one_row_of_a_batch_brings_a_token_into_play_for_all() -> None:
    p = torch.full((2, 3, 40), 0.01).bfloat16()
    p[1, 2, 11] = 0.5
    weight = torch.randn(40, 16).bfloat16()
    found = _check(p, weight)
    torch.testing.assert_close(found[0, 0], 0.01 * weight[11], rtol=0.02, atol=1e-4)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_nan_is_not_left_out() -> None:
    p = _believing((1, 4, 300), [5])
    p[0, 2, 280] = float("nan")
    found = compacted.soft_embedding(p, torch.ones(300, 16).bfloat16(), LEAST, SMALL)
    assert found[0, 2].isnan().all()
    assert not found[0, [0, 1, 3]].isnan().any()


def test_parts_are_summed_to_the_same_bits_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    p = _believing((1, 20, 700), list(range(0, 700, 2)))
    weight = torch.randn(700, 40).bfloat16()
    first = _check(p, weight)
    assert torch.equal(first, _check(p, weight))
    monkeypatch.setattr(compacted, "_PROGRAMS", 1)  # one part
    torch.testing.assert_close(_check(p, weight), first, rtol=2**-7, atol=1e-5)


def test_the_table_takes_it_in_bf16_alone() -> None:
    p, weight = _believing((1, 4, 60), [3, 9]), torch.randn(60, 16)
    bf16 = ops.soft_embedding(p, weight.bfloat16(), LEAST)
    assert torch.equal(bf16, compacted.soft_embedding(p, weight.bfloat16(), LEAST))
    fp32 = ops.soft_embedding(p.float(), weight, LEAST)
    torch.testing.assert_close(fp32, reference.soft_embedding(p.float(), weight, LEAST))
