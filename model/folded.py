"""Blocks for `kernels=torch` in fp32: the same arithmetic in fewer and larger steps.

What a norm multiplies with is folded into the matrix that follows it, so one normalised residual
feeds dense MLP, experts and router (`model.folded_feed_forward`). Folding moves roundings (not the
formula), which fp32 affords; bf16 and fp8 keep the exact chain of `model.transformer.Block`, their
specification and this one's.

Legend: B seqs, L positions, T = B * L tokens, K keys, D model, N heads, G KV heads, H head dim,
P = N + 2 G.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import Part, part_by_part
from model.config import ModelConfig
from model.folded_feed_forward import columns, make_feed_forward, norm_weight, unit
from model.transformer import Block, Transformer

# Up to this many experts for each one a token uses.
_MAX_EXPERTS_PER_USED = 4
# Up to this many keys plain products beat torch's fused attention on a processor.
_MAX_PLAIN_KEYS = 512


def fold(model: Transformer) -> None:
    """Replaces the blocks of an fp32 model by folded ones, in place, where that is cheaper."""
    moe = model.config.moe
    if model.dtype is not torch.float32 or moe.num_experts > _MAX_EXPERTS_PER_USED * moe.top_k:
        return
    blocks = [FoldedBlock(block, model.config, i) for i, block in enumerate(model.layers())]
    model.blocks = nn.ModuleList(blocks)


class FoldedBlock(nn.Module):
    """One layer; takes and returns what `Block` does."""

    layer_scalar: Tensor
    encoder_layer_scalar: Tensor | None

    def __init__(self, block: Block, config: ModelConfig, layer: int) -> None:
        super().__init__()
        geometry = config.attention(config.layer_types[layer])
        self._layer, self._config, self._geometry = layer, config, geometry
        self._feed_forward = make_feed_forward(block, config)
        self.router = self._feed_forward.router
        self.layer_scalar = block.layer_scalar
        self.encoder_layer_scalar = block.encoder_layer_scalar
        size, head_dim, eps = config.hidden_size, geometry.head_dim, config.rms_norm_eps
        # |x| / sqrt(D) is the root mean square, so every folded weight carries a factor sqrt(D).
        root, head_root = size**0.5, head_dim**0.5
        self._floor = torch.tensor((size * eps) ** 0.5, device=block.layer_scalar.device)
        self._head_floor = torch.tensor((head_dim * eps) ** 0.5, device=block.layer_scalar.device)

        attention = block.attention
        self._qkv_DP = columns(attention.qkv.weight * norm_weight(block.input_norm) * root)
        heads = (config.num_heads, geometry.num_kv_heads)
        norms = (attention.q_norm, attention.k_norm)
        weights = [norm_weight(n).expand(h, -1) for n, h in zip(norms, heads, strict=True)]
        self._qk_weight = torch.cat(weights) * head_root
        self._output = columns(attention.output.weight * head_root)  # the values' norm
        self._post_attention = norm_weight(block.post_attention_norm) * root
        self._post_feedforward = norm_weight(block.post_feedforward_norm) * root

    def forward(self, x_BLD: Tensor, parts: Sequence[Part], scalar: Tensor) -> Tensor:
        batch_size, length, size = x_BLD.shape
        x_TD = x_BLD.view(-1, size)
        qkv = torch.mm(unit(x_TD, self._floor), self._qkv_DP)
        qkv_BLPH = qkv.view(batch_size, length, -1, self._geometry.head_dim)
        out_TD = torch.mm(part_by_part(self.attend, qkv_BLPH, parts), self._output)
        x_TD = torch.addcmul(x_TD, unit(out_TD, self._floor), self._post_attention)
        both_TD = self._feed_forward.of(unit(x_TD, self._floor))
        x_TD = torch.addcmul(x_TD, unit(both_TD, self._floor), self._post_feedforward)
        return x_TD.view(batch_size, length, size) * scalar

    def attend(self, qkv_BLPH: Tensor, part: Part) -> Tensor:
        """Attention before the output projection, [T, N H]."""
        rope_LH, mask, cache = part
        num_heads, num_kv_heads = self._config.num_heads, self._geometry.num_kv_heads
        length = torch.linalg.vector_norm(qkv_BLPH, dim=-1, keepdim=True)
        unit_BLPH = qkv_BLPH / torch.hypot(length, self._head_floor)
        qk = unit_BLPH[:, :, : num_heads + num_kv_heads] * self._qk_weight
        cos, sin = rope_LH
        half = qk.shape[-1] // 2
        swapped = torch.cat((qk[..., half:], qk[..., :half]), dim=-1)
        qk = torch.addcmul(qk * cos[:, None], swapped, sin[:, None]).transpose(1, 2)
        value = unit_BLPH[:, :, -num_kv_heads:].transpose(1, 2)
        k_BGKH, v_BGKH = cache.write_and_view(self._layer, qk[:, num_heads:], value)
        q_BNLH = qk[:, :num_heads]
        if mask is None and k_BGKH.shape[2] <= _MAX_PLAIN_KEYS:
            out_BNLH = _plain_attention(q_BNLH, k_BGKH, v_BGKH)
        else:
            out_BNLH = F.scaled_dot_product_attention(
                q_BNLH, k_BGKH, v_BGKH, attn_mask=mask, scale=1.0, enable_gqa=True
            )
        return out_BNLH.transpose(1, 2).reshape(qkv_BLPH.shape[0] * qkv_BLPH.shape[1], -1)


def _plain_attention(q_BNLH: Tensor, k_BGKH: Tensor, v_BGKH: Tensor) -> Tensor:
    """Unmasked attention as two products and a softmax; the query heads of a KV head together."""
    groups, length = k_BGKH.shape[1], q_BNLH.shape[2]
    q_BGMH = q_BNLH.unflatten(1, (groups, -1)).flatten(2, 3)
    weight_BGMK = torch.softmax(torch.matmul(q_BGMH, k_BGKH.transpose(2, 3)), dim=-1)
    return torch.matmul(weight_BGMK, v_BGKH).unflatten(2, (-1, length)).flatten(1, 2)
