"""The autoregressive sibling and every block the two siblings share.

Legend: B seqs, L positions, T = B * L tokens, D model, V vocab.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, ParamSpec, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from model.attention import Attention, Cache, Slots
from model.config import ModelConfig
from model.kv_cache import KVCache, OpenSlots, SpareCache
from model.layers import Embedding, GatedMLP, RMSNorm, rope_table
from model.masks import canvas_mask, causal_mask, fixed_mask
from model.moe import Experts, Router
from model.ops import Ops

_P = ParamSpec("_P")
_R = TypeVar("_R")


Pass = Literal["denoise", "commit", "decode"]


class StepWrapper(Protocol):
    """Turns a step function into one that computes the same; `model.execution` has them.

    Attributes:
        fixed_shapes: it wants decode steps whose shapes do not depend on the position.
    """

    fixed_shapes: bool

    def __call__(self, step: Callable[_P, _R], kind: Pass, /) -> Callable[_P, _R]: ...


class Unwrapped:
    """Leaves every step as it is."""

    fixed_shapes = False

    def __call__(self, step: Callable[_P, _R], kind: Pass, /) -> Callable[_P, _R]:
        return step


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a pass reads besides its tokens: rotary tables and masks by layer type, and the cache.

    All steps of a canvas share one, so a step depends on tensors alone and on no position.
    """

    ropes: dict[str, tuple[Tensor, Tensor]]
    masks: dict[str, Tensor | None]
    cache: Slots

    def storage(self) -> Iterator[Tensor]:
        """What a captured graph reads in place: tables and the cache's buffers, not the masks."""
        for cos, sin in self.ropes.values():
            yield from (cos, sin)
        assert isinstance(self.cache, OpenSlots)
        yield from self.cache.storage()

    def growing(self) -> Iterator[tuple[Tensor, int]]:
        """Tensors that grow with the prefix, each with the dimension that does."""
        if isinstance(self.cache, OpenSlots):
            yield from ((tensor, 2) for tensor in (*self.cache.keys, *self.cache.values))
        yield from ((mask, 3) for mask in self.masks.values() if mask is not None)


class Block(nn.Module):
    """One layer: attention, then a dense MLP in parallel with routed experts, then a scalar.

    `layer_scalar` belongs to passes that denoise and to the autoregressive model;
    `encoder_layer_scalar` (diffusion only) to passes that write the cache.
    """

    layer_scalar: Tensor
    encoder_layer_scalar: Tensor | None

    def __init__(self, config: ModelConfig, layer: int, ops: Ops) -> None:
        super().__init__()
        size, eps = config.hidden_size, config.rms_norm_eps
        self._ops, self._eps = ops, eps
        self.attention = Attention(config, layer, ops)
        self.dense = GatedMLP(size, config.dense_hidden_size, ops)
        self.router = Router(config, ops)
        self.experts = Experts(config, ops)
        self.input_norm = RMSNorm(size, eps, ops)
        self.post_attention_norm = RMSNorm(size, eps, ops)
        self.pre_dense_norm = RMSNorm(size, eps, ops)
        self.post_dense_norm = RMSNorm(size, eps, ops)
        self.pre_experts_norm = RMSNorm(size, eps, ops)
        self.post_experts_norm = RMSNorm(size, eps, ops)
        self.post_feedforward_norm = RMSNorm(size, eps, ops)
        self.register_buffer("layer_scalar", torch.ones(1))
        is_diffusion = config.canvas_length is not None
        self.register_buffer("encoder_layer_scalar", torch.ones(1) if is_diffusion else None)

    def forward(
        self,
        x_BLD: Tensor,
        rope_LH: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: Slots,
        scalar: Tensor,
        *,
        whole_prefix: bool,
    ) -> Tensor:
        attended = self.attention(
            self.input_norm(x_BLD), rope_LH, mask, cache, whole_prefix=whole_prefix
        )
        x_BLD = self._add_norm(x_BLD, attended, self.post_attention_norm)
        weights = (self.pre_dense_norm.weight, self.pre_experts_norm.weight, None)
        for_dense, for_experts, for_router = self._ops.rms_norms(x_BLD, weights, self._eps)
        dense = self.dense(for_dense)
        routing = self.router(for_router.flatten(0, 1))
        routed = self.experts(for_experts.flatten(0, 1), *routing).view_as(x_BLD)
        both = self._add_norm(self.post_dense_norm(dense), routed, self.post_experts_norm)
        return self._add_norm(x_BLD, both, self.post_feedforward_norm) * scalar

    def _add_norm(self, residual_BLD: Tensor, x_BLD: Tensor, norm: RMSNorm) -> Tensor:
        assert norm.weight is not None
        return self._ops.add_rms_norm(residual_BLD, x_BLD, norm.weight, self._eps)


class Transformer(nn.Module):
    """Embedding, blocks, final norm and tied logits: the autoregressive model.

    Args:
        ops: the operations every module uses (`model.ops.make_ops`).

    Attributes:
        wrap_step: what passes go through as functions of tensors; set by `model.loading`.
        spare_cache: the cache of the last generation.
    """

    wrap_step: StepWrapper

    def __init__(self, config: ModelConfig, ops: Ops) -> None:
        super().__init__()
        self.config = config
        self.ops = ops
        self.wrap_step = Unwrapped()
        self.embedding = Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, layer, ops) for layer in range(config.num_layers))
        self.final_norm = RMSNorm(config.hidden_size, config.rms_norm_eps, ops)
        self.spare_cache = SpareCache()
        self._ropes: dict[str, tuple[Tensor, Tensor]] = {}

    def layers(self) -> Iterator[Block]:
        """The blocks, typed; `model.folded` may have replaced them by its twins."""
        return iter(cast(Iterable[Block], self.blocks))

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of activations and of the KV cache."""
        return self.embedding.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def encode(self, token_BL: Tensor, cache: Cache) -> Tensor:
        """Causal pass that appends L positions to the cache (prefill, commit, one decoded token).

        Returns:
            final hidden states [B, L, D]; `logits` turns them into scores.
        """
        length = token_BL.shape[1]
        # One new token needs no causal mask, and then a sliding layer can read its window alone.
        single = length == 1
        make_mask = canvas_mask if single else causal_mask
        slots = cache.open(length, whole_prefix=not single) if isinstance(cache, KVCache) else cache
        surroundings = self._surround(make_mask, length, cache, slots)
        hidden = self.encode_in(token_BL, surroundings, whole_prefix=not single)
        cache.advance(length)
        return hidden

    def encode_in(
        self, token_BL: Tensor, surroundings: Surroundings, *, whole_prefix: bool
    ) -> Tensor:
        """`encode`, given everything it reads; advances no cache."""
        scalars = [
            block.layer_scalar if block.encoder_layer_scalar is None else block.encoder_layer_scalar
            for block in self.layers()
        ]
        x_BLD = self.embedding(token_BL)
        return self._run(x_BLD, surroundings, scalars, whole_prefix=whole_prefix)

    def decode_in(self, token_B: Tensor, position_1: Tensor, cache: KVCache) -> Tensor:
        """`encode` of one token a row at a position that only the device knows.

        Shapes depend on the cache's size and on nothing else; advances no cache.

        Args:
            position_1: int64 [1], how many positions are cached.
        """
        kinds = dict.fromkeys(self.config.layer_types)
        windows = {kind: self.config.attention(kind).window for kind in kinds}
        masks: dict[str, Tensor | None] = {
            kind: fixed_mask(position_1, cache.num_slots + 1, window, cache.start_B)
            for kind, window in windows.items()
        }
        ropes = {kind: self._rope_at(kind, position_1, cache.num_slots) for kind in kinds}
        surroundings = Surroundings(ropes, masks, cache.fixed(position_1))
        return self.encode_in(token_B[:, None], surroundings, whole_prefix=True)

    def logits(self, hidden: Tensor) -> Tensor:
        """Softcapped scores, fp32 [..., V]. The raw scores keep the activation dtype's rounding."""
        return self.ops.softcap(self.embedding.logits(hidden), self.config.final_logit_softcap)

    def _surround(
        self,
        make_mask: Callable[..., Tensor | None],
        length: int,
        cache: Cache,
        slots: Slots | None = None,
    ) -> Surroundings:
        """One mask and one rotary table a layer type; `slots` when a part of the cache suffices."""
        begin, kinds = cache.num_cached, dict.fromkeys(self.config.layer_types)
        windows = {kind: self.config.attention(kind).window for kind in kinds}
        masks = {
            kind: make_mask(begin, length, window, cache.start_B, self.device)
            for kind, window in windows.items()
        }
        ropes = {kind: self._rope(kind, begin, begin + length) for kind in kinds}
        return Surroundings(ropes, masks, slots or cache)

    def _run(
        self,
        x_BLD: Tensor,
        surroundings: Surroundings,
        scalars: list[Tensor],
        *,
        whole_prefix: bool,
    ) -> Tensor:
        ropes, masks, cache = surroundings.ropes, surroundings.masks, surroundings.cache
        for block, kind, scalar in zip(
            self.layers(), self.config.layer_types, scalars, strict=True
        ):
            x_BLD = block(x_BLD, ropes[kind], masks[kind], cache, scalar, whole_prefix=whole_prefix)
        return self.final_norm(x_BLD)

    def _rope(self, kind: str, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """cos and sin [L, H] of positions begin..end."""
        cos, sin = self._table(kind, end)
        return cos[begin:end], sin[begin:end]

    def _rope_at(self, kind: str, position_1: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """cos and sin [1, H] of a position below `end`."""
        cos, sin = self._table(kind, end)
        return cos.index_select(0, position_1), sin.index_select(0, position_1)

    def _table(self, kind: str, end: int) -> tuple[Tensor, Tensor]:
        """cos and sin of all positions up to `end` and more; the tables grow when needed."""
        table = self._ropes.get(kind)
        if table is None or table[0].shape[0] < end or table[0].device != self.device:
            size = min(max(1024, 2 * end), max(self.config.max_positions, end))
            cos, sin = rope_table(self.config.attention(kind), size)
            table = cos.to(self.device, self.dtype), sin.to(self.device, self.dtype)
            self._ropes[kind] = table
        return table
