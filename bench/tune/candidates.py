"""Which tiles are tried, likeliest first.

All compile for compute capability 9.0 without spills and within its shared memory
(`tests/kernels/test_shipped_tiles.py`).
"""

from collections.abc import Iterator
from dataclasses import replace

import torch

from model.config import ModelConfig
from model.kernels.tiles import FP8, DenseTiles, GatedTiles, HeadTiles, Tiles

_PROGRAMS = 132  # multiprocessors of an H100 or H200

_WIDE = {
    ("down", FP8): (
        Tiles(32, 64, 256, 4, 3, persistent=3 * _PROGRAMS),
        Tiles(32, 128, 128, 4, 4, persistent=2 * _PROGRAMS),
        Tiles(32, 64, 128, 4, 4, persistent=4 * _PROGRAMS),
        Tiles(32, 64, 128, 4, 3, persistent=5 * _PROGRAMS),
        Tiles(32, 128, 128, 4, 4, by_tile=True),
        Tiles(32, 64, 128, 4, 5),
    ),
    ("gate_up", FP8): (
        Tiles(32, 64, 128, 4, 3, by_tile=True),
        Tiles(32, 64, 128, 4, 2, by_tile=True),
        Tiles(32, 64, 128, 4, 3, persistent=3 * _PROGRAMS),
        Tiles(32, 64, 128, 4, 3),
    ),
    ("down", torch.bfloat16): (
        Tiles(32, 64, 128, 4, 3, persistent=3 * _PROGRAMS),
        Tiles(32, 128, 64, 4, 4, persistent=2 * _PROGRAMS),
        Tiles(32, 64, 64, 4, 4, persistent=4 * _PROGRAMS),
        Tiles(32, 128, 64, 4, 5, by_tile=True),
        Tiles(32, 64, 64, 4, 6),
    ),
    ("gate_up", torch.bfloat16): (
        Tiles(32, 64, 64, 4, 4, by_tile=True),
        Tiles(32, 64, 128, 4, 3, by_tile=True),
        Tiles(32, 64, 64, 4, 3, by_tile=True),
        Tiles(32, 64, 128, 4, 3),
    ),
}
_NARROW = {
    ("down", FP8): (
        Tiles(16, 64, 256, 4, 3),
        Tiles(16, 64, 128, 4, 6),
        Tiles(16, 128, 128, 4, 4),
    ),
    ("gate_up", FP8): (
        Tiles(16, 64, 128, 4, 5),
        Tiles(16, 64, 256, 4, 4, by_tile=True),
        Tiles(16, 64, 256, 4, 4),
    ),
    ("down", torch.bfloat16): (Tiles(16, 64, 64, 4, 8), Tiles(16, 128, 64, 4, 5)),
    ("gate_up", torch.bfloat16): (Tiles(16, 64, 64, 4, 6), Tiles(16, 64, 128, 4, 5)),
}
_DENSE_WIDE = (
    DenseTiles(128, 128, 128, 8, 4),
    DenseTiles(64, 128, 128, 8, 6),
    DenseTiles(128, 128, 128, 8, 4, 2),
    DenseTiles(64, 128, 128, 4, 6),
    DenseTiles(128, 64, 128, 4, 6),
    None,
)
_DENSE_NARROW = (
    DenseTiles(16, 64, 256, 4, 4, 4),
    DenseTiles(16, 64, 256, 4, 4, 2),
    DenseTiles(16, 64, 256, 4, 4),
)
_HEADS = {  # by the channels of a head
    256: (
        HeadTiles(64, 128, 8, 3),
        HeadTiles(64, 128, 4, 2),
        HeadTiles(32, 128, 4, 3),
        HeadTiles(128, 128, 8, 3),
    ),
    512: (
        HeadTiles(32, 64, 4, 3),
        HeadTiles(32, 128, 8, 3),
        HeadTiles(64, 128, 8, 2),
        HeadTiles(64, 64, 8, 4),
    ),
}
_GATED_WIDE = {
    FP8: (
        GatedTiles(64, 64, 128, 8, 6),
        GatedTiles(64, 64, 128, 4, 6),
        GatedTiles(32, 64, 128, 4, 4),
        GatedTiles(64, 64, 256, 8, 3),
        GatedTiles(128, 64, 128, 8, 6),
    ),
    torch.bfloat16: (
        GatedTiles(64, 64, 64, 4, 6),
        GatedTiles(64, 64, 128, 4, 3),
        GatedTiles(64, 64, 64, 8, 6),
        GatedTiles(64, 64, 128, 8, 4),
        GatedTiles(128, 64, 64, 8, 6),
    ),
}
_GATED_NARROW = {
    FP8: (
        GatedTiles(16, 64, 256, 4, 5),
        GatedTiles(16, 64, 256, 4, 4),
        GatedTiles(16, 64, 128, 4, 8),
    ),
    torch.bfloat16: (
        GatedTiles(16, 64, 128, 4, 5),
        GatedTiles(16, 64, 64, 4, 8),
        GatedTiles(16, 64, 128, 4, 4),
    ),
}
_SOON_MIB = (24, 16, 32, 8, 0)  # an H100's or H200's second-level cache holds 50
_FEWEST_FOR_SOON = 64  # tokens; fewer do not touch every expert, and are too few to ask for much
_FEWEST_FOR_HEADS = 64  # tokens; with fewer a program a head leaves most of the chip idle


def expert_tiles(kernel: str, dtype: torch.dtype, tokens: int) -> tuple[Tiles, ...]:
    """For `gate_up` or `down` of so many tokens."""
    if tokens < 16:
        return _NARROW[kernel, dtype]
    rows = 64 if tokens > 256 else 32 if tokens >= 64 else 16
    return tuple(replace(tiles, rows=rows) for tiles in _WIDE[kernel, dtype])


def dense_tiles(tokens: int) -> tuple[DenseTiles | None, ...]:
    """For a dense fp8 product; None is torch's."""
    return _DENSE_NARROW if tokens <= 16 else _DENSE_WIDE


def head_tiles(tokens: int, size: int) -> tuple[HeadTiles | None, ...]:
    """For a q/k/v product with heads of so many channels; None is the product in a launch alone."""
    if tokens < _FEWEST_FOR_HEADS or size not in _HEADS:
        return (None,)
    return (*_HEADS[size], None)


def gated_tiles(dtype: torch.dtype, tokens: int) -> tuple[GatedTiles | None, ...]:
    """For a dense gate and up product that makes the hidden rows; None is one launch more."""
    return (*(_GATED_NARROW if tokens <= 16 else _GATED_WIDE)[dtype], None)


def soon_mib(tiles: Tiles, tokens: int) -> tuple[int, ...]:
    """For gate_up with these tiles: of its weights, asked for before the router runs."""
    starts_with_the_first = tiles.by_tile or tiles.persistent > 0
    return _SOON_MIB if starts_with_the_first and tokens >= _FEWEST_FOR_SOON else (0,)


def soon_qkv(tokens: int) -> tuple[bool, ...]:
    """Whether the next q/k/v matrix is asked for at a layer's end."""
    return (True, False) if tokens >= _FEWEST_FOR_SOON else (False,)


def dense_products(config: ModelConfig) -> Iterator[tuple[str, int, int]]:
    """Name, channels and depth of every dense product of a model that more than one layer has."""
    size, shared = config.hidden_size, config.dense_hidden_size
    yield "dense gate and up", 2 * shared, size
    yield "dense down", size, shared
    for kind in sorted(set(config.layer_types)):
        geometry = config.attention(kind)
        heads = config.num_heads * geometry.head_dim
        yield f"attention output, {kind}", size, heads


def qkv_products(config: ModelConfig) -> Iterator[tuple[str, int, int, int]]:
    """Name, channels, depth and channels of a head of every q/k/v product of a model."""
    for kind in sorted(set(config.layer_types)):
        geometry = config.attention(kind)
        kept = geometry.num_kv_heads * (1 if geometry.value_is_key else 2)
        channels = (config.num_heads + kept) * geometry.head_dim
        yield f"attention inputs, {kind}", channels, config.hidden_size, geometry.head_dim
