"""One choice after another, each kept if a whole step is quicker with it than with any before.

A kernel alone is timed wrongly: what runs beside it, before it and after it decides how much of the
caches and of the bus it gets. So every trial is a table, and its time a whole captured step.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from bench.tune.candidates import (
    dense_products,
    dense_tiles,
    expert_tiles,
    gated_tiles,
    head_tiles,
    qkv_products,
    soon_mib,
    soon_qkv,
)
from model.config import ModelConfig
from model.kernels.tiles import FP8, DenseTiles, GatedTiles, HeadTiles, TileTable

_QUICKER = 0.999  # of the best time so far: less is noise

Timer = Callable[[TileTable], float]
"""Milliseconds of a step with a table; raises what the device raises."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One table that was timed.

    Attributes:
        what: the product whose tiles were tried, or the launch.
        tiles: tried; None for what there is without tiles.
        step_ms: of the whole step; None where it failed.
        error: why it failed.
    """

    what: str
    tiles: dict[str, Any] | None
    step_ms: float | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The best table, its time, and everything tried."""

    table: TileTable
    step_ms: float
    trials: tuple[Trial, ...]


def search(
    start: TileTable,
    config: ModelConfig,
    dtype: torch.dtype,
    tokens: int,
    timer: Timer,
    deadline: float,
    seen: Callable[[Trial], None] = lambda _: None,
) -> Found:
    """Tries every candidate of every product until time.monotonic() reaches the deadline.

    Args:
        start: the table that a device has so far; its time is the first.
        dtype: of the experts' weights.
        tokens: of a step.
        seen: called with every trial.
    """
    trials: list[Trial] = []

    def timed(what: str, tiles: dict[str, Any] | None, table: TileTable) -> float:
        try:
            step_ms = timer(table)
            trials.append(Trial(what, tiles, step_ms))
        except (RuntimeError, ValueError) as error:
            step_ms = float("inf")
            trials.append(Trial(what, tiles, None, str(error).splitlines()[0][:200]))
        seen(trials[-1])
        return step_ms

    best, best_ms = start, timer(start)
    seen(Trial("so far", None, best_ms))
    for what, candidates in _choices(config, dtype, tokens):
        for tiles, changed in candidates(best):
            if time.monotonic() > deadline:
                break
            if changed == best:
                continue
            step_ms = timed(what, tiles, changed)
            if step_ms < _QUICKER * best_ms:
                best, best_ms = changed, step_ms
    return Found(best, best_ms, tuple(trials))


_Changes = list[tuple[dict[str, Any] | None, TileTable]]


def _choices(
    config: ModelConfig, dtype: torch.dtype, tokens: int
) -> Sequence[tuple[str, Callable[[TileTable], _Changes]]]:
    """Each product with what makes of a table those that differ in it alone."""

    def experts(kernel: str) -> Callable[[TileTable], _Changes]:
        def changes(table: TileTable) -> _Changes:
            up, down = table.for_experts(dtype, tokens)
            found: _Changes = []
            for tiles in expert_tiles(kernel, dtype, tokens):
                pair = (tiles, down) if kernel == "gate_up" else (up, tiles)
                found.append((asdict(tiles), table.with_experts(dtype, tokens, *pair)))
            return found

        return changes

    def dense(channels: int, depth: int) -> Callable[[TileTable], _Changes]:
        def changes(table: TileTable) -> _Changes:
            now = table.for_dense(tokens, channels, depth)
            return [
                (_plain(tiles), table.with_dense(tokens, channels, depth, tiles))
                for tiles in dense_tiles(tokens)
                if tiles != now
            ]

        return changes

    def qkv(channels: int, depth: int, size: int) -> Callable[[TileTable], _Changes]:
        def changes(table: TileTable) -> _Changes:
            now = table.for_qkv(tokens, channels, depth)
            return [
                (_plain(tiles), table.with_qkv(tokens, channels, depth, tiles))
                for tiles in head_tiles(tokens, size)
                if tiles != now
            ]

        return changes

    def gated(table: TileTable) -> _Changes:
        shape = 2 * config.dense_hidden_size, config.hidden_size
        now = table.for_gated(dtype, tokens, *shape)
        return [
            (_plain(tiles), table.with_gated(dtype, tokens, *shape, tiles))
            for tiles in gated_tiles(dtype, tokens)
            if tiles != now
        ]

    def hidden_rows(table: TileTable) -> _Changes:
        up, down = table.for_experts(dtype, tokens)
        if up.persistent:
            return []
        up = replace(up, quantise=not up.quantise)
        return [({"quantise": up.quantise}, table.with_experts(dtype, tokens, up, down))]

    def experts_soon(table: TileTable) -> _Changes:
        up, _ = table.for_experts(dtype, tokens)
        _, qkv = table.for_soon(dtype, tokens)
        return [
            ({"soon_mib": size}, table.with_soon(dtype, tokens, size, qkv))
            for size in soon_mib(up, tokens)
        ]

    def attention_soon(table: TileTable) -> _Changes:
        size_bytes, _ = table.for_soon(dtype, tokens)
        return [
            ({"soon_qkv": wanted}, table.with_soon(dtype, tokens, size_bytes >> 20, wanted))
            for wanted in soon_qkv(tokens)
        ]

    def router(table: TileTable) -> _Changes:
        one_launch = not table.for_router(dtype, tokens)
        changed = table.with_router(dtype, tokens, one_launch)
        return [({"one_launch": one_launch}, changed)]

    products = [(f"experts {kernel}", experts(kernel)) for kernel in ("down", "gate_up")]
    if dtype == FP8:
        products += [(name, dense(*shape)) for name, *shape in dense_products(config)]
        products += [(name, qkv(*shape)) for name, *shape in qkv_products(config)]
        products.append(("experts hidden rows", hidden_rows))
    return [
        *products,
        ("dense gate and up, gated", gated),
        ("router", router),
        ("experts' weights asked for", experts_soon),
        ("attention's weights asked for", attention_soon),
    ]


def _plain(tiles: DenseTiles | GatedTiles | HeadTiles | None) -> dict[str, Any] | None:
    return None if tiles is None else asdict(tiles)
