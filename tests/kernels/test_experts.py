"""Routing and expert kernels in Triton's interpreter against plain torch.

Legend: T tokens, D model, E experts, K experts a token, F expert hidden.
"""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels import experts, routing  # noqa: E402
from model.kernels.experts import FP8, ExpertWeights, Tiles  # noqa: E402
from model.ops import reference  # noqa: E402


def _weights(num_experts: int, width: int, hidden: int) -> tuple[Tensor, Tensor]:
    gate_up = torch.randn(num_experts, 2 * hidden, width) / width**0.5
    down = torch.randn(num_experts, width, hidden) / hidden**0.5
    return gate_up.bfloat16(), down.bfloat16()


def _quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.float().abs().amax(-1, keepdim=True).clamp(min=1e-30) / 448
    return (x.float() / scale).to(FP8), scale.squeeze(-1)


def _assignments(tokens: int, num_experts: int, top_k: int, kind: str) -> tuple[Tensor, Tensor]:
    """Distinct experts a token; `overloaded`: all choose expert 0; `few`: only three are used."""
    score = torch.rand(tokens, num_experts)
    if kind == "overloaded":
        score[:, 0] = 2
    if kind == "few":
        score[:, 3:] -= 2
    return score.topk(top_k).indices.int(), torch.rand(tokens, top_k)


def _fp8_reference(
    x: Tensor,
    scale: Tensor,
    expert: Tensor,
    weight: Tensor,
    gate_up: tuple[Tensor, Tensor],
    down: tuple[Tensor, Tensor],
) -> Tensor:
    """The recipe expert by expert, as `model.precision.Fp8Experts` runs it."""
    out = torch.zeros(x.shape, dtype=torch.float32)
    for index in expert.unique().tolist():
        token, slot = torch.where(expert == index)
        scales = scale[token, None] * gate_up[1][index]
        merged = (x[token].float() @ gate_up[0][index].float().t() * scales).bfloat16()
        values, row_scale = _quantised(reference.gated_gelu(merged))
        scales = row_scale[:, None] * down[1][index]
        answer = (values.float() @ down[0][index].float().t() * scales).bfloat16()
        out.index_add_(0, token, answer.float() * weight[token, slot, None])
    return out.bfloat16()


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


@pytest.mark.parametrize(
    ("tokens", "width", "num_experts"), [(1, 64, 8), (5, 300, 6), (33, 520, 20)]
)
def test_scores_and_routing_in_one_launch_are_the_two(
    tokens: int, width: int, num_experts: int
) -> None:
    """Again and again with the same counters, as a graph replays it."""
    torch.manual_seed(10)
    weight, scale = torch.randn(num_experts, width).bfloat16(), torch.rand(num_experts).bfloat16()
    arrived = torch.zeros(routing.MOST_TILES, dtype=torch.int32)
    for _ in range(2):
        x = torch.randn(tokens, width).bfloat16()
        want = routing.route(routing.router_scores(x, weight), scale, 3)
        found = routing.score_and_route(x, weight, scale, 3, arrived)
        assert not arrived.any()
        for one, wanted in zip(found, want, strict=True):
            assert torch.equal(one, wanted)


def test_many_tokens_are_routed_in_two_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routing, "_FEW", 2)
    x, weight = torch.randn(3, 16).bfloat16(), torch.randn(4, 16).bfloat16()
    arrived = torch.full((routing.MOST_TILES,), 7, dtype=torch.int32)
    found = routing.score_and_route(x, weight, torch.ones(4), 2, arrived)
    want = routing.route(F.linear(x, weight), torch.ones(4), 2)
    assert all(torch.equal(one, wanted) for one, wanted in zip(found, want, strict=True))
    assert (arrived == 7).all()


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
    expert, _ = _assignments(tokens, num_experts, 3, kind)
    sorted_rows = routing.sort_rows(expert, num_experts, rows)
    flat = expert.flatten()
    place, want_tiles = [], []
    for index in range(num_experts):
        mine = torch.where(flat == index)[0].tolist()
        tiles = -(-len(mine) // rows)
        place += mine + [flat.numel()] * (tiles * rows - len(mine))
        want_tiles += [index] * tiles
    unused = sorted_rows.tile_expert_M.numel() - len(want_tiles)
    assert unused >= 0
    assert sorted_rows.num_tiles_1.item() == len(want_tiles)
    assert sorted_rows.tile_expert_M.tolist() == want_tiles + [-1] * unused
    assert sorted_rows.assignment_P[: len(place)].tolist() == place


def test_max_tiles_is_reached_and_never_passed() -> None:
    assert routing.max_tiles(2048, 128, 32) == 188
    assert routing.max_tiles(8, 128, 16) == 8
    for counts in ([17, 1, 1, 1], [20, 0, 0, 0], [5, 5, 5, 5], [9, 9, 1, 1]):
        used = sum(-(-count // 4) for count in counts)
        assert used <= routing.max_tiles(20, 4, 4)


_SHAPES = [  # tokens, experts, top k, width, hidden, kind
    (5, 8, 2, 128, 64, "uniform"),
    (1, 8, 8, 64, 96, "uniform"),
    (40, 4, 2, 80, 48, "overloaded"),
    (20, 8, 3, 96, 112, "few"),
]


def _matrices(gate_up: tuple[Tensor, Tensor], down: tuple[Tensor, Tensor]) -> ExpertWeights:
    return ExpertWeights(gate_up[0], down[0], gate_up[1], down[1])


_TILES = [Tiles(16, 32, 64, tma=True), Tiles(16, 32, 32, tma=False)]


@pytest.mark.parametrize("tiles", _TILES, ids=["tma", "pointers"])
@pytest.mark.parametrize("shape", _SHAPES)
def test_experts_bf16(shape: tuple[int, int, int, int, int, str], tiles: Tiles) -> None:
    tokens, num_experts, top_k, width, hidden, kind = shape
    torch.manual_seed(2)
    x = torch.randn(tokens, width).bfloat16()
    expert, weight = _assignments(tokens, num_experts, top_k, kind)
    gate_up, down = _weights(num_experts, width, hidden)
    got = experts.mixed_experts(
        x, None, expert, weight, ExpertWeights(gate_up, down), (tiles, tiles)
    )
    want = reference.experts(x, expert.long(), weight, gate_up, down)
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got, want, rtol=2e-2, atol=2e-2)
    exact = reference.experts(x.float(), expert.long(), weight, gate_up.float(), down.float())
    assert (got.float() - exact).norm() <= 1.05 * (want.float() - exact).norm()


@pytest.mark.parametrize("tiles", _TILES, ids=["tma", "pointers"])
@pytest.mark.parametrize("shape", _SHAPES)
def test_experts_fp8(shape: tuple[int, int, int, int, int, str], tiles: Tiles) -> None:
    tokens, num_experts, top_k, width, hidden, kind = shape
    torch.manual_seed(3)
    x, row_scale = _quantised(torch.randn(tokens, width).bfloat16())
    expert, weight = _assignments(tokens, num_experts, top_k, kind)
    gate_up, down = map(_quantised, _weights(num_experts, width, hidden))
    got = experts.mixed_experts(
        x, row_scale, expert, weight, _matrices(gate_up, down), (tiles, tiles)
    )
    want = _fp8_reference(x, row_scale, expert, weight, gate_up, down)
    error = (got.float() - want.float()).norm() / want.float().norm()
    assert error < 3e-3
    torch.testing.assert_close(got, want, rtol=5e-2, atol=5e-2)


def test_gate_up_and_down_may_take_different_rows() -> None:
    torch.manual_seed(4)
    x = torch.randn(20, 64).bfloat16()
    expert, weight = _assignments(20, 4, 2, "overloaded")
    weights = ExpertWeights(*_weights(4, 64, 32))
    up, down = Tiles(16, 32, 64, tma=False), Tiles(32, 32, 32)
    got = experts.mixed_experts(x, None, expert, weight, weights, (up, down))
    same = experts.mixed_experts(x, None, expert, weight, weights, (up, Tiles(16, 32, 32)))
    assert torch.equal(got, same)


@pytest.mark.parametrize(
    "shape", [*(pytest.param(each, marks=pytest.mark.slow) for each in _SHAPES[:2]), *_SHAPES[2:]]
)  # in the first two no expert has a second tile
@pytest.mark.parametrize(
    "way", [{"by_tile": True}, {"persistent": 3}, {"persistent": 1000}], ids=str
)
def test_the_order_of_programs_changes_nothing(
    way: dict[str, int], shape: tuple[int, int, int, int, int, str]
) -> None:
    tokens, num_experts, top_k, width, hidden, kind = shape
    torch.manual_seed(8)
    x = torch.randn(tokens, width).bfloat16()
    expert, _ = _assignments(tokens, num_experts, top_k, kind)
    weights = ExpertWeights(*_weights(num_experts, width, hidden))
    plain, other = Tiles(16, 32, 64), Tiles(16, 32, 64, **way)
    arguments = (x, None, expert, weights)
    found, expected = (experts.expert_rows(*arguments, (t, t)) for t in (other, plain))
    assert torch.equal(found, expected)


@pytest.mark.parametrize("tokens", [1, 3])
def test_defaults_on_tiny_weights(tokens: int) -> None:
    torch.manual_seed(5)
    x = torch.randn(tokens, 64).bfloat16()
    expert, weight = _assignments(tokens, 4, 2, "uniform")
    gate_up, down = _weights(4, 64, 32)
    got = experts.mixed_experts(x, None, expert, weight, ExpertWeights(gate_up, down))
    want = reference.experts(x, expert.long(), weight, gate_up, down)
    torch.testing.assert_close(got, want, rtol=2e-2, atol=2e-2)


def test_quantise_rows() -> None:
    torch.manual_seed(6)
    hidden = torch.randn(5, 48).bfloat16()
    hidden[2] = 0
    values, scale = experts.quantise_rows(hidden)
    from model.precision import quantise_rows

    want, want_scale = quantise_rows(hidden)
    assert torch.equal(scale, want_scale.squeeze(-1))
    assert torch.equal(values.float(), want.float())


def test_gated_gelu_rounds_like_torch() -> None:
    torch.manual_seed(7)
    gate_up = torch.randn(1, 64, 64).bfloat16()
    x = torch.eye(64).bfloat16()
    expert = torch.zeros(64, 1, dtype=torch.int32)
    tiles = Tiles(16, 32, 64)
    sorted_rows = routing.sort_rows(expert, 1, 16)
    got = experts.gate_up_rows(x, None, gate_up, None, sorted_rows, 1, tiles)
    want = reference.gated_gelu(F.linear(x, gate_up[0]))
    assert (got != want).float().mean() < 0.01
    torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-6)
