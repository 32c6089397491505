"""The key/value cache: one static buffer a layer, allocated once for a generation.

A denoise step writes its canvas into the slots after the cached prefix and attends over a view, so
no step concatenates or copies the prefix; `advance` alone makes written slots part of the prefix.

Legend: B seqs, L new positions, S slots, G KV heads, H head dim.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.config import ModelConfig
from model.masks import first_visible


@dataclass(frozen=True, slots=True)
class _Slots:
    """Views of one layer's buffers: where new positions go and what is attended over."""

    key: tuple[int, int, bool]
    new_keys: Tensor
    new_values: Tensor
    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class OpenSlots:
    """What each layer attends over [B, G, K, H], the open positions last: tensors, no position."""

    keys: list[Tensor]
    values: list[Tensor]

    def write_and_view(
        self, layer: int, key_BGLH: Tensor, value_BGLH: Tensor, *, whole_prefix: bool
    ) -> tuple[Tensor, Tensor]:
        """Writes the L open positions; `whole_prefix` was decided when they were opened."""
        new_keys, new_values = self.place(layer, key_BGLH.shape[2])
        new_keys.copy_(key_BGLH)
        new_values.copy_(value_BGLH)
        return self.keys[layer], self.values[layer]

    def place(self, layer: int, length: int) -> tuple[Tensor, Tensor]:
        """Where a kernel writes the new keys and values [B, G, L, H] itself."""
        return self.keys[layer][:, :, -length:], self.values[layer][:, :, -length:]

    def settle(self, layer: int) -> tuple[Tensor, Tensor]:
        """After such a kernel: what to attend over."""
        return self.keys[layer], self.values[layer]

    def storage(self) -> Iterator[Tensor]:
        """What a captured graph reads in place."""
        yield from (*self.keys, *self.values)


@dataclass(frozen=True, slots=True)
class FixedSlots:
    """Every slot of the cache and one new position a row, at a place only the device knows.

    One step function, and one captured graph, serves every position.
    """

    keys: list[Tensor]
    values: list[Tensor]
    position_1: Tensor
    placed: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def write_and_view(
        self, layer: int, key_BGLH: Tensor, value_BGLH: Tensor, *, whole_prefix: bool
    ) -> tuple[Tensor, Tensor]:
        """Writes the new position; unwritten slots are the mask's business."""
        self.placed[layer] = key_BGLH, value_BGLH
        return self.settle(layer)

    def place(self, layer: int, length: int) -> tuple[Tensor, Tensor]:
        """Where a kernel writes the new keys and values [B, G, 1, H] itself."""
        assert length == 1
        batch, groups, _, size = self.keys[layer].shape
        new = self.keys[layer].new_empty(2, batch, groups, 1, size)
        self.placed[layer] = new[0], new[1]
        return self.placed[layer]

    def settle(self, layer: int) -> tuple[Tensor, Tensor]:
        """Copies them to their position; what to attend over."""
        new_keys, new_values = self.placed.pop(layer)
        self.keys[layer].index_copy_(2, self.position_1, new_keys)
        self.values[layer].index_copy_(2, self.position_1, new_values)
        return self.keys[layer], self.values[layer]

    def storage(self) -> Iterator[Tensor]:
        """What a captured graph reads in place."""
        yield from (*self.keys, *self.values)


class KVCache:
    """Keys and values [B, G, S, H] for every layer.

    Args:
        num_slots: positions the cache can hold, prompt, committed canvases and the open canvas
            together.
        start_B: first real position of each left-padded row, or None when no row is padded.
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
        self.num_cached = 0
        self.num_slots = num_slots
        self.start_B = start_B
        self._keys: list[Tensor] = []
        self._values: list[Tensor] = []
        self._windows: list[int | None] = []
        self._slots: list[_Slots | None] = [None] * config.num_layers
        for layer_type in config.layer_types:
            attention = config.attention(layer_type)
            # A spare slot: no view spans its buffer, so all have the same kind of strides and a
            # compiled step needs one graph.
            shape = (batch_size, attention.num_kv_heads, num_slots + 1, attention.head_dim)
            self._keys.append(torch.zeros(shape, dtype=dtype, device=device))
            self._values.append(torch.zeros(shape, dtype=dtype, device=device))
            self._windows.append(attention.window)

    def write_and_view(
        self, layer: int, key_BGLH: Tensor, value_BGLH: Tensor, *, whole_prefix: bool
    ) -> tuple[Tensor, Tensor]:
        """Writes L new positions after the prefix and returns the keys and values to attend over.

        A denoise step sees what its layer type still holds; with `whole_prefix` (the encoder, whose
        mask carries the window) the view starts at slot 0. Views, not copies.
        """
        begin, length = self.num_cached, key_BGLH.shape[2]
        slots = self._open_slots(layer, begin, length, whole_prefix)
        slots.new_keys.copy_(key_BGLH)
        slots.new_values.copy_(value_BGLH)
        return slots.keys, slots.values

    def _open_slots(self, layer: int, begin: int, length: int, whole_prefix: bool) -> "_Slots":
        """The views of a layer for this range; kept, as all steps of a canvas use the same."""
        key = (begin, length, whole_prefix)
        kept = self._slots[layer]
        if kept is None or kept.key != key:
            end = begin + length
            assert end <= self.num_slots, "KV cache overflow"
            keys, values = self._keys[layer], self._values[layer]
            first = 0 if whole_prefix else first_visible(begin, self._windows[layer])
            kept = _Slots(
                key,
                keys[:, :, begin:end],
                values[:, :, begin:end],
                keys[:, :, first:end],
                values[:, :, first:end],
            )
            self._slots[layer] = kept
        return kept

    def open(self, length: int, *, whole_prefix: bool = False) -> OpenSlots:
        """The slots of the next L positions, for any number of passes."""
        opened = [
            self._open_slots(layer, self.num_cached, length, whole_prefix)
            for layer in range(len(self._slots))
        ]
        return OpenSlots([slots.keys for slots in opened], [slots.values for slots in opened])

    def fixed(self, position_1: Tensor) -> FixedSlots:
        """All slots, for one new position a row at `position_1` (int64 [1], on the device)."""
        return FixedSlots(self._keys, self._values, position_1)

    def storage(self) -> Iterator[Tensor]:
        """What a captured graph reads in place."""
        yield from (*self._keys, *self._values)

    def reset(self, start_B: Tensor | None) -> None:
        """Forgets everything, for another generation of the same size.

        Slots are cleared too: hidden ones get weight zero, and zero times a NaN left there is NaN.
        """
        self.num_cached = 0
        for buffer in self.storage():
            buffer.zero_()
        if self.start_B is None or start_B is None:
            self.start_B = start_B
        else:
            self.start_B.copy_(start_B)

    def advance(self, length: int) -> None:
        """Makes the last `length` written positions part of the prefix."""
        self.num_cached += length


class SpareCache:
    """Keeps the last generation's cache for the next one of the same size.

    No allocation, and the addresses that captured graphs know.
    """

    def __init__(self) -> None:
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
        """An empty cache for as long as a generation lasts, however it ends."""
        key = (batch_size, num_slots, dtype, device)
        spare, self._spare = self._spare, None
        if spare is not None and spare[0] == key:
            cache = spare[1]
            cache.reset(start_B)
        else:
            cache = KVCache(
                config, batch_size, num_slots, dtype=dtype, device=device, start_B=start_B
            )
        try:
            yield cache
        finally:
            self._spare = key, cache
