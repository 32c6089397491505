"""What `canvasbench tune` may put in place of more launches: what `time_glue` checks and times.

Beside each stand those. Answers differ in a few roundings where sums have another order;
routing must not differ at all.

Legend: T rows, D model, P projected heads, H head dim.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from bench.tune.candidates import head_tiles
from model.config import AttentionConfig
from model.kernels import dense, heads, heads_fused, routing
from model.kernels.tiles import HeadTiles
from model.layers import rope_table
from model.precision import quantise_rows
from tests.gpu.glue_cases import BF16, EPS, SETS, TOP_K, Case, Setting

_HEADS, _EXPERTS, _CACHED = 16, 128, 700
_SORTED_ROWS = 32


def launch_cases(s: Setting) -> Iterator[Case]:
    yield _routing(s)
    sliding = AttentionConfig(num_kv_heads=8, head_dim=s.head, rope_theta=1e4)
    full = AttentionConfig(
        num_kv_heads=2,
        head_dim=2 * s.head,
        rope_theta=1e6,
        rotary_fraction=0.25,
        value_is_key=True,
    )
    for name, geometry in (("sliding", sliding), ("full", full)):
        inputs = _Inputs(s, geometry)
        tiles = [each for each in head_tiles(s.rows, geometry.head_dim) if each is not None]
        for each in tiles or [HeadTiles(16, 32, 4)]:
            yield inputs.case(f"qkv {name} {each.rows} {each.inner} w{each.warps}", each)


def _routing(s: Setting) -> Case:
    """With three launches beside it; what no used tile has may differ."""
    x = torch.randn(SETS, s.rows, s.size, device=s.device).to(BF16)
    weight = torch.randn(_EXPERTS, s.size, device=s.device).to(BF16) / s.size**0.5
    scale = torch.rand(_EXPERTS, device=s.device).to(BF16)
    arrived = torch.zeros(routing.MOST_TILES + 1, dtype=torch.int32, device=s.device)

    def one(index: int) -> tuple[Tensor, ...]:
        inputs = x[index], weight, scale
        expert, share, rows = routing.route_and_sort(*inputs, TOP_K, _SORTED_ROWS, arrived)
        return (expert, share, *rows)

    def three(index: int) -> tuple[Tensor, ...]:
        expert, share = routing.route(routing.router_scores(x[index], weight), scale, TOP_K)
        return (expert, share, *routing.sort_rows(expert, _EXPERTS, _SORTED_ROWS))

    def check() -> dict[str, float]:
        differing = 0
        for index in (*range(SETS), *range(SETS)):
            found, want = one(index), three(index)
            used = int(want[4].item()) * _SORTED_ROWS
            for place, (a, b) in enumerate(zip(found, want, strict=True)):
                differs = a != b
                differing += int((differs[:used] if place == 2 else differs).sum().item())
        return {"differing": differing, "counters_left": arrived.count_nonzero().item()}

    return Case("route_and_sort", one, three, check, (s.rows + _EXPERTS) * s.size * 2 / 1e6)


class _Inputs:
    """Quantised rows, a matrix, and a ring whose end the new positions pass."""

    def __init__(self, s: Setting, geometry: AttentionConfig) -> None:
        size, groups = geometry.head_dim, geometry.num_kv_heads
        projected = _HEADS + groups * (1 if geometry.value_is_key else 2)
        rows = torch.randn(SETS, s.rows, s.size, device=s.device).to(BF16)
        self._quantised = [(values, scale.flatten()) for values, scale in map(quantise_rows, rows)]
        weight, scale = quantise_rows(torch.randn(projected * size, s.size, device=s.device))
        self._matrix = weight, scale.flatten() / s.size**0.5
        norms = 1 + torch.randn(2, size, device=s.device).to(BF16) / 4
        tables = [t.to(s.device, BF16) for t in rope_table(geometry, _CACHED + s.rows)]
        self._ring = torch.zeros(2, 1, groups, s.rows + 512, size, device=s.device, dtype=BF16)
        cached_1 = torch.tensor([_CACHED], device=s.device)
        place = *self._ring[:, :, :, :-1].unbind(), cached_1
        self._rest = (*norms, *tables, _HEADS, groups, EPS, *place)
        self._megabytes = (weight.numel() + s.rows * (s.size + 2 * projected * size)) / 1e6

    def case(self, name: str, tiles: HeadTiles) -> Case:
        def one(index: int) -> Tensor:
            return heads_fused.qkv_fp8_norm_rope_write(
                *self._quantised[index], *self._matrix, *self._rest, tiles=tiles
            )

        def two(index: int) -> Tensor:
            qkv = dense.linear_fp8(*self._quantised[index], *self._matrix)
            return heads.qkv_norm_rope_write(qkv, *self._rest)

        def check() -> dict[str, float]:
            found: dict[str, float] = {}
            want = two(0).clone(), self._ring.clone()
            self._ring.zero_()
            for part, got, wanted in zip(("q", "ring"), (one(0), self._ring), want, strict=True):
                error = (got.float() - wanted.float()).abs()
                found[f"{part}.largest"] = error.max().item()
                found[f"{part}.differing"] = (error > 0).float().mean().item()
            return found

        return Case(name, one, two, check, self._megabytes)
