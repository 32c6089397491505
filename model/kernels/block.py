"""Blocks for `kernels=triton`: the arithmetic of `model.transformer.Block` in few launches.

Every rounding of the unfused chain is kept. Where a product takes e4m3 rows, the kernel before it
writes them; keys and values go straight into the cache's slots.

Legend: B seqs, L positions, T = B * L tokens, D model, N heads, G KV heads, H head dim, K experts a
token.
"""

from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.config import ModelConfig
from model.float8 import ScaledExperts, ScaledLinear
from model.kernels import glue
from model.kernels.experts import experts_bf16, experts_fp8
from model.kernels.glue import Branch, Quantised
from model.kernels.heads import qkv_norm_rope_write
from model.kernels.routing import route
from model.kv_cache import FixedSlots, OpenSlots
from model.layers import Linear, RMSNorm
from model.moe import Experts, Router
from model.ops.torch_native import attention
from model.transformer import Block, Transformer


def fuse(model: Transformer) -> None:
    """Replaces the blocks of a bf16 or fp8 model by fused ones, in place."""
    assert model.dtype is torch.bfloat16, "kernels=triton computes in bf16"
    blocks = [FusedBlock(block, model.config, i) for i, block in enumerate(model.layers())]
    model.blocks = nn.ModuleList(blocks)


class FusedRouter(nn.Module):
    """Routing of rows that the kernel before has normed and scaled."""

    def __init__(self, router: Router, top_k: int) -> None:
        super().__init__()
        self.weight = router.projection.weight
        self.per_expert_scale = router.per_expert_scale
        self._top_k = top_k

    def forward(self, scaled_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Expert indices [T, K] int32 and their weights [T, K] fp32."""
        return route(F.linear(scaled_TD, self.weight), self.per_expert_scale, self._top_k)


class FusedBlock(nn.Module):
    """One layer; takes and returns what `Block` does."""

    layer_scalar: Tensor
    encoder_layer_scalar: Tensor | None

    def __init__(self, block: Block, config: ModelConfig, layer: int) -> None:
        super().__init__()
        geometry = config.attention(config.layer_types[layer])
        self._layer, self._eps = layer, config.rms_norm_eps
        self._heads = config.num_heads, geometry.num_kv_heads
        self.layer_scalar = block.layer_scalar
        self.encoder_layer_scalar = block.encoder_layer_scalar
        self.router = FusedRouter(block.router, config.moe.top_k)
        self.qkv = cast(Linear | ScaledLinear, block.attention.qkv)
        self.output = cast(Linear | ScaledLinear, block.attention.output)
        self.gate_up = cast(Linear | ScaledLinear, block.dense.gate_up)
        self.down = cast(Linear | ScaledLinear, block.dense.down)
        self.experts = cast(Experts | ScaledExperts, block.experts)
        self._is_fp8 = isinstance(self.experts, ScaledExperts)
        kind: Literal["plain", "fp8"] = "fp8" if self._is_fp8 else "plain"
        self._q_weight = _weight(block.attention.q_norm)
        self._k_weight = _weight(block.attention.k_norm)
        self._input_weight = _weight(block.input_norm)
        self._post_attention_weight = _weight(block.post_attention_norm)
        self._branches = (
            Branch(_weight(block.pre_dense_norm), kind),
            Branch(_weight(block.pre_experts_norm), kind),
            Branch(block.router.scale, "router"),
        )
        self._end_weights = (
            _weight(block.post_dense_norm),
            _weight(block.post_experts_norm),
            _weight(block.post_feedforward_norm),
        )

    def forward(
        self,
        x_BLD: Tensor,
        rope_LH: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: OpenSlots | FixedSlots,
        scalar: Tensor,
        *,
        whole_prefix: bool,
    ) -> Tensor:
        batch_size, length, size = x_BLD.shape
        x_TD = x_BLD.reshape(-1, size)
        norm = glue.rms_norm_quantised if self._is_fp8 else glue.rms_norm
        qkv = _product(self.qkv, norm(x_TD, self._input_weight, self._eps))
        new_keys, new_values = cache.place(self._layer, length)
        q_BNLH = qkv_norm_rope_write(
            qkv,
            self._q_weight,
            self._k_weight,
            *rope_LH,
            *self._heads,
            self._eps,
            new_keys,
            new_values,
        )
        attended = attention(q_BNLH, *cache.settle(self._layer), mask).view(batch_size * length, -1)
        out_TD = _product(self.output, glue.quantise_rows(attended) if self._is_fp8 else attended)
        x_TD, (for_dense, for_experts, for_router) = glue.add_rms_norm_then_norms(
            x_TD, out_TD, self._post_attention_weight, self._eps, None, self._branches
        )
        routing = self.router(for_router)
        gate = glue.gated_gelu_quantised if self._is_fp8 else glue.gated_gelu
        dense_TD = _product(self.down, gate(_product(self.gate_up, for_dense)))
        routed_TD = self._routed(for_experts, *routing)
        x_TD, _ = glue.end_block(
            x_TD, dense_TD, routed_TD, *self._end_weights, self._eps, scalar, ()
        )
        return x_TD.view(batch_size, length, size)

    def _routed(self, x: Tensor | Quantised, expert_TK: Tensor, weight_TK: Tensor) -> Tensor:
        experts = self.experts
        if isinstance(experts, ScaledExperts):
            values_TD, scale_T = cast(Quantised, x)
            return experts_fp8(
                values_TD,
                scale_T,
                expert_TK,
                weight_TK,
                experts.gate_up,
                experts.gate_up_scale,
                experts.down,
                experts.down_scale,
            )
        return experts_bf16(cast(Tensor, x), expert_TK, weight_TK, experts.gate_up, experts.down)


def _product(linear: Linear | ScaledLinear, x: Tensor | Quantised) -> Tensor:
    if isinstance(linear, ScaledLinear):
        values_TD, scale_T = cast(Quantised, x)
        return linear.product(values_TD, scale_T[:, None])
    return F.linear(cast(Tensor, x), linear.weight)


def _weight(norm: RMSNorm) -> Tensor:
    assert norm.weight is not None
    return norm.weight.detach()
