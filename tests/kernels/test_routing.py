"""Routing and sorting kernels in Triton's interpreter against plain torch.

Legend: T tokens, D model, E experts, K experts a token.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels import routing  # noqa: E402
from model.ops import reference  # noqa: E402


@pytest.fixture(autouse=True)
def _new_memory_holds_no_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    def new_empty(x: Tensor, size: int | tuple[int, ...], **options: Any) -> Tensor:
        return x.new_full((size,) if isinstance(size, int) else size, 99, **options)

    monkeypatch.setattr(Tensor, "new_empty", new_empty)


def _assignments(tokens: int, num_experts: int, top_k: int, kind: str) -> Tensor:
    """Distinct experts a token; `overloaded`: all choose expert 0; `few`: only three are used."""
    score = torch.rand(tokens, num_experts)
    if kind == "overloaded":
        score[:, 0] = 2
    if kind == "few":
        score[:, 3:] -= 2
    return score.topk(top_k).indices.int()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("tokens", "num_experts", "top_k"), [(5, 16, 3), (1, 128, 8), (3, 6, 6)])
def test_route(tokens: int, num_experts: int, top_k: int, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    scores = torch.stack([torch.randperm(num_experts) for _ in range(tokens)]) * 0.0625
    scores, scale = scores.to(dtype), torch.rand(num_experts).to(dtype)
    expert, weight = routing.route(scores, scale, top_k)
    want_expert, want_weight = reference.route(scores, scale, top_k)
    assert expert.dtype == torch.int32
    assert torch.equal(expert.long(), want_expert)
    torch.testing.assert_close(weight, want_weight.float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("tokens", "width", "num_experts"), [(1, 64, 8), (5, 300, 6), (33, 520, 20)]
)
def test_router_scores_in_parts_route_as_the_product_does(
    tokens: int, width: int, num_experts: int
) -> None:
    torch.manual_seed(9)
    x, weight = torch.randn(tokens, width).bfloat16(), torch.randn(num_experts, width).bfloat16()
    parts = routing.router_scores(x, weight)
    assert parts.shape == (-(-width // 256), tokens, num_experts)
    exact = x.double() @ weight.double().t()
    torch.testing.assert_close(parts.double().sum(0), exact, rtol=1e-5, atol=1e-4)
    scale = torch.rand(num_experts).bfloat16()
    summed = parts[0]
    for part in parts[1:]:
        summed = summed + part
    expert, share = routing.route(parts, scale, 3)
    want_expert, want_share = reference.route(summed.bfloat16(), scale, 3)
    assert torch.equal(expert.long(), want_expert)
    torch.testing.assert_close(share, want_share.float(), rtol=1e-5, atol=1e-6)


def test_many_tokens_are_scored_in_one_product() -> None:
    x, weight = torch.randn(513, 16).bfloat16(), torch.randn(4, 16).bfloat16()
    assert torch.equal(routing.router_scores(x, weight), F.linear(x, weight))


def test_route_takes_equal_scores_by_index() -> None:
    scores = torch.tensor([[0.0, 1.0, 1.0, 1.0, -1.0, 1.0]])
    expert, weight = routing.route(scores, torch.ones(6), 3)
    assert expert.tolist() == [[1, 2, 3]]
    torch.testing.assert_close(weight, torch.full((1, 3), 1 / 3))


@pytest.mark.parametrize("kind", ["uniform", "overloaded", "few"])
@pytest.mark.parametrize(("tokens", "num_experts", "rows"), [(1, 8, 16), (9, 6, 4), (40, 8, 16)])
def test_sort_rows(
    tokens: int, num_experts: int, rows: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routing, "_SORT_CHUNK", 64)
    torch.manual_seed(1)
    expert = _assignments(tokens, num_experts, 3, kind)
    _assert_sorted(routing.sort_rows(expert, num_experts, rows), expert, num_experts, rows)


def _assert_sorted(
    found: routing.SortedRows, expert_TK: Tensor, num_experts: int, rows: int
) -> None:
    flat = expert_TK.flatten()
    place, want_tiles = [], []
    for index in range(num_experts):
        mine = torch.where(flat == index)[0].tolist()
        tiles = -(-len(mine) // rows)
        place += mine + [flat.numel()] * (tiles * rows - len(mine))
        want_tiles += [index] * tiles
    unused = found.tile_expert_M.numel() - len(want_tiles)
    assert unused >= 0
    assert found.num_tiles_1.item() == len(want_tiles)
    assert found.tile_expert_M.tolist() == want_tiles + [-1] * unused
    assert found.assignment_P[: len(place)].tolist() == place


def test_max_tiles_is_reached_and_never_passed() -> None:
    assert routing.max_tiles(2048, 128, 32) == 188
    assert routing.max_tiles(8, 128, 16) == 8
    for counts in ([17, 1, 1, 1], [20, 0, 0, 0], [5, 5, 5, 5], [9, 9, 1, 1]):
        used = sum(-(-count // 4) for count in counts)
        assert used <= routing.max_tiles(20, 4, 4)


@pytest.mark.parametrize(
    ("tokens", "width", "num_experts", "top_k", "rows"),
    [(1, 64, 8, 8, 16), (5, 300, 6, 3, 4), (16, 32, 16, 1, 8), (33, 300, 20, 5, 16)],
)
def test_one_launch_is_the_three_whoever_comes_last(
    tokens: int,
    width: int,
    num_experts: int,
    top_k: int,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Again and again with the same counters, as a graph replays it."""
    torch.manual_seed(11)
    weight, scale = torch.randn(num_experts, width).bfloat16(), torch.rand(num_experts).bfloat16()
    inputs = [torch.randn(tokens, width).bfloat16() for _ in range(2)]
    wanted = [_three_launches(x, weight, scale, top_k, rows) for x in inputs]
    arrived = torch.zeros(routing.MOST_TILES + 1, dtype=torch.int32)
    for index, order in enumerate(("in order", "backwards", "mixed")):
        with monkeypatch.context() as patch:
            interpreter.program_order(patch, order)
            found = routing.route_and_sort(inputs[index % 2], weight, scale, top_k, rows, arrived)
        assert not arrived.any()
        _assert_same(found, wanted[index % 2], rows)


@pytest.mark.parametrize(
    ("tokens", "kind"),
    [(512, "uniform"), (256, "one"), (70, "overloaded"), (70, "few"), (70, "equal")],
)
def test_one_launch_sorts_any_distribution(tokens: int, kind: str) -> None:
    """Up to as many tokens as it takes; one expert with all rows or a row of each token; ties."""
    num_experts, width, top_k, rows = 128, 48, 1 if kind == "one" else 8, 32
    torch.manual_seed(12)
    x, weight = torch.randn(tokens, width).bfloat16(), torch.randn(num_experts, width) / 8
    if kind == "equal":
        weight[:] = 0
    preferred = {"few": slice(60, 70), "uniform": slice(0), "equal": slice(0)}.get(
        kind, slice(7, 8)
    )
    x[:, 0], weight[preferred, 0] = 1, 50
    weight, scale = weight.bfloat16(), torch.rand(num_experts)
    arrived = torch.zeros(routing.MOST_TILES + 1, dtype=torch.int32)
    expert, share, sorted_rows = routing.route_and_sort(x, weight, scale, top_k, rows, arrived)

    scores = F.linear(x.double(), weight.double()).bfloat16().float()
    best = scores.sort(dim=1, descending=True, stable=True).indices[:, :top_k]
    assert torch.equal(expert.long(), best)  # of equal ones the first
    want_share = scores.gather(1, best).softmax(1) * scale[best]
    torch.testing.assert_close(share, want_share, rtol=1e-5, atol=1e-6)
    _assert_sorted(sorted_rows, expert, num_experts, rows)
    counts = expert.flatten().bincount(minlength=num_experts)
    assert {
        "uniform": counts.min() > 0,
        "one": counts[7] == counts.sum(),
        "overloaded": counts[7] == tokens,
        "few": counts.count_nonzero() == 10,
        "equal": counts[:8].tolist() == [tokens] * 8,
    }[kind]
    assert not arrived.any()


@pytest.mark.parametrize("reason", ["many tokens", "fp32", "many places"])
def test_what_one_launch_cannot_do_takes_three(
    reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "many tokens":
        monkeypatch.setattr(routing, "_FEW", 2)
    if reason == "many places":
        monkeypatch.setattr(routing, "_MOST_PLACES", 16)
    dtype = torch.float32 if reason == "fp32" else torch.bfloat16
    x, weight, scale = torch.randn(3, 16).to(dtype), torch.randn(4, 16).to(dtype), torch.ones(4)
    arrived = torch.full((routing.MOST_TILES + 1,), 7, dtype=torch.int32)
    found = routing.route_and_sort(x, weight, scale, 2, 8, arrived)
    assert (arrived == 7).all()
    _assert_same(found, _three_launches(x, weight, scale, 2, 8), 8)


Answer = tuple[Tensor, Tensor, routing.SortedRows]


def _three_launches(x: Tensor, weight: Tensor, scale: Tensor, top_k: int, rows: int) -> Answer:
    expert, share = routing.route(routing.router_scores(x, weight), scale, top_k)
    return expert, share, routing.sort_rows(expert, weight.shape[0], rows)


def _assert_same(found: Answer, want: Answer, rows: int) -> None:
    """Bit for bit; of places, those in used tiles."""
    for one, wanted in zip(found[:2], want[:2], strict=True):
        assert one.dtype == wanted.dtype
        assert torch.equal(one, wanted)
    used = int(want[2].num_tiles_1) * rows
    assert torch.equal(found[2].num_tiles_1, want[2].num_tiles_1)
    assert torch.equal(found[2].tile_expert_M, want[2].tile_expert_M)
    assert torch.equal(found[2].assignment_P[:used], want[2].assignment_P[:used])
