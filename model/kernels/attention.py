"""Triton attention over views of the KV cache: query heads of a KV head together, keys in splits.

Legend: B seqs, L positions, N heads, G KV heads, R = N / G query heads of a KV head, M = L * R rows
of a KV head (token by token), K keys, H head dim, P splits of the keys, T tiles of keys.
"""

from dataclasses import dataclass

import torch
import triton
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from model.kernels.attention_jit import (
    attend,
    combine,
    combine_row,
    find_ranges,
    mix_tiles,
    score_tiles,
)
from model.ops import torch_native

# A single position's mask is read by the attention itself up to this length of a split.
_SCAN_UP_TO = 4096
_UNROLLED = 8  # splits
# Of `TwoProducts`: 512 MiB of scratch.
_MAX_WEIGHTS = 1 << 28


@dataclass(frozen=True, slots=True)
class Tiles:
    """How one launch is cut.

    Attributes:
        rows, keys: of a tile; columns: of the head that a program accumulates, all or a part.
        programs: how many to aim at by splitting the keys.
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


def default_tiles(rows: int, size: int, weights: int, *, masked: bool) -> Tiles | TwoProducts:
    """For `rows` rows of a KV head, heads of a size and B * G * M * K weights altogether."""
    if rows <= 16:
        return Tiles(16, 32, size, 4, 3 if size <= 256 else 2, programs=264, tma=False)
    if rows < 128:
        return Tiles(64, 64 if size <= 256 else 32, min(size, 256), 4, 2)
    if size <= 256:
        return Tiles(128, 64, size, 8, 2)
    if weights > _MAX_WEIGHTS:
        return Tiles(128, 64, 256, 8, 1)
    return TwoProducts(keys=64, warps=4) if masked else TwoProducts()


def attention(
    q_BNLH: Tensor,
    k_BGKH: Tensor,
    v_BGKH: Tensor,
    *,
    mask: Tensor | None,
    tiles: Tiles | TwoProducts | None = None,
) -> Tensor:
    """`torch_native.attention` with fp32 accumulation; the scores are never rounded.

    Every mask of `model.masks` lets a row see one range of keys, and that is what is computed: what
    a mask hides between a row's first and last visible key is seen all the same. A row that sees
    nothing gets finite values of no meaning.

    Args:
        q_BNLH, k_BGKH, v_BGKH: bf16 of any strides, the last dimension contiguous. H must be a
            power of two of at least 16; anything else goes to torch.
        mask: bool [1|B, 1, 1|L, K], True means visible; or its `key_ranges`, which serve all
            layers of a pass; None hides nothing.

    Returns:
        [B, L, N * H], contiguous.
    """
    batch, num_heads, length, size = q_BNLH.shape
    if q_BNLH.dtype is not torch.bfloat16 or size < 16 or size & (size - 1):
        return torch_native.attention(q_BNLH, k_BGKH, v_BGKH, mask)
    if tiles is None:
        weights = batch * num_heads * length * k_BGKH.shape[2]
        rows = length * (num_heads // k_BGKH.shape[1])
        tiles = default_tiles(rows, size, weights, masked=mask is not None)
    if isinstance(tiles, TwoProducts):
        ranges = key_ranges(mask) if mask is not None and mask.dtype is torch.bool else mask
        return _two_products(q_BNLH, k_BGKH, v_BGKH, ranges, tiles).flatten(2)
    return _flash(q_BNLH, k_BGKH, v_BGKH, mask, tiles).flatten(2)


def _flash(
    q_BNLH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor, mask: Tensor | None, tiles: Tiles
) -> Tensor:
    """Online softmax over the keys of a split, then the splits' mean: [B, L, N, H]."""
    batch, num_heads, length, size = q_BNLH.shape
    groups, num_keys = k_BGKH.shape[1], k_BGKH.shape[2]
    rows = length * (num_heads // groups)
    columns = min(tiles.columns, size)
    blocks = triton.cdiv(rows, tiles.rows)
    splits, split_keys = _split(blocks * batch * groups * (size // columns), num_keys, tiles)
    out_BLNH = q_BNLH.new_empty((batch, length, num_heads, size))
    part, lse = out_BLNH, out_BLNH
    if splits > 1:
        part = q_BNLH.new_empty((splits, batch, groups, rows, size), dtype=tiles.part)
        lse = q_BNLH.new_empty((splits, batch, groups, rows), dtype=torch.float32)
    ranges, scan, bits, mask_stride = None, 0, q_BNLH, 0
    if mask is not None and mask.dtype is not torch.bool:
        ranges = mask
    elif mask is not None and length == 1 and split_keys <= _SCAN_UP_TO:
        scan = triton.next_power_of_2(split_keys)
        bits, (mask_stride, _) = _bits(mask)
    elif mask is not None:
        ranges = key_ranges(mask)
    attend[(blocks * (size // columns), splits, batch * groups)](
        q_BNLH, _source(k_BGKH, tiles.tma, tiles.keys, size),
        _source(v_BGKH, tiles.tma, tiles.keys, columns),
        bits, q_BNLH if ranges is None else ranges, part, lse, length, num_keys, split_keys,
        *q_BNLH.stride()[:3], *k_BGKH.stride()[:3], *v_BGKH.stride()[:3],
        mask_stride, *_range_strides(ranges),
        G=groups, R=num_heads // groups, H=size, ROWS=tiles.rows, KEYS=tiles.keys,
        COLUMNS=columns, SPLIT=splits > 1, RANGES=ranges is not None, SCAN=scan,
        WHOLE=num_keys % tiles.keys == 0 and mask is None, TMA=tiles.tma,
        STAGES=tiles.stages, num_warps=tiles.warps,
    )  # fmt: skip
    heads = {"G": groups, "R": num_heads // groups, "H": size}
    if splits > _UNROLLED:
        columns = min(size, 64)
        combine_row[(rows * (size // columns), batch * groups)](
            part, lse, out_BLNH, length, splits, **heads,
            SPLITS=triton.next_power_of_2(splits), COLUMNS=columns, num_warps=4,
        )  # fmt: skip
    elif splits > 1:
        combine[(triton.cdiv(rows, 4), batch * groups)](
            part, lse, out_BLNH, length, **heads, SPLITS=splits, ROWS=4, COLUMNS=size,
            num_warps=size // 64 or 1,
        )  # fmt: skip
    return out_BLNH


def _two_products(
    q_BNLH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor, ranges: Tensor | None, tiles: TwoProducts
) -> Tensor:
    """All weights, each tile relative to its own peak, then their product: [B, L, N, H]."""
    batch, num_heads, length, size = q_BNLH.shape
    groups, num_keys = k_BGKH.shape[1], k_BGKH.shape[2]
    rows, num_tiles = length * (num_heads // groups), triton.cdiv(num_keys, tiles.keys)
    out_BLNH = q_BNLH.new_empty((batch, length, num_heads, size))
    weights = q_BNLH.new_empty((batch, groups, rows, num_tiles * tiles.keys))
    peak, total = q_BNLH.new_empty((2, batch, groups, num_tiles, rows), dtype=torch.float32)
    columns, inner = min(tiles.columns, size), min(tiles.inner, size)
    bounds, strides = q_BNLH if ranges is None else ranges, _range_strides(ranges)
    common = {"G": groups, "R": num_heads // groups, "H": size, "RANGES": ranges is not None}
    score_tiles[(num_tiles, triton.cdiv(rows, tiles.rows), batch * groups)](
        q_BNLH, _source(k_BGKH, tiles.tma, tiles.keys, inner), bounds, weights, peak, total,
        length, num_keys, *q_BNLH.stride()[:3], *k_BGKH.stride()[:3], *strides, **common,
        ROWS=tiles.rows, KEYS=tiles.keys, INNER=inner, TMA=tiles.tma, STAGES=tiles.stages,
        num_warps=tiles.warps,
    )  # fmt: skip
    mix_tiles[(triton.cdiv(rows, tiles.mix_rows) * (size // columns), batch * groups)](
        weights, peak, total, _source(v_BGKH, tiles.tma, tiles.mix_keys, columns), bounds,
        out_BLNH, length, num_keys, num_tiles, *v_BGKH.stride()[:3], *strides, **common,
        TILE=tiles.keys, ROWS=tiles.mix_rows, KEYS=tiles.mix_keys, COLUMNS=columns,
        TMA=tiles.tma, STAGES=tiles.mix_stages, num_warps=tiles.mix_warps,
    )  # fmt: skip
    return out_BLNH


def _split(programs: int, num_keys: int, tiles: Tiles) -> tuple[int, int]:
    """How many splits of the keys, and their length: a multiple of a tile, none empty."""
    key_blocks = triton.cdiv(num_keys, tiles.keys)
    per_split = triton.cdiv(key_blocks, max(1, min(tiles.programs // programs, key_blocks)))
    return triton.cdiv(key_blocks, per_split), per_split * tiles.keys


def key_ranges(mask: Tensor) -> Tensor:
    """First visible key and one past the last one, int32 [1|B, 1|L, 2], of a bool mask."""
    bits, strides = _bits(mask)
    batch, _, length, num_keys = mask.shape
    ranges = bits.new_empty((batch, length, 2), dtype=torch.int32)
    keys = min(triton.next_power_of_2(num_keys), 2048)
    find_ranges[(length, batch)](bits, ranges, num_keys, *strides, KEYS=keys, num_warps=4)
    return ranges


def _bits(mask: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """The mask as bytes, and its strides over sequences and positions."""
    if mask.dim() != 4 or mask.shape[1] != 1:
        raise ValueError(f"mask of shape {tuple(mask.shape)}, want [1|B, 1, 1|L, K]")
    bits = mask.view(torch.uint8)
    if bits.stride(3) != 1:
        bits = bits.contiguous()
    return bits, _strides(bits, 0, 2)


def _strides(x: Tensor, first: int, second: int) -> tuple[int, int]:
    """Strides of two dimensions, 0 where the one value serves all."""
    a, b = (0 if x.shape[i] == 1 else x.stride(i) for i in (first, second))
    return a, b


def _range_strides(ranges: Tensor | None) -> tuple[int, int]:
    return (0, 0) if ranges is None else _strides(ranges, 0, 1)


def _source(x_BGKH: Tensor, tma: bool, keys: int, columns: int) -> Tensor | TensorDescriptor:
    return TensorDescriptor.from_tensor(x_BGKH, [1, 1, keys, columns]) if tma else x_BGKH
