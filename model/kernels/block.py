"""Blocks for `kernels=triton`: the arithmetic of `model.transformer.Block` in few launches.

Every rounding of the unfused chain is kept. Where a product takes e4m3 rows, the kernel before it
writes them; keys and values go straight into the cache's slots.

Legend: B seqs, L positions, T = B * L tokens, D model, N heads, G KV heads, H head dim, K experts a
token.
"""

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.attention import Part
from model.config import ModelConfig
from model.float8 import ScaledExperts, ScaledLinear
from model.kernels import dense, glue
from model.kernels.aside import Aside
from model.kernels.attention import attention, attention_quantised
from model.kernels.experts import ExpertWeights, expert_rows
from model.kernels.gated import gated_product, gated_product_fp8
from model.kernels.glue import Branch, Quantised, Soon
from model.kernels.heads import qkv_norm_rope_write
from model.kernels.heads_fused import qkv_fp8_norm_rope_write
from model.kernels.routing import SortedRows, route, route_and_sort, router_scores
from model.kernels.tile_files import table_for
from model.kernels.tiles import GatedTiles, HeadTiles, TileTable
from model.layers import Linear, RMSNorm
from model.moe import Experts, Router
from model.transformer import Block, Transformer

_COUNTERS = 512  # of each kind: row tiles of 512 tokens with 8 experts each, and to spare


class Carried(NamedTuple):
    """What one block hands to the next: the residual [B, L, D] and its input norm of it."""

    x_BLD: Tensor
    normed: Tensor | Quantised


def fuse(model: Transformer) -> None:
    """Replaces the blocks of a bf16 or fp8 model by fused ones, in place."""
    assert model.dtype is torch.bfloat16, "kernels=triton computes in bf16"
    aside = Aside()
    blocks = [FusedBlock(block, model.config, i, aside) for i, block in enumerate(model.layers())]
    for block, following in itertools.pairwise(blocks):
        block.next_branch = (following.input_branch,)
        block.next_qkv = following.qkv.weight.detach()
    model.blocks = nn.ModuleList(blocks)
    model.spells_masks = False


def retile(model: Transformer, table: TileTable) -> None:
    """Gives the blocks of a fused model other tiles than their device's; graphs keep the old."""
    for block in model.blocks:
        cast(FusedBlock, block).table = table


class FusedRouter(nn.Module):
    """Routing of rows that the kernel before has normed and scaled."""

    def __init__(self, router: Router, top_k: int) -> None:
        super().__init__()
        self.weight = router.projection.weight
        self.per_expert_scale = router.per_expert_scale
        self._top_k = top_k

    def forward(
        self, scaled_TD: Tensor, tile_rows: int, arrived: Tensor | None
    ) -> tuple[Tensor, Tensor, SortedRows | None]:
        """Expert indices [T, K] int32 and their weights [T, K] fp32.

        With counters (`last_jit`) that is one launch, which also sorts rows into tiles.
        """
        if arrived is not None:
            matrix = self.weight, self.per_expert_scale
            return route_and_sort(scaled_TD, *matrix, self._top_k, tile_rows, arrived)
        scores = router_scores(scaled_TD, self.weight)
        return *route(scores, self.per_expert_scale, self._top_k), None


class FusedBlock(nn.Module):
    """One layer; takes what `Block` does or what the block before carried over.

    Attributes:
        input_branch: the norm it starts with.
        next_branch, next_qkv: norm and q/k/v matrix of the block after it; none after the last.
        table: tiles of its products; None for the device's.
    """

    arrived_3M: Tensor
    layer_scalar: Tensor
    encoder_layer_scalar: Tensor | None

    def __init__(self, block: Block, config: ModelConfig, layer: int, aside: Aside) -> None:
        super().__init__()
        geometry = config.attention(config.layer_types[layer])
        self._layer, self._eps, self._aside = layer, config.rms_norm_eps, aside
        self._heads = config.num_heads, geometry.num_kv_heads
        self.layer_scalar = block.layer_scalar
        self.encoder_layer_scalar = block.encoder_layer_scalar
        self.router = FusedRouter(block.router, config.moe.top_k)
        self.qkv = cast(Linear | ScaledLinear, block.attention.qkv)
        self.output = cast(Linear | ScaledLinear, block.attention.output)
        self.gate_up = cast(Linear | ScaledLinear, block.dense.gate_up)
        self.down = cast(Linear | ScaledLinear, block.dense.down)
        experts = cast(Experts | ScaledExperts, block.experts)
        self._is_fp8 = isinstance(experts, ScaledExperts)
        # Counters of router, experts and dense MLP, zeros between launches (`last_jit`).
        arrived_3M = torch.zeros(3, _COUNTERS, dtype=torch.int32, device=self.layer_scalar.device)
        self.register_buffer("arrived_3M", arrived_3M, persistent=False)
        scales = (experts.gate_up_scale, experts.down_scale) if self._is_fp8 else ()
        self._expert_weights = ExpertWeights(experts.gate_up, experts.down, *scales)
        kind: Literal["plain", "fp8"] = "fp8" if self._is_fp8 else "plain"
        self._q_weight = _weight(block.attention.q_norm)
        self._k_weight = _weight(block.attention.k_norm)
        self.input_branch = Branch(_weight(block.input_norm), kind)
        self.next_branch: tuple[Branch, ...] = ()
        self.next_qkv: Tensor | None = None
        self.table: TileTable | None = None
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
        self, x: Tensor | Carried, parts: Sequence[Part], scalar: Tensor
    ) -> Tensor | Carried:
        if isinstance(x, Tensor):
            x = Carried(x, glue.norms(x, self._eps, (self.input_branch,))[0])
        batch_size, length, size = x.x_BLD.shape
        x_TD = x.x_BLD.reshape(-1, size)
        out_TD = self._parts(self.output, self._attended(x.normed, parts))
        soon_experts, soon_qkv = self._soon(len(x_TD))
        x_TD, (for_dense, for_experts, for_router) = glue.add_rms_norm_then_norms(
            x_TD,
            out_TD,
            self._post_attention_weight,
            self._eps,
            None,
            self._branches,
            overlap=True,
            soon=soon_experts,
        )
        dense_TD = self._aside.start(lambda: self._dense(for_dense), x_TD.device)
        weight_TK, routed_ND = self._routed(cast(Tensor, for_router), for_experts)
        x_TD, normed = glue.end_block(
            x_TD,
            dense_TD.join(),
            routed_ND,
            *self._end_weights,
            self._eps,
            scalar,
            self.next_branch,
            weight_TK,
            soon=soon_qkv,
        )
        x_BLD = x_TD.view(batch_size, length, size)
        return Carried(x_BLD, normed[0]) if normed else x_BLD

    def _attended(self, normed: Tensor | Quantised, parts: Sequence[Part]) -> Tensor | Quantised:
        """Attention before its output projection, [T, N * H]."""
        # A share is let go as soon as it is written, so that its memory serves what comes after.
        shares = self._shares(normed, len(parts))
        attended = [self._attend(self._query(shares.pop(0), part), part) for part in parts]
        if len(attended) == 1:
            return attended[0]
        if not self._is_fp8:
            return torch.cat(cast(list[Tensor], attended))
        values, scale = zip(*cast(list[Quantised], attended), strict=True)
        return torch.cat(values), torch.cat(scale)

    def _shares(self, normed: Tensor | Quantised, count: int) -> list[Tensor | Quantised]:
        """Equal parts of the projected rows, or of the normed where one launch projects them."""
        if isinstance(normed, tuple):
            values_TD, scale_T = normed[0].flatten(0, -2), normed[1].flatten()
            if self._qkv_tiles(len(values_TD) // count) is not None:
                return list(zip(values_TD.chunk(count), scale_T.chunk(count), strict=True))
        return list(self._product(self.qkv, normed).chunk(count))

    def _tiles(self) -> TileTable:
        return self.table or table_for(self.layer_scalar.device)

    def _qkv_tiles(self, tokens: int) -> HeadTiles | None:
        return self._tiles().for_qkv(tokens, *self.qkv.weight.shape)

    def _query(self, rows: Tensor | Quantised, part: Part) -> Tensor:
        """q [B, N, L, H] of a part's share, whose keys and values go to the cache."""
        tables, sight, cache = part
        norms = self._q_weight, self._k_weight
        place = *tables, *self._heads, self._eps, *cache.place(self._layer), sight.cached_1
        if isinstance(rows, Tensor):
            return qkv_norm_rope_write(rows, *norms, *place)
        matrix = self.qkv.weight, cast(ScaledLinear, self.qkv).scale
        tiles = self._qkv_tiles(len(rows[0]))
        assert tiles is not None
        return qkv_fp8_norm_rope_write(*rows, *matrix, *norms, *place, tiles=tiles, overlap=True)

    def _attend(self, q_BNLH: Tensor, part: Part) -> Tensor | Quantised:
        """Attention of the queries of a part, whose keys are written; [T, N * H]."""
        _, sight, cache = part
        slots = cache.settle(self._layer)
        if self._is_fp8:
            return attention_quantised(q_BNLH, *slots, sight=sight)
        return attention(q_BNLH, *slots, sight=sight).flatten(0, 1)

    def _dense(self, x: Tensor | Quantised) -> Tensor:
        """The dense MLP; [T, D], or fp32 parts of it."""
        return self._parts(self.down, self._hidden(x))

    def _hidden(self, x: Tensor | Quantised) -> Tensor | Quantised:
        """Hidden rows of the dense MLP [T, F]."""
        gate_up = self.gate_up
        tiles = self._gated_tiles(len(x[0] if isinstance(x, tuple) else x))
        if not isinstance(gate_up, ScaledLinear):
            if tiles is None:
                return glue.gated_gelu(self._product(gate_up, x))
            return gated_product(cast(Tensor, x), gate_up.weight, tiles)
        if tiles is None:
            return glue.gated_gelu_quantised(self._product(gate_up, x))
        matrix = gate_up.weight, gate_up.scale
        return gated_product_fp8(*cast(Quantised, x), *matrix, tiles, self.arrived_3M[2])

    def _soon(self, tokens: int) -> tuple[Soon | None, Soon | None]:
        """Weights to send into the cache: the experts' before the router, q/k/v's at the end."""
        gate_up, qkv = self._expert_weights.gate_up, self.next_qkv
        size_bytes, wants_qkv = self._tiles().for_soon(gate_up.dtype, tokens)
        soon_experts = (gate_up, size_bytes) if size_bytes else None
        if qkv is None or not wants_qkv:
            return soon_experts, None
        return soon_experts, (qkv, qkv.numel() * qkv.element_size())

    def _gated_tiles(self, tokens: int) -> GatedTiles | None:
        """None for two launches, also where there are too many tokens to count."""
        weight = self.gate_up.weight
        tiles = self._tiles().for_gated(weight.dtype, tokens, *weight.shape)
        return tiles if tiles is not None and tokens <= tiles.rows * _COUNTERS else None

    def _routed(self, for_router: Tensor, for_experts: Tensor | Quantised) -> tuple[Tensor, Tensor]:
        """Weights [T, K] and every assignment's expert output, unweighted [T * K, D]."""
        values_TD, scale_T = for_experts if isinstance(for_experts, tuple) else (for_experts, None)
        dtype, tokens = values_TD.dtype, len(values_TD)
        tiles = self._tiles().for_experts(dtype, tokens)
        for_scores, for_rows, _ = self.arrived_3M
        one_launch = self._tiles().for_router(dtype, tokens)
        expert_TK, weight_TK, sorted_rows = self.router(
            for_router, tiles[0].rows, for_scores if one_launch else None
        )
        routed_ND = expert_rows(
            values_TD, scale_T, expert_TK, self._expert_weights, tiles,
            sorted_rows=sorted_rows, arrived_M=for_rows,
        )  # fmt: skip
        return weight_TK, routed_ND

    def _product(self, linear: Linear | ScaledLinear, x: Tensor | Quantised) -> Tensor:
        if not isinstance(linear, ScaledLinear):
            return F.linear(cast(Tensor, x), linear.weight)
        values, scale = cast(Quantised, x)
        rows = values.flatten(0, -2), scale.flatten()
        return dense.linear_fp8(*rows, linear.weight, linear.scale, table=self.table)

    def _parts(self, linear: Linear | ScaledLinear, x: Tensor | Quantised) -> Tensor:
        """`_product` right after a kernel, or its fp32 parts, which the norm after it sums."""
        if not isinstance(linear, ScaledLinear):
            return F.linear(cast(Tensor, x), linear.weight)
        rows = cast(Quantised, x)
        return dense.linear_fp8_parts(
            *rows, linear.weight, linear.scale, table=self.table, overlap=True
        )


def _weight(norm: RMSNorm) -> Tensor:
    assert norm.weight is not None
    return norm.weight.detach()
