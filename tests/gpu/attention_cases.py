"""Shapes and launch configurations of the attention kernel, besides the defaults, for timing.

Legend: B seqs, L positions, N heads, G KV heads, K keys, H head dim.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels.attention import Tiles, TwoProducts
from model.masks import Sight


@dataclass(frozen=True)
class Shape:
    """16 query heads, `groups` KV heads, a ring of `keys` slots after `cached` positions."""

    name: str
    kind: str
    length: int
    keys: int
    groups: int
    size: int
    cached: int
    causal: bool = False
    window: int | None = None


SHAPES = [
    Shape("sliding denoise", "sliding", 256, 1279, 8, 256, 1024),
    Shape("full denoise", "full", 256, 2048, 2, 512, 1024),
    Shape("sliding commit", "sliding more", 256, 1279, 8, 256, 1024, True, 1024),
    Shape("full commit", "full more", 256, 2048, 2, 512, 1024, True),
    Shape("sliding decode", "sliding decode", 1, 1024, 8, 256, 1280),
    Shape("full decode", "full decode", 1, 2048, 2, 512, 1280),
    Shape("sliding prefill", "sliding more", 1024, 1024, 8, 256, 0, True, 1024),
    Shape("full prefill", "full more", 1024, 1024, 2, 512, 0, True),
    Shape("full denoise 8k", "full more", 256, 8448, 2, 512, 8192),
    Shape("full denoise 1k in a cache of 32k", "full more", 256, 32768, 2, 512, 1024),
]

SETS = 3
FP16 = torch.float16


def inputs(shape: Shape, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Sight]:
    """SETS of q [B, N, L, H] and of k, v [B, G, K, H], views of a cache; what is seen of it."""
    q = torch.randn(SETS, 1, 16, shape.length, shape.size, device=device) * (8 / shape.size**0.5)
    slots = (2, SETS, 1, shape.groups, shape.keys + 9, shape.size)
    cache = torch.randn(slots, dtype=torch.bfloat16, device=device)
    k, v = cache[:, :, :, :, 1 : shape.keys + 1]
    sight = Sight(shape.causal, shape.window, torch.tensor([shape.cached], device=device), None)
    return q.bfloat16(), k, v, sight


def _named(*tiles: Tiles) -> list[tuple[str, Tiles]]:
    return [
        (
            f"{t.rows}x{t.keys}x{t.columns} w{t.warps} s{t.stages} p{t.programs}"
            f"{' tma' if t.tma else ''}{' fp16' if t.part is FP16 else ''}",
            t,
        )
        for t in tiles
    ]


def _pairs(*tiles: TwoProducts) -> list[tuple[str, TwoProducts]]:
    return [
        (
            f"two {t.rows}x{t.keys}x{t.inner} w{t.warps} s{t.stages}"
            f" {t.mix_rows}x{t.mix_keys}x{t.columns} w{t.mix_warps} s{t.mix_stages}",
            t,
        )
        for t in tiles
    ]


CANDIDATES: dict[str, list[tuple[str, Tiles | TwoProducts]]] = {
    "sliding": _named(
        Tiles(128, 64, 256, 8, 2, part=FP16),
        Tiles(128, 64, 256, 8, 2, programs=64),
        Tiles(128, 32, 256, 8, 3),
        Tiles(64, 64, 256, 4, 2),
        Tiles(64, 64, 256, 4, 2, part=FP16),
        Tiles(64, 64, 256, 4, 2, programs=64),
        Tiles(64, 64, 256, 4, 1, programs=264),
        Tiles(64, 64, 256, 4, 1, programs=264, part=FP16),
        Tiles(64, 64, 256, 4, 1, programs=132),
        Tiles(64, 128, 256, 8, 1, programs=132),
    )
    + _pairs(
        TwoProducts(mix_rows=64, columns=128, mix_warps=4),
        TwoProducts(keys=64, warps=4, mix_rows=64, columns=128, mix_warps=4),
    ),
    "full": _named(
        Tiles(128, 64, 256, 8, 1),
        Tiles(64, 32, 256, 4, 2),
    )
    + _pairs(
        TwoProducts(keys=64, warps=4),
        TwoProducts(warps=4),
        TwoProducts(stages=2),
        TwoProducts(mix_stages=2),
        TwoProducts(mix_stages=4),
        TwoProducts(columns=128),
        TwoProducts(mix_rows=128, columns=128, mix_warps=8),
        TwoProducts(mix_rows=128, columns=256, mix_warps=8),
    ),
    "sliding more": _named(
        Tiles(128, 64, 256, 8, 2, part=FP16),
        Tiles(64, 64, 256, 4, 2),
        Tiles(64, 64, 256, 4, 1, programs=264),
    )
    + _pairs(TwoProducts(mix_rows=64, columns=128, mix_warps=4)),
    "full more": _named(
        Tiles(128, 64, 256, 8, 1),
    )
    + _pairs(TwoProducts(), TwoProducts(keys=64, warps=4), TwoProducts(keys=64, stages=4, warps=4)),
    "sliding decode": _named(
        Tiles(16, 64, 256, 4, 2, programs=264, tma=False),
        Tiles(16, 32, 256, 4, 3, programs=132, tma=False),
        Tiles(16, 32, 256, 2, 3, programs=264, tma=False),
    ),
    "full decode": _named(
        Tiles(16, 32, 512, 4, 2, programs=132, tma=False),
        Tiles(16, 64, 512, 8, 2, programs=132, tma=False),
        Tiles(16, 32, 512, 8, 2, programs=132, tma=False),
        Tiles(16, 16, 512, 4, 2, programs=264, tma=False),
        Tiles(16, 32, 256, 4, 2, programs=264, tma=False),
    ),
}
