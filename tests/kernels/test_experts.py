"""Expert kernels in Triton's interpreter against plain torch.

Legend: T tokens, D model, E experts, K experts a token, F expert hidden.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

interpreter = pytest.importorskip("tests.kernels.interpreter", exc_type=ImportError)
interpreter.require()

from model.kernels import experts, glue, routing  # noqa: E402
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


@pytest.mark.parametrize(
    ("shape", "order", "by_tile", "values"),
    [
        ((1, 6, 4, 64, 80, "uniform"), "mixed", True, 1),
        ((20, 4, 1, 64, 48, "overloaded"), "backwards", False, 4),
        ((12, 6, 3, 64, 48, "few"), "in order", True, 32),
    ],
    ids=str,
)
def test_the_last_program_of_a_tile_quantises_its_rows(
    shape: tuple[int, int, int, int, int, str],
    order: str,
    by_tile: bool,
    values: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Again with the same counters, as a graph replays it, whoever comes last."""
    tokens, num_experts, top_k, width, hidden, kind = shape
    torch.manual_seed(9)
    expert, _ = _assignments(tokens, num_experts, top_k, kind)
    gate_up, _ = map(_quantised, _weights(num_experts, width, hidden))
    sorted_rows = routing.sort_rows(expert, num_experts, 16)
    arrived = torch.zeros(len(sorted_rows.tile_expert_M), dtype=torch.int32)
    rest = *gate_up, sorted_rows, top_k, Tiles(16, 32, 64, by_tile=by_tile)
    monkeypatch.setattr(experts, "_VALUES_A_THREAD", values)
    for _ in range(2):
        x = _quantised(torch.randn(tokens, width).bfloat16())
        want, want_scale = experts.quantise_rows(experts.gate_up_rows(*x, *rest))
        with monkeypatch.context() as patch:
            interpreter.program_order(patch, order)
            found, scale = experts.gate_up_rows_quantised(*x, *rest, arrived)
        assert not arrived.any()
        assert torch.equal(scale, want_scale)
        assert torch.equal(found.view(torch.uint8), want.view(torch.uint8))


@pytest.mark.parametrize(
    ("counters", "quantise", "launches"),
    [(None, True, 1), (2, True, 1), (3, False, 1), (3, True, 0)],
    ids=["no counters", "too few counters", "tiles that do not quantise", "all there"],
)
def test_rows_are_quantised_by_their_own_launch_unless_all_is_there(
    counters: int | None, quantise: bool, launches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(10)
    x, row_scale = _quantised(torch.randn(4, 64).bfloat16())
    expert, _ = _assignments(4, 3, 2, "uniform")
    gate_up, down = map(_quantised, _weights(3, 64, 32))
    arguments = (x, row_scale, expert, _matrices(gate_up, down))
    up = Tiles(16, 32, 64)
    want = experts.expert_rows(*arguments, (up, up))
    quantised: list[Tensor] = []

    def counted(rows: Tensor) -> tuple[Tensor, Tensor]:
        quantised.append(rows)
        return glue.quantise_rows(rows)

    monkeypatch.setattr(experts, "quantise_rows", counted)
    arrived = None if counters is None else torch.zeros(counters, dtype=torch.int32)
    found = experts.expert_rows(*arguments, (replace(up, quantise=quantise), up), arrived_M=arrived)
    assert len(quantised) == launches
    assert torch.equal(found, want)
    assert arrived is None or not arrived.any()


def test_bf16_rows_are_not_quantised() -> None:
    torch.manual_seed(11)
    x, (expert, _) = torch.randn(9, 64).bfloat16(), _assignments(9, 6, 2, "uniform")
    weights, up = ExpertWeights(*_weights(6, 64, 48)), Tiles(16, 32, 64)
    arrived = torch.full((64,), 7, dtype=torch.int32)
    want = experts.expert_rows(x, None, expert, weights, (up, up))
    tiles = replace(up, quantise=True), up
    assert torch.equal(
        experts.expert_rows(x, None, expert, weights, tiles, arrived_M=arrived), want
    )
    assert (arrived == 7).all()


def test_persistent_programs_do_not_quantise() -> None:
    x = _quantised(torch.randn(9, 64).bfloat16())
    expert, _ = _assignments(9, 6, 2, "uniform")
    gate_up, down = map(_quantised, _weights(6, 64, 48))
    up, arrived = Tiles(16, 32, 64), torch.zeros(64, dtype=torch.int32)
    tiles = replace(up, persistent=3, quantise=True), up
    with pytest.raises(AssertionError, match="persistent programs do not quantise"):
        experts.expert_rows(*x, expert, _matrices(gate_up, down), tiles, arrived_M=arrived)


def test_rows_that_are_sorted_are_not_sorted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(12)
    x, (expert, _) = torch.randn(9, 64).bfloat16(), _assignments(9, 6, 2, "uniform")
    weights, up = ExpertWeights(*_weights(6, 64, 48)), Tiles(16, 32, 64)
    want = experts.expert_rows(x, None, expert, weights, (up, up))
    sorts: list[int] = []

    def counted(expert_TK: Tensor, num_experts: int, rows: int) -> routing.SortedRows:
        sorts.append(rows)
        return routing.sort_rows(expert_TK, num_experts, rows)

    monkeypatch.setattr(experts, "sort_rows", counted)
    sorted_rows = routing.sort_rows(expert, 6, 16)
    for down, expected in ((up, []), (replace(up, rows=32), [32])):
        found = experts.expert_rows(x, None, expert, weights, (up, down), sorted_rows=sorted_rows)
        assert torch.equal(found, want)
        assert sorts == expected


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
