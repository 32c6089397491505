"""Tiles of the product kernels: what a table of them says (`model.kernels.tile_files` reads one).

A list is read from its start: the first entry whose limits are not exceeded is taken, and its last
has none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import torch

FP8 = torch.float8_e4m3fn
_T = TypeVar("_T")
NAMES = {FP8: "fp8", torch.bfloat16: "bf16"}


@dataclass(frozen=True, slots=True)
class Tiles:
    """Shape and schedule of one product kernel of the experts.

    Args:
        rows: token rows a program; gate_up and down share one sort when theirs are equal.
        out: weight rows a program (gate_up takes as many gate as up rows).
        inner: depth of a step.
        tma: weights through tensor descriptors, else through plain pointers.
        promote: fp8 only: leave the tensor core's ~14-bit accumulator after as many products
            (0: never).
        by_tile: neighbouring programs share rows and read on through one expert's weights, else
            they share channels.
        persistent: this many programs, each with many tiles, so that the next one's weights are on
            their way while one is written (0: a program a tile).
        quantise: gate_up in fp8 only: the last program of a row tile quantises the hidden rows,
            else a launch of its own does.
    """

    rows: int = 32
    out: int = 64
    inner: int = 128
    warps: int = 4
    stages: int = 4
    tma: bool = True
    promote: int = 0
    by_tile: bool = False
    persistent: int = 0
    quantise: bool = False


@dataclass(frozen=True, slots=True)
class DenseTiles:
    """Shape and schedule of a dense product.

    Args:
        rows: tokens a program.
        out: channels a program.
        inner: depth of a step.
        split: parts of the depth.
    """

    rows: int = 128
    out: int = 128
    inner: int = 128
    warps: int = 4
    stages: int = 4
    split: int = 1


@dataclass(frozen=True, slots=True)
class HeadTiles:
    """Shape and schedule of the q/k/v product that goes on to attention's inputs by itself.

    A program has a whole head, so channels are no choice.

    Args:
        rows: tokens a program.
        inner: depth of a step.
    """

    rows: int = 64
    inner: int = 128
    warps: int = 8
    stages: int = 3


@dataclass(frozen=True, slots=True)
class GatedTiles:
    """Shape and schedule of the dense gate and up product that goes on to the down product's rows.

    Args:
        rows: tokens a program.
        out: gate channels a program, and as many up channels.
        inner: depth of a step.
    """

    rows: int = 64
    out: int = 64
    inner: int = 128
    warps: int = 4
    stages: int = 4


@dataclass(frozen=True, slots=True)
class ExpertChoice:
    """For up to so many tokens (None: any).

    one_launch: scores, routing and the sort of gate_up's rows are one kernel, else three.
    soon_mib: of gate_up's weights, sent into the second-level cache by the norm before the router;
        of use where its programs start with the first experts (`by_tile`, `persistent`).
    soon_qkv: likewise the next layer's q/k/v matrix, by the last kernel of a layer.
    """

    gate_up: Tiles
    down: Tiles
    up_to_tokens: int | None = None
    one_launch: bool = False
    soon_mib: int = 0
    soon_qkv: bool = False


@dataclass(frozen=True, slots=True)
class DenseChoice(Generic[_T]):
    """For up to so many tokens and channels (None: any); without tiles what is there otherwise.

    With a shape, for the matrices of these [channels, depth] alone, from half as many tokens on.
    """

    tiles: _T | None
    up_to_tokens: int | None = None
    up_to_channels: int | None = None
    shape: tuple[int, int] | None = None

    def is_for(self, tokens: int, channels: int, depth: int) -> bool:
        """Whether this matrix and number of tokens are meant."""
        if not _fits(tokens, self.up_to_tokens) or not _fits(channels, self.up_to_channels):
            return False
        if self.shape is None:
            return True
        return self.shape == (channels, depth) and 2 * tokens > (self.up_to_tokens or 0)


@dataclass(frozen=True, slots=True)
class TileTable:
    """All choices of one device.

    Attributes:
        device: its name, as torch says it.
        source: where and how the choices were timed.
        experts: by weight dtype, `fp8` and `bf16`.
        dense: fp8 only; without tiles torch's product.
        qkv: fp8 only, the q/k/v product that writes attention's inputs; without tiles that is two
            launches, of a dense product and of `heads.qkv_norm_rope_write`.
        gated: by weight dtype, the dense gate and up product whose programs make the hidden rows;
            without tiles that is two launches, of a product and of `glue.gated_gelu`.
    """

    device: str
    source: str
    experts: Mapping[str, Sequence[ExpertChoice]]
    dense: Sequence[DenseChoice[DenseTiles]]
    qkv: Sequence[DenseChoice[HeadTiles]]
    gated: Mapping[str, Sequence[DenseChoice[GatedTiles]]]

    def for_experts(self, dtype: torch.dtype, tokens: int) -> tuple[Tiles, Tiles]:
        """Tiles of gate_up and down."""
        choice = self._choice(dtype, tokens)
        return choice.gate_up, choice.down

    def for_router(self, dtype: torch.dtype, tokens: int) -> bool:
        """Whether scores, routing and sort are one launch, before experts of this dtype."""
        return self._choice(dtype, tokens).one_launch

    def for_soon(self, dtype: torch.dtype, tokens: int) -> tuple[int, bool]:
        """Bytes of gate_up's weights, and whether the next q/k/v matrix, are asked for ahead."""
        choice = self._choice(dtype, tokens)
        return choice.soon_mib << 20, choice.soon_qkv

    def for_dense(self, tokens: int, channels: int, depth: int) -> DenseTiles | None:
        """Tiles of a dense fp8 product; None where torch's is as quick."""
        return next(c.tiles for c in self.dense if c.is_for(tokens, channels, depth))

    def for_qkv(self, tokens: int, channels: int, depth: int) -> HeadTiles | None:
        """Tiles of a q/k/v product in one launch; None for two."""
        return next(c.tiles for c in self.qkv if c.is_for(tokens, channels, depth))

    def for_gated(
        self, dtype: torch.dtype, tokens: int, channels: int, depth: int
    ) -> GatedTiles | None:
        """Tiles of a dense gate and up product in one launch; None for two."""
        choices = self.gated[NAMES.get(dtype, "bf16")]
        return next(c.tiles for c in choices if c.is_for(tokens, channels, depth))

    def with_experts(self, dtype: torch.dtype, tokens: int, up: Tiles, down: Tiles) -> "TileTable":
        """The same with other tiles where this number of tokens falls."""
        return self._with_choice(dtype, tokens, gate_up=up, down=down)

    def with_router(self, dtype: torch.dtype, tokens: int, one_launch: bool) -> "TileTable":
        """The same with routing in one or three launches where this number of tokens falls."""
        return self._with_choice(dtype, tokens, one_launch=one_launch)

    def with_soon(
        self, dtype: torch.dtype, tokens: int, soon_mib: int, soon_qkv: bool
    ) -> "TileTable":
        """The same with these weights asked for ahead of their kernels."""
        return self._with_choice(dtype, tokens, soon_mib=soon_mib, soon_qkv=soon_qkv)

    def with_dense(
        self, tokens: int, channels: int, depth: int, tiles: DenseTiles | None
    ) -> "TileTable":
        """The same with other tiles for matrices of this shape, at up to so many tokens."""
        new = DenseChoice(tiles, tokens, None, (channels, depth))
        return replace(self, dense=_with(self.dense, new))

    def with_qkv(
        self, tokens: int, channels: int, depth: int, tiles: HeadTiles | None
    ) -> "TileTable":
        """Likewise for q/k/v products."""
        new = DenseChoice(tiles, tokens, None, (channels, depth))
        return replace(self, qkv=_with(self.qkv, new))

    def with_gated(
        self, dtype: torch.dtype, tokens: int, channels: int, depth: int, tiles: GatedTiles | None
    ) -> "TileTable":
        """Likewise for dense gate and up products of this dtype."""
        new = DenseChoice(tiles, tokens, None, (channels, depth))
        name = NAMES[dtype]
        return replace(self, gated={**self.gated, name: _with(self.gated[name], new)})

    def _choice(self, dtype: torch.dtype, tokens: int) -> ExpertChoice:
        choices = self.experts[NAMES.get(dtype, "bf16")]
        return next(choice for choice in choices if _fits(tokens, choice.up_to_tokens))

    def _with_choice(self, dtype: torch.dtype, tokens: int, **changes: Any) -> "TileTable":
        name, experts = NAMES[dtype], dict(self.experts)
        place = next(i for i, c in enumerate(experts[name]) if _fits(tokens, c.up_to_tokens))
        changed = list(experts[name])
        changed[place] = replace(changed[place], **changes)
        experts[name] = tuple(changed)
        return replace(self, experts=experts)


def _with(choices: Sequence[DenseChoice[_T]], new: DenseChoice[_T]) -> tuple[DenseChoice[_T], ...]:
    """Choices by shape come first, the fewest tokens of a shape before more."""
    own = [c for c in choices if c.shape and replace(c, tiles=new.tiles) != new]
    own = sorted([*own, new], key=lambda c: (c.shape or (), c.up_to_tokens or 0))
    return (*own, *(c for c in choices if c.shape is None))


def _fits(value: int, limit: int | None) -> bool:
    return limit is None or value <= limit
