"""Which cached positions a pass sees. True in a mask means "may attend"; None: "everything may".

A layer shows K slots as a ring: position p lies in slot p mod K. Rows of a batch are left-padded to
one length, so all rows share positions and only the first `start_B[b]` positions of row b are
padding.

Legend: B seqs, L new positions, K slots.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Sight:
    """What L new positions see of a ring of slots, before it is spelt out as a mask.

    Causal (an encoder pass: prefill or commit): query i sees key j when 0 <= i - j < window and j
    is no padding; a padding query sees itself, so that its row stays finite, and nothing reads it.
    Otherwise (a canvas, or one decoded token) every new position sees the new ones and all cached
    positions the layer still holds, with no window a query: only padding is hidden.

    Attributes:
        window: of the layer; None when it is full.
        cached_1: positions cached before the new ones, int64 [1], on the device.
        start_B: first real position of each row, or None when no row is padded.
    """

    causal: bool
    window: int | None
    cached_1: Tensor
    start_B: Tensor | None

    def mask(self, length: int, num_keys: int, num_cached: int | None = None) -> Tensor | None:
        """bool [1|B, 1, 1|L, K], or None where nothing is hidden.

        Args:
            num_cached: what `cached_1` holds, where the host may know it: every slot shown then
                holds a position. Without it shapes and operations are the same for all prefixes.
        """
        known = num_cached is not None
        if known and not self.causal and self.start_B is None:
            return None
        cached = self.cached_1 if num_cached is None else num_cached
        key_K = slot_positions(cached + length, num_keys, self.cached_1.device)
        start_B1 = 0 if self.start_B is None else self.start_B[:, None]
        real_BK = key_K[None] >= start_B1
        if not self.causal:
            return real_BK[:, None, None]
        query_L1 = (cached + torch.arange(length, device=key_K.device))[:, None]
        seen_LK = key_K <= query_L1
        if self.window is not None:
            seen_LK &= query_L1 - key_K < self.window
        return ((seen_LK & real_BK[:, None]) | (key_K == query_L1))[:, None]


def slot_positions(num_positions: int | Tensor, num_keys: int, device: torch.device) -> Tensor:
    """The last of `num_positions` positions that went to each of K slots, int64 [K].

    Negative where none did.
    """
    slot_K = torch.arange(num_keys, device=device)
    if isinstance(num_positions, int) and num_positions == num_keys:
        return slot_K
    return slot_K + (num_positions - 1 - slot_K) // num_keys * num_keys


def first_visible(num_cached: int, window: int | None) -> int:
    """The oldest cached position a layer shows: 0, or its last window - 1 when it slides."""
    return 0 if window is None else max(0, num_cached - (window - 1))
