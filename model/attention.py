"""Attention with q/k/v norms: sliding and full layers, encoder and denoise passes, one module.

Legend: B seqs, L positions, K keys, D model, N heads, G KV heads, H head dim.
"""

from typing import Protocol

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

    def forward(
        self,
        x_BLD: Tensor,
        rope_LH: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: Slots,
    ) -> Tensor:
        """Attends over the cache's prefix and these L positions; returns [B, L, D]."""
        q_BNLH, k_BGLH, v_BGLH = self._ops.qkv_norm_rope(
            self.qkv(x_BLD).unflatten(-1, (-1, self._head_dim)),
            self.q_norm.weight,
            self.k_norm.weight,
            *rope_LH,
            self._num_heads,
            self._num_kv_heads,
            self.q_norm.eps,
        )
        k_BGKH, v_BGKH = cache.write_and_view(self.layer, k_BGLH, v_BGLH)
        return self.output(self._ops.attention(q_BNLH, k_BGKH, v_BGKH, mask))
