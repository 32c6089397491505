"""Attention with q/k/v norms: sliding and full layers, encoder and denoise passes, one module.

Legend: B seqs, L positions, K keys, D model, N heads, G KV heads, H head dim.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from model.config import ModelConfig
from model.layers import Linear, RMSNorm
from model.ops import Ops


class Slots(Protocol):
    """What attention needs of a cache: a place for new keys and values, and what to attend over."""

    def write_and_view(
        self, layer: int, key_BGLH: Tensor, value_BGLH: Tensor
    ) -> tuple[Tensor, Tensor]: ...


class Cache(Slots, Protocol):
    """A cache without slots to be opened, such as training's.

    `model.kv_cache.KVCache` is the one used for generation.
    """

    num_cached: int
    start_B: Tensor | None

    def advance(self, length: int) -> None: ...


class Part(NamedTuple):
    """What a layer's attention reads for the rows of one part of a pass.

    A pass has one part, or two of equally many rows: the second sees what the first has written.
    """

    rope_LH: tuple[Tensor, Tensor]
    """cos and sin of the part's positions; of all from 0 on for blocks that take a `Sight`."""
    mask: Any
    """A mask of bools or None, or a `model.masks.Sight`: what the blocks of the model take."""
    cache: Any
    """`Slots`, in the form the blocks take."""


def part_by_part(
    attend: Callable[[Tensor, Part], Tensor], rows: Tensor, parts: Sequence[Part]
) -> Tensor:
    """Attention of every part's share of the rows (first dimension), one part after the other."""
    if len(parts) == 1:
        return attend(rows, parts[0])
    shares = zip(rows.chunk(len(parts)), parts, strict=True)
    return torch.cat([attend(share, part) for share, part in shares])


class Attention(nn.Module):
    """Multi-head attention, scale 1: q and k are normed with weight and rotated, v only normed.

    Full layers of the released models have no value projection: their value is the raw key
    projection. Query, key and value projections are one merged matrix [(N + G + G') H, D], G' = 0
    without values.
    """

    def __init__(self, config: ModelConfig, layer: int, ops: Ops) -> None:
        super().__init__()
        geometry = config.attention(config.layer_types[layer])
        self.layer = layer
        self._head_dim = geometry.head_dim
        self._num_heads = config.num_heads
        self._num_kv_heads = geometry.num_kv_heads
        num_projected = config.num_heads + geometry.num_kv_heads * (2 - geometry.value_is_key)
        self.qkv = Linear(config.hidden_size, num_projected * geometry.head_dim)
        self.output = Linear(config.num_heads * geometry.head_dim, config.hidden_size)
        self.q_norm = RMSNorm(geometry.head_dim, config.rms_norm_eps, ops)
        self.k_norm = RMSNorm(geometry.head_dim, config.rms_norm_eps, ops)
        self._ops = ops

    def forward(self, x_BLD: Tensor, parts: Sequence[Part]) -> Tensor:
        """Attends over the cache's prefix and these L positions; returns [B, L, D]."""
        qkv_BLPH = self.qkv(x_BLD).unflatten(-1, (-1, self._head_dim))
        return self.output(part_by_part(self._attend, qkv_BLPH, parts))

    def _attend(self, qkv_BLPH: Tensor, part: Part) -> Tensor:
        """[B, L, N * H]"""
        q_BNLH, k_BGLH, v_BGLH = self._ops.qkv_norm_rope(
            qkv_BLPH,
            self.q_norm.weight,
            self.k_norm.weight,
            *part.rope_LH,
            self._num_heads,
            self._num_kv_heads,
            self.q_norm.eps,
        )
        k_BGKH, v_BGKH = part.cache.write_and_view(self.layer, k_BGLH, v_BGLH)
        return self._ops.attention(q_BNLH, k_BGKH, v_BGKH, part.mask)
