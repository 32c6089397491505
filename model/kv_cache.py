"""The key/value cache: a ring of slots a layer, allocated once for a generation or several.

Position p lies in slot p mod M. A full layer has a slot for every position. A sliding layer has
window - 1 slots and those of an open canvas (or of one token): exactly what a denoise step sees, so
new positions overwrite only what no later step may see, and nothing is ever moved. Until a ring is
full, new positions directly follow the cached ones. The order of slots is of no concern to
attention, as keys are rotated before they are written.

Legend: B seqs, L new positions, M slots of a ring, K slots shown, G KV heads, H head dim.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.config import ModelConfig


@dataclass(frozen=True, slots=True)
class OpenSlots:
    """What each layer attends over and where L new positions of it go: tensors, no position.

    Attributes:
        keys, values: [B, G, K, H] a layer, views of the rings.
        slots: where new positions go, int64 [L] a layer, or None for the last L.
    """

    keys: list[Tensor]
    values: list[Tensor]
    slots: list[Tensor | None]

    def write_and_view(
        self, layer: int, key_BGLH: Tensor, value_BGLH: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Writes the L new positions; returns what to attend over, views and not copies."""
        keys, values = self.place(layer)
        slot_L = self.slots[layer]
        if slot_L is None:
            length = key_BGLH.shape[2]
            keys[:, :, -length:].copy_(key_BGLH)
            values[:, :, -length:].copy_(value_BGLH)
        else:
            keys.index_copy_(2, slot_L, key_BGLH)
            values.index_copy_(2, slot_L, value_BGLH)
        return self.settle(layer)

    def place(self, layer: int) -> tuple[Tensor, Tensor]:
        """The K slots shown; a kernel may write position p to slot p mod K itself."""
        return self.keys[layer], self.values[layer]

    def settle(self, layer: int) -> tuple[Tensor, Tensor]:
        """After such a kernel: what to attend over."""
        return self.keys[layer], self.values[layer]


@dataclass(frozen=True, slots=True)
class _Transfer:
    """Positions on their way from one ring to another, as slots, int64."""

    source: Tensor
    target: Tensor

    def copy(self, target_BGMH: Tensor, source_BGMH: Tensor) -> None:
        target_BGMH.index_copy_(2, self.target, source_BGMH.index_select(2, self.source))


@dataclass(frozen=True, slots=True)
class _Detour:
    """The larger ring of a pass that is longer than a sliding layer keeps.

    Attributes:
        num_keys: its slots: what the layer holds of its window, and the new positions.
        before, after: what comes from the layer's own ring, and what is left in it.
        slot_L: where the new positions go.
    """

    num_keys: int
    before: _Transfer
    slot_L: Tensor
    after: _Transfer


@dataclass(frozen=True, slots=True)
class LongSlots:
    """`OpenSlots` of a pass that is longer than sliding layers keep: a long prompt.

    Such a layer attends over a temporary ring with room for all of the pass, and is left the last
    positions of it.
    """

    opened: OpenSlots
    detours: list[_Detour | None]
    _placed: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def write_and_view(
        self, layer: int, key_BGLH: Tensor, value_BGLH: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Writes the L new positions and returns what to attend over."""
        detour = self.detours[layer]
        if detour is None:
            return self.opened.write_and_view(layer, key_BGLH, value_BGLH)
        keys, values = self.place(layer)
        keys.index_copy_(2, detour.slot_L, key_BGLH)
        values.index_copy_(2, detour.slot_L, value_BGLH)
        return self.settle(layer)

    def place(self, layer: int) -> tuple[Tensor, Tensor]:
        """K slots to attend over; a kernel may write position p to slot p mod K itself."""
        detour, own = self.detours[layer], self.opened.place(layer)
        if detour is None:
            return own
        batch, groups, _, size = own[0].shape
        keys, values = own[0].new_empty(2, batch, groups, detour.num_keys, size)
        for ring, larger in zip(own, (keys, values), strict=True):
            detour.before.copy(larger, ring)
        self._placed[layer] = keys, values
        return keys, values

    def settle(self, layer: int) -> tuple[Tensor, Tensor]:
        """Leaves the last positions in the layer's ring; what to attend over."""
        detour, own = self.detours[layer], self.opened.place(layer)
        if detour is None:
            return own
        keys, values = self._placed.pop(layer)
        for ring, larger in zip(own, (keys, values), strict=True):
            detour.after.copy(ring, larger)
        return keys, values


class KVCache:
    """Keys and values of every layer.

    Args:
        num_slots: positions it can take, prompt, committed canvases and the open canvas together.
        start_B: first real position of each left-padded row, or None when no row is padded.

    Attributes:
        num_cached: positions of the prefix; `advance` alone changes it.
        ring_slots: M by layer type; `open_anywhere` shows all.
        cached_1: the same on the device, int64 [1], where steps of any prefix read it.
        identity: equal for no other cache; outlives it, unlike `id`.
        starts_B: `start_B` where such steps read it: zeros without padding, None for a lone row,
            which is never padded.
    """

    def __init__(
        self,
        config: ModelConfig,
        batch_size: int,
        num_slots: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        start_B: Tensor | None = None,
    ) -> None:
        self.identity = object()
        self.num_slots = num_slots
        self._config = config
        self._open_length = config.canvas_length or 1
        self.ring_slots = {
            kind: _ring_slots(config, kind, num_slots) for kind in config.layer_types
        }
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        for kind in config.layer_types:
            attention = config.attention(kind)
            # A spare slot: no view spans its buffer, so all have the same kind of strides and a
            # compiled step needs one graph.
            num_kept = self.ring_slots[kind] + 1
            shape = (batch_size, attention.num_kv_heads, num_kept, attention.head_dim)
            self._keys.append(torch.zeros(shape, dtype=dtype, device=device))
            self._values.append(torch.zeros(shape, dtype=dtype, device=device))
        self.cached_1 = torch.zeros(1, dtype=torch.int64, device=device)
        self.starts_B = (
            torch.zeros(batch_size, dtype=torch.int64, device=device) if batch_size > 1 else None
        )
        self._begin(start_B)

    def _begin(self, start_B: Tensor | None) -> None:
        self.num_cached = 0
        self.cached_1.zero_()
        self.start_B = start_B
        if self.starts_B is not None:
            self.starts_B.zero_()
            if start_B is not None:
                self.starts_B.copy_(start_B)

    def open(self, length: int, ahead: int = 0) -> OpenSlots | LongSlots:
        """The slots of the next L positions and all they may see, for any number of passes.

        A pass longer than a canvas may need `LongSlots`, which serve once.

        Args:
            ahead: positions to be written before these, at most a canvas.
        """
        begin, end = self.num_cached + ahead, self.num_cached + ahead + length
        assert end <= self.num_slots, "KV cache overflow"
        slots = {
            kind: None if end <= size else self._range(begin, end) % size
            for kind, size in self.ring_slots.items()
        }
        shown = {kind: min(end, size) for kind, size in self.ring_slots.items()}
        opened, kinds = self._show(shown, slots), self._config.layer_types
        long = {kind for kind in shown if self._is_long(kind, length)}
        if not long:
            return opened
        detours = {kind: self._detour(self.ring_slots[kind], begin, end) for kind in long}
        return LongSlots(opened, [detours.get(kind) for kind in kinds])

    def open_anywhere(self, length: int, ahead: int = 0) -> OpenSlots:
        """Every slot, for L new positions at a place that only the device knows."""
        begin = self.cached_1 + ahead if ahead else self.cached_1
        position_L = begin + torch.arange(length, device=self.cached_1.device)
        slots: dict[str, Tensor | None] = {
            kind: position_L if size == self.num_slots else position_L % size
            for kind, size in self.ring_slots.items()
        }
        return self._show(self.ring_slots, slots)

    def shown(self) -> OpenSlots:
        """Every slot, for kernels that find the places of new positions themselves."""
        return self._show(self.ring_slots, dict.fromkeys(self.ring_slots))

    def num_keys(self, kind: str, length: int, ahead: int = 0) -> int:
        """Slots of a layer type that `open` shows to L new positions."""
        end, size = self.num_cached + ahead + length, self.ring_slots[kind]
        return end - self._oldest(size) if self._is_long(kind, length) else min(end, size)

    def advance(self, length: int) -> None:
        """Makes the last `length` written positions part of the prefix."""
        self.num_cached += length
        assert self.num_cached <= self.num_slots, "KV cache overflow"
        self.cached_1.add_(length)

    def storage(self) -> Iterator[Tensor]:
        """The buffers of keys and values."""
        yield from (*self._keys, *self._values)

    def reset(self, start_B: Tensor | None) -> None:
        """Forgets everything, for another generation of no more positions.

        Slots are cleared too: hidden ones get weight zero, and zero times a NaN left there is NaN.
        """
        for buffer in self.storage():
            buffer.zero_()
        self._begin(start_B)

    def _show(self, shown: dict[str, int], slots: dict[str, Tensor | None]) -> OpenSlots:
        kinds = self._config.layer_types
        return OpenSlots(
            [ring[:, :, : shown[kind]] for ring, kind in zip(self._keys, kinds, strict=True)],
            [ring[:, :, : shown[kind]] for ring, kind in zip(self._values, kinds, strict=True)],
            [slots[kind] for kind in kinds],
        )

    def _is_long(self, kind: str, length: int) -> bool:
        """Whether new positions would overwrite what the first of them still see."""
        return length > self._open_length and self.num_cached + length > self.ring_slots[kind]

    def _oldest(self, size: int) -> int:
        """The oldest position of a window that the next position sees."""
        return max(0, self.num_cached - (size - self._open_length))

    def _detour(self, size: int, begin: int, end: int) -> _Detour:
        """The larger ring of a long pass."""
        oldest, kept = self._oldest(size), self._range(end - size, end)
        num_keys, held = end - oldest, self._range(oldest, begin)
        return _Detour(
            num_keys,
            _Transfer(held % size, held % num_keys),
            self._range(begin, end) % num_keys,
            _Transfer(kept % num_keys, kept % size),
        )

    def _range(self, begin: int, end: int) -> Tensor:
        return torch.arange(begin, end, device=self.cached_1.device)


class SpareCache:
    """Keeps the last generation's cache for the next one.

    No allocation, and the addresses that captured graphs know: requests of all lengths share one,
    as its slots are rounded up (`num_slots_for`) and it serves every smaller request. A larger one
    gets a new cache and with it new graphs, so a measurement begins with its longest request. With
    `kernels=torch` a graph attends over all slots, needed or not.

    Attributes:
        owner: whose requests these are; another owner's want a spare cache of their own.
    """

    def __init__(self, owner: object = None) -> None:
        self.owner = owner
        self._spare: tuple[tuple[object, ...], KVCache] | None = None

    @contextmanager
    def lent(
        self,
        config: ModelConfig,
        batch_size: int,
        num_slots: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        start_B: Tensor | None,
    ) -> Iterator[KVCache]:
        """An empty cache for at least `num_slots` positions, as long as a generation lasts."""
        key = (batch_size, dtype, device)
        spare, self._spare = self._spare, None
        if spare is not None and spare[0] == key and spare[1].num_slots >= num_slots:
            cache = spare[1]
            cache.reset(start_B)
        else:
            del spare  # its memory first
            num_slots = num_slots_for(config, num_slots)
            cache = KVCache(
                config, batch_size, num_slots, dtype=dtype, device=device, start_B=start_B
            )
        try:
            yield cache
        finally:
            self._spare = key, cache


_LEAST_SLOTS = 256


def num_slots_for(config: ModelConfig, num_positions: int) -> int:
    """Slots of a cache for so many positions: rounded up by less than a quarter of them, or to 256.

    At most four sizes between a length and its double, so a growing cache is soon large enough.
    """
    step = max(_LEAST_SLOTS, 1 << max(0, num_positions.bit_length() - 3))
    rounded = -(-num_positions // step) * step
    return max(num_positions, min(rounded, config.max_positions))


def cache_bytes(config: ModelConfig, batch_size: int, num_positions: int, value_bytes: int) -> int:
    """Bytes of keys and values that a generation over so many positions a row allocates.

    Args:
        value_bytes: of one value: 4 in fp32, 2 in bf16, which fp8 models keep.
    """
    num_slots, per_row = num_slots_for(config, num_positions), 0
    for kind in config.layer_types:
        attention = config.attention(kind)
        kept = _ring_slots(config, kind, num_slots) + 1
        per_row += 2 * attention.num_kv_heads * attention.head_dim * kept
    return batch_size * per_row * value_bytes


def _ring_slots(config: ModelConfig, kind: str, num_slots: int) -> int:
    """Slots of a layer type's ring in a cache for `num_slots` positions."""
    window = config.attention(kind).window
    if window is None:
        return num_slots
    return min(num_slots, window - 1 + (config.canvas_length or 1))
