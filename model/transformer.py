"""The autoregressive sibling and every block the two siblings share.

Legend: B seqs, L positions, T = B * L tokens, D model, V vocab.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, ParamSpec, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn

from model.attention import Attention, Cache, Part, Slots
from model.config import ModelConfig
from model.kv_cache import KVCache, OpenSlots, SpareCache
from model.layers import Embedding, GatedMLP, RMSNorm, rope_table
from model.masks import Sight
from model.moe import Experts, Router
from model.ops import Ops

_P = ParamSpec("_P")
_R = TypeVar("_R")


Pass = Literal["denoise", "commit", "decode"]


class StepWrapper(Protocol):
    """Turns a step function into one that computes the same; `model.execution` has them.

    Attributes:
        fixed_shapes: it wants steps whose shapes do not depend on the prefix's length.
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
    masks: dict[str, Tensor | Sight | None]
    cache: Slots

    def growing(self) -> Iterator[tuple[Tensor, int]]:
        """Tensors that grow with the prefix, each with the dimension that does."""
        if isinstance(self.cache, OpenSlots):
            yield from ((tensor, 2) for tensor in (*self.cache.keys, *self.cache.values))
        yield from ((mask, 3) for mask in self.masks.values() if isinstance(mask, Tensor))


@dataclass(frozen=True, slots=True)
class AnyPrefix:
    """What stands for `Surroundings` in a step that serves prefixes of all lengths.

    The step makes them from it on the device, with shapes that depend on the cache's size alone.

    Attributes:
        tables: cos and sin [P, H] by layer type, of all positions the cache can take.
    """

    cache: KVCache
    tables: dict[str, tuple[Tensor, Tensor]]


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

    def forward(self, x_BLD: Tensor, parts: Sequence[Part], scalar: Tensor) -> Tensor:
        """One layer over the rows of all parts.

        Args:
            scalar: one element, or [B, 1, 1] where parts have different ones.
        """
        attended = self.attention(self.input_norm(x_BLD), parts)
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
        spells_masks: blocks take masks of bools; those that do not take a `Sight`, and rotary
            tables from position 0 on.
        spare_cache: the cache of the last generation.
    """

    wrap_step: StepWrapper

    def __init__(self, config: ModelConfig, ops: Ops) -> None:
        super().__init__()
        self.config = config
        self.ops = ops
        self.wrap_step = Unwrapped()
        self.spells_masks = True
        self.embedding = Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config, layer, ops) for layer in range(config.num_layers))
        self.final_norm = RMSNorm(config.hidden_size, config.rms_norm_eps, ops)
        self.spare_cache = SpareCache()
        self._windows = {kind: config.attention(kind).window for kind in config.layer_types}
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

    def encode(self, token_BL: Tensor, cache: KVCache | Cache) -> Tensor:
        """Causal pass that appends L positions to the cache (prefill, commit, one decoded token).

        Returns:
            final hidden states [B, L, D]; `logits` turns them into scores.
        """
        length = token_BL.shape[1]
        surroundings = self.surround(length, cache, causal=self._is_causal(length))
        hidden = self.encode_in(token_BL, surroundings)
        cache.advance(length)
        return hidden

    def encode_in(self, token_BL: Tensor, around: Surroundings | AnyPrefix) -> Tensor:
        """`encode`, given everything it reads; advances no cache."""
        scalars = [
            block.layer_scalar if block.encoder_layer_scalar is None else block.encoder_layer_scalar
            for block in self.layers()
        ]
        length = token_BL.shape[1]
        if isinstance(around, AnyPrefix):
            around = self.surround_anywhere(length, around, causal=self._is_causal(length))
        return self._run(self.embedding(token_BL), (around,), scalars)

    def logits(self, hidden: Tensor) -> Tensor:
        """Softcapped scores, fp32 [..., V]. The raw scores keep the activation dtype's rounding."""
        return self.ops.softcap(self.embedding.logits(hidden), self.config.final_logit_softcap)

    def surround(
        self, length: int, cache: KVCache | Cache, *, causal: bool, ahead: int = 0
    ) -> Surroundings:
        """What a pass over L positions after the cached prefix reads; the host knows its length.

        Args:
            ahead: positions between the prefix and these, which the same pass writes first.
        """
        begin = cache.num_cached + ahead
        if isinstance(cache, KVCache):
            # A ring holds the window of a whole canvas; a shorter one would see more.
            assert causal or length == (self.config.canvas_length or 1)
            slots: Slots = cache.open(length, ahead)
            cached_1 = cache.cached_1 + ahead if ahead else cache.cached_1
            num_keys = {kind: cache.num_keys(kind, length, ahead) for kind in self._windows}
        else:
            slots, cached_1 = cache, torch.full((1,), begin, device=self.device)
            num_keys = dict.fromkeys(self._windows, begin + length)
        ropes = {kind: self._rope(kind, begin, begin + length) for kind in self._windows}
        sights = self._sights(causal, cached_1, cache.start_B)
        return Surroundings(ropes, self._masks(sights, length, num_keys, begin), slots)

    def anywhere(self, cache: KVCache) -> AnyPrefix:
        """What steps over a cache read in place, whatever its prefix."""
        tables = {kind: self._table(kind, cache.num_slots) for kind in self._windows}
        return AnyPrefix(cache, tables)

    def surround_anywhere(
        self, length: int, prefix: AnyPrefix, *, causal: bool, ahead: int = 0
    ) -> Surroundings:
        """`surround` where only the device knows how long the prefix is."""
        cache = prefix.cache
        cached_1 = cache.cached_1 + ahead if ahead else cache.cached_1
        ropes = prefix.tables
        if self.spells_masks:
            position_L = cached_1 + torch.arange(length, device=self.device)
            ropes = {
                kind: (cos.index_select(0, position_L), sin.index_select(0, position_L))
                for kind, (cos, sin) in prefix.tables.items()
            }
        sights = self._sights(causal, cached_1, cache.starts_B)
        masks = self._masks(sights, length, cache.ring_slots, None)
        slots = cache.open_anywhere(length, ahead) if self.spells_masks else cache.shown()
        return Surroundings(ropes, masks, slots)

    def _sights(self, causal: bool, cached_1: Tensor, start_B: Tensor | None) -> dict[str, Sight]:
        windows = self._windows.items()
        return {kind: Sight(causal, window, cached_1, start_B) for kind, window in windows}

    def _masks(
        self,
        sights: dict[str, Sight],
        length: int,
        num_keys: dict[str, int],
        num_cached: int | None,
    ) -> dict[str, Tensor | Sight | None]:
        """In the form the blocks take."""
        if not self.spells_masks:
            return dict(sights)
        return {
            kind: sight.mask(length, num_keys[kind], num_cached) for kind, sight in sights.items()
        }

    def _is_causal(self, length: int) -> bool:
        """A lone token sees all that an autoregressive cache holds: it needs no causal mask."""
        return length > 1 or self.config.canvas_length is not None

    def _run(
        self, x_BLD: Tensor, parts: Sequence[Surroundings], scalars: Sequence[Tensor]
    ) -> Tensor:
        by_kind = {
            kind: tuple(Part(part.ropes[kind], part.masks[kind], part.cache) for part in parts)
            for kind in self._windows
        }
        for block, kind, scalar in zip(
            self.layers(), self.config.layer_types, scalars, strict=True
        ):
            x_BLD = block(x_BLD, by_kind[kind], scalar)
        return self.final_norm(x_BLD)

    def _rope(self, kind: str, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """cos and sin [L, H] of positions begin..end, or from 0 on for blocks that take a sight."""
        cos, sin = self._table(kind, end)
        return (cos[begin:end], sin[begin:end]) if self.spells_masks else (cos, sin)

    def _table(self, kind: str, end: int) -> tuple[Tensor, Tensor]:
        """cos and sin of all positions up to `end` and more; the tables grow when needed."""
        table = self._ropes.get(kind)
        if table is None or table[0].shape[0] < end or table[0].device != self.device:
            size = min(max(1024, 2 * end), max(self.config.max_positions, end))
            cos, sin = rope_table(self.config.attention(kind), size)
            table = cos.to(self.device, self.dtype), sin.to(self.device, self.dtype)
            self._ropes[kind] = table
        return table
