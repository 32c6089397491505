"""The small parts: linear maps, norms, rotary tables, the gated MLP, the scaled embedding.

Every module takes an `Ops` (see `model.ops`) at construction; forward has no backend branches.

Legend: B seqs, L positions, D model, F hidden, H head dim, V vocab.
"""

from functools import lru_cache

import torch
from torch import Tensor, nn

from model.config import AttentionConfig
from model.ops import Ops


class Linear(nn.Module):
    """y = x W^T without a bias. `model.precision` may replace it by a quantised twin.

    Args:
        in_features, out_features: sizes of the last dimension before and after.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension, in fp32, with a weight or without one."""

    def __init__(self, size: int, eps: float, ops: Ops, *, with_weight: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size)) if with_weight else None
        self.eps = eps
        self._rms_norm = ops.rms_norm

    def forward(self, x: Tensor) -> Tensor:
        return self._rms_norm(x, self.weight, self.eps)


class GatedMLP(nn.Module):
    """down(gelu_tanh(gate(x)) * up(x)); gate and up are one merged projection [2F, D]."""

    def __init__(self, size: int, hidden_size: int, ops: Ops) -> None:
        super().__init__()
        self.gate_up = Linear(size, 2 * hidden_size)
        self.down = Linear(hidden_size, size)
        self._gated_gelu = ops.gated_gelu

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self._gated_gelu(self.gate_up(x)))


@lru_cache
def _rounded_root(size: int, dtype: torch.dtype) -> float:
    """sqrt(size) rounded to a dtype, as upstream scales embeddings (53.0 for 2816 in bf16)."""
    return torch.tensor(size**0.5, dtype=dtype).item()


class Embedding(nn.Module):
    """The token table [V, D]: scaled by sqrt(D) on the way in, tied to the logits."""

    def __init__(self, vocab_size: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocab_size, size))
        self._size = size

    @property
    def _scale(self) -> float:
        return _rounded_root(self._size, self.weight.dtype)

    def forward(self, token_ids: Tensor) -> Tensor:
        """[B, L] ids -> [B, L, D]."""
        return nn.functional.embedding(token_ids, self.weight) * self._scale

    def soft(self, probabilities_BLV: Tensor) -> Tensor:
        """The expected embedding under [B, L, V] probabilities, scaled like a token's."""
        return torch.matmul(probabilities_BLV.to(self.weight.dtype), self.weight) * self._scale

    def soft_of_believed(self, probabilities_BLV: Tensor, min_belief: Tensor, ops: Ops) -> Tensor:
        """`soft` over the tokens that some position believes in (`reference.soft_embedding`)."""
        known_BLV = probabilities_BLV.to(self.weight.dtype)
        return ops.soft_embedding(known_BLV, self.weight, min_belief) * self._scale

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> raw [..., V], before the softcap."""
        return nn.functional.linear(hidden, self.weight)


def rope_table(config: AttentionConfig, num_positions: int) -> tuple[Tensor, Tensor]:
    """cos and signed sin tables, fp32 [num_positions, H]: x' = x cos + swap(x) sin.

    Dimension i pairs with i + H/2; `swap` exchanges the halves and the sine's first half is
    negative.

    Frequencies follow theta^(-2i/H) for the first `rotary_fraction` of the H/2 pairs and are zero
    for the rest (those pairs pass unrotated), which is what transformers calls "proportional" RoPE.
    """
    half = config.head_dim // 2
    num_rotating = int(config.rotary_fraction * config.head_dim // 2)
    exponents = torch.arange(0, 2 * num_rotating, 2, dtype=torch.float32) / config.head_dim
    frequencies = torch.zeros(half)
    frequencies[:num_rotating] = 1.0 / (config.rope_theta**exponents)
    angles = torch.arange(num_positions, dtype=torch.float32)[:, None] * frequencies
    cos, sin = angles.cos(), angles.sin()
    return torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
