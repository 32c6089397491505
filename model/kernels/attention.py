"""Triton attention over rings of the KV cache: query heads of a KV head together, keys in splits.

How many slots are looked at is decided on the device, so one launch serves every length of prefix
and costs what that prefix does.

Legend: B seqs, L positions, N heads, G KV heads, R = N / G query heads of a KV head, M = L * R rows
of a KV head (token by token), K keys, H head dim, P splits of the keys, T tiles of keys.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from model.kernels.attention_jit import (
    attend,
    combine,
    combine_quantised,
    combine_row,
    mix_tiles,
    score_tiles,
)
from model.kernels.glue import Quantised, quantise_rows
from model.kernels.overlap import overlapped
from model.masks import Sight
from model.ops import torch_native

_UNROLLED = 8  # splits
# Of `TwoProducts`: 512 MiB of scratch.
_MAX_WEIGHTS = 1 << 28


@dataclass(frozen=True, slots=True)
class Tiles:
    """How one launch is cut.

    Attributes:
        rows, keys: of a tile; columns: of the head that a program accumulates, all or a part.
        programs: how many to aim at by splitting the keys, whatever their number: a graph is
            launched for any, and a prefix gives the same bits in any cache.
        tma: keys and values through tensor descriptors, else through plain pointers.
        part: dtype of the splits' results; fp16 halves them and is finer than the bf16 result,
            but values must stay below 65504.
    """

    rows: int
    keys: int
    columns: int
    warps: int
    stages: int
    programs: int = 132
    tma: bool = True
    part: torch.dtype = torch.float32


@dataclass(frozen=True, slots=True)
class TwoProducts:
    """How wide heads are cut into a launch for all weights and one that mixes the values.

    No accumulator as wide as the head and no score computed twice, for [B, G, M, K] of scratch.

    Attributes:
        rows, keys, inner, warps, stages: of a tile of weights.
        mix_rows, mix_keys, columns, mix_warps, mix_stages: of the product with the values;
            mix_keys divides keys.
    """

    rows: int = 128
    keys: int = 128
    inner: int = 64
    warps: int = 8
    stages: int = 3
    mix_rows: int = 64
    mix_keys: int = 64
    columns: int = 256
    mix_warps: int = 4
    mix_stages: int = 3
    tma: bool = True


def default_tiles(
    rows: int, kv_heads: int, size: int, weights: int, *, causal: bool
) -> Tiles | TwoProducts:
    """For `rows` rows of each of B * G KV heads of a size, and so many weights altogether."""
    if rows <= 16:
        return Tiles(16, 32, size, 4, 3 if size <= 256 else 2, programs=264, tma=False)
    if rows < 128:
        return Tiles(64, 64 if size <= 256 else 32, min(size, 256), 4, 2)
    if size <= 256:
        tiles = Tiles(128, 64, size, 8, 2)
        # Written without splits, a tile of 64 keys does not fit the registers.
        whole = _splits(triton.cdiv(rows, 128) * kv_heads, tiles) == 1
        return Tiles(128, 32, size, 8, 3) if whole else tiles
    if weights > _MAX_WEIGHTS:
        return Tiles(128, 64, 256, 8, 1)
    return TwoProducts(keys=64, warps=4) if causal else TwoProducts()


def attention(
    q_BNLH: Tensor,
    k_BGKH: Tensor,
    v_BGKH: Tensor,
    *,
    sight: Sight,
    tiles: Tiles | TwoProducts | None = None,
) -> Tensor:
    """`torch_native.attention` with fp32 accumulation; the scores are never rounded.

    A row that sees nothing (padding) gets finite values of no meaning.

    Args:
        q_BNLH: of the L positions after those cached.
        k_BGKH, v_BGKH: rings: position p in slot p mod K. All three bf16 of any strides, the last
            dimension contiguous. H must be a power of two of at least 16; anything else goes to
            torch.
        sight: which slots a row sees.

    Returns:
        [B, L, N * H], contiguous.
    """
    attended = _attended(q_BNLH, k_BGKH, v_BGKH, sight, tiles)
    return _combined(attended) if isinstance(attended, _Splits) else attended


def attention_quantised(
    q_BNLH: Tensor,
    k_BGKH: Tensor,
    v_BGKH: Tensor,
    *,
    sight: Sight,
    tiles: Tiles | TwoProducts | None = None,
) -> Quantised:
    """`attention`, then `glue.quantise_rows`: values [B * L, N * H] and scales [B * L].

    The same bits in a launch less where the keys are in a few splits.
    """
    attended = _attended(q_BNLH, k_BGKH, v_BGKH, sight, tiles)
    if isinstance(attended, _Splits):
        heads = q_BNLH.shape[1]
        if len(attended.part_PBGMH) <= _UNROLLED and heads & (heads - 1) == 0:
            return _combined_quantised(attended)
        attended = _combined(attended)
    return quantise_rows(attended.flatten(0, 1))


class _Splits(NamedTuple):
    """Results over several splits of the keys, with base-2 logarithms of their weights."""

    part_PBGMH: Tensor
    lse_PBGM: Tensor
    length: int


def _attended(
    q_BNLH: Tensor,
    k_BGKH: Tensor,
    v_BGKH: Tensor,
    sight: Sight,
    tiles: Tiles | TwoProducts | None,
) -> Tensor | _Splits:
    """[B, L, N * H], or the splits it is the mean of."""
    batch, num_heads, length, size = q_BNLH.shape
    if q_BNLH.dtype is not torch.bfloat16 or size < 16 or size & (size - 1):
        mask = sight.mask(length, k_BGKH.shape[2])
        return torch_native.attention(q_BNLH, k_BGKH, v_BGKH, mask)
    if tiles is None:
        groups, num_keys = k_BGKH.shape[1], k_BGKH.shape[2]
        rows, weights = length * (num_heads // groups), batch * num_heads * length * num_keys
        tiles = default_tiles(rows, batch * groups, size, weights, causal=sight.causal)
    if isinstance(tiles, TwoProducts):
        return _two_products(q_BNLH, k_BGKH, v_BGKH, sight, tiles).flatten(2)
    return _flash(q_BNLH, k_BGKH, v_BGKH, sight, tiles)


def _flash(
    q_BNLH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor, sight: Sight, tiles: Tiles
) -> Tensor | _Splits:
    """Online softmax over the keys of a split; of one alone [B, L, N * H]."""
    batch, num_heads, length, size = q_BNLH.shape
    groups, num_keys = k_BGKH.shape[1], k_BGKH.shape[2]
    rows = length * (num_heads // groups)
    columns = min(tiles.columns, size)
    blocks = triton.cdiv(rows, tiles.rows)
    splits = _splits(blocks * batch * groups * (size // columns), tiles)
    if splits > 1:
        out = q_BNLH.new_empty((splits, batch, groups, rows, size), dtype=tiles.part)
        lse = q_BNLH.new_empty((splits, batch, groups, rows), dtype=torch.float32)
    else:
        out = lse = q_BNLH.new_empty((batch, length, num_heads, size))
    attend[(blocks * (size // columns), splits, batch * groups)](
        q_BNLH, _source(k_BGKH, tiles.tma, tiles.keys, size),
        _source(v_BGKH, tiles.tma, tiles.keys, columns),
        *_counts(sight), out, lse, length, num_keys,
        *q_BNLH.stride()[:3], *k_BGKH.stride()[:3], *v_BGKH.stride()[:3],
        G=groups, R=num_heads // groups, H=size, ROWS=tiles.rows, KEYS=tiles.keys,
        COLUMNS=columns, SPLIT=splits > 1, **_hiding(sight), TMA=tiles.tma,
        STAGES=tiles.stages, num_warps=tiles.warps, **overlapped(q_BNLH),
    )  # fmt: skip
    return _Splits(out, lse, length) if splits > 1 else out.flatten(2)


def _combined(parts: _Splits) -> Tensor:
    """The splits' mean: [B, L, N * H]."""
    part, lse, length = parts
    splits, batch, groups, rows, size = part.shape
    heads = {"G": groups, "R": rows // length, "H": size}
    out_BLNH = part.new_empty((batch, length, groups * heads["R"], size), dtype=torch.bfloat16)
    if splits > _UNROLLED:
        columns = min(size, 64 if splits <= 128 else 32)
        combine_row[(rows * (size // columns), batch * groups)](
            part, lse, out_BLNH, length, splits, **heads,
            SPLITS=triton.next_power_of_2(splits), COLUMNS=columns, num_warps=4,
            **overlapped(part),
        )  # fmt: skip
    else:
        combine[(triton.cdiv(rows, 4), batch * groups)](
            part, lse, out_BLNH, length, **heads, SPLITS=splits, ROWS=4, COLUMNS=size,
            num_warps=size // 64 or 1, **overlapped(part),
        )  # fmt: skip
    return out_BLNH.flatten(2)


def _combined_quantised(parts: _Splits) -> Quantised:
    """The splits' mean in e4m3 and its scales, a program a token: [B * L, N * H], [B * L]."""
    part, lse, length = parts
    splits, batch, groups, rows, size = part.shape
    width = groups * (rows // length) * size
    values = part.new_empty((batch * length, width), dtype=torch.float8_e4m3fn)
    scale = part.new_empty(batch * length, dtype=torch.float32)
    combine_quantised[(length, batch)](
        part, lse, values, scale, length, G=groups, R=rows // length, H=size, SPLITS=splits,
        num_warps=min(max(width // 512, 1), 16), **overlapped(part),
    )  # fmt: skip
    return values, scale


def _two_products(
    q_BNLH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor, sight: Sight, tiles: TwoProducts
) -> Tensor:
    """All weights, each tile relative to its own peak, then their product: [B, L, N, H]."""
    batch, num_heads, length, size = q_BNLH.shape
    groups, num_keys = k_BGKH.shape[1], k_BGKH.shape[2]
    rows = length * (num_heads // groups)
    num_tiles = triton.cdiv(num_keys, tiles.keys) + 1  # a ring's cursor cuts a tile in two
    out_BLNH = q_BNLH.new_empty((batch, length, num_heads, size))
    weights = q_BNLH.new_empty((batch, groups, rows, num_tiles * tiles.keys))
    peak, total = q_BNLH.new_empty((2, batch, groups, num_tiles, rows), dtype=torch.float32)
    columns, inner = min(tiles.columns, size), min(tiles.inner, size)
    common = {"G": groups, "R": num_heads // groups, "H": size, **_hiding(sight)}
    score_tiles[(num_tiles, triton.cdiv(rows, tiles.rows), batch * groups)](
        q_BNLH, _source(k_BGKH, tiles.tma, tiles.keys, inner), *_counts(sight),
        weights, peak, total, length, num_keys, *q_BNLH.stride()[:3], *k_BGKH.stride()[:3],
        **common, ROWS=tiles.rows, KEYS=tiles.keys, INNER=inner, TMA=tiles.tma, STAGES=tiles.stages,
        num_warps=tiles.warps, **overlapped(q_BNLH),
    )  # fmt: skip
    mix_tiles[(triton.cdiv(rows, tiles.mix_rows) * (size // columns), batch * groups)](
        weights, peak, total, _source(v_BGKH, tiles.tma, tiles.mix_keys, columns),
        *_counts(sight), out_BLNH, length, num_keys, num_tiles, *v_BGKH.stride()[:3], **common,
        TILE=tiles.keys, ROWS=tiles.mix_rows, KEYS=tiles.mix_keys, COLUMNS=columns,
        TMA=tiles.tma, STAGES=tiles.mix_stages, num_warps=tiles.mix_warps,
        **overlapped(q_BNLH),
    )  # fmt: skip
    return out_BLNH


def _splits(programs: int, tiles: Tiles) -> int:
    """Of the keys, so that each is `programs` programs."""
    return max(1, tiles.programs // programs)


def _counts(sight: Sight) -> tuple[Tensor, Tensor]:
    """Cached positions and each row's first real one; without padding nothing reads the latter."""
    return sight.cached_1, sight.cached_1 if sight.start_B is None else sight.start_B


def _hiding(sight: Sight) -> dict[str, bool | int]:
    """What of the keys a kernel has to hide."""
    window = sight.window if sight.causal else None
    return {
        "CAUSAL": sight.causal,
        "WINDOW": window or 0,
        "PADDED": sight.start_B is not None,
    }


def _source(x_BGKH: Tensor, tma: bool, keys: int, columns: int) -> Tensor | TensorDescriptor:
    return TensorDescriptor.from_tensor(x_BGKH, [1, 1, keys, columns]) if tma else x_BGKH
