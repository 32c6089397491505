"""Attention masks as pure functions. True means "may attend"; None means "everything may".

Rows of a batch are left-padded to one length, so all rows share positions and only the first
`start_B[b]` slots of row b are padding.

Legend: B seqs, L query positions, S cached positions, K = S + L keys.
"""

import torch
from torch import Tensor


def causal_mask(
    num_cached: int, length: int, window: int | None, start_B: Tensor | None, device: torch.device
) -> Tensor:
    """Mask of an encoder pass (prefill or commit): causal, windowed, padding hidden.

    Query i has absolute position num_cached + i and sees key j when 0 <= i - j < window and j is no
    padding. A padding query sees itself only, so that its row stays finite; nothing reads it.

    Returns:
        bool [1, 1, L, K], or [B, 1, L, K] when `start_B` is given.
    """
    query = torch.arange(num_cached, num_cached + length, device=device)[:, None]
    key = torch.arange(num_cached + length, device=device)[None, :]
    mask = key <= query
    if window is not None:
        mask &= query - key < window
    if start_B is None:
        return mask[None, None]
    visible = mask & (key >= start_B[:, None, None])
    return (visible | (key == query))[:, None]


def canvas_mask(
    num_cached: int, length: int, window: int | None, start_B: Tensor | None, device: torch.device
) -> Tensor | None:
    """Mask of a denoise step over the keys that `KVCache.view` returns for the same layer.

    Every canvas position sees the whole canvas and all cached positions the layer still holds (the
    last window - 1), with no window per query. Only padding needs hiding: None without padding.

    Returns:
        bool [B, 1, 1, K'] where K' is the number of keys held, or None.
    """
    if start_B is None:
        return None
    first = first_visible(num_cached, window)
    key = torch.arange(first, num_cached + length, device=device)
    return (key[None, :] >= start_B[:, None])[:, None, None, :]


def fixed_mask(
    position_1: Tensor, num_slots: int, window: int | None, start_B: Tensor | None
) -> Tensor:
    """Mask of one new position a row over all slots of a cache, the position known to the device.

    Returns:
        bool [1, 1, 1, S], or [B, 1, 1, S] when `start_B` is given.
    """
    key = torch.arange(num_slots, device=position_1.device)
    mask = key <= position_1
    if window is not None:
        mask &= position_1 - key < window
    if start_B is None:
        return mask[None, None, None]
    return (mask & (key >= start_B[:, None]))[:, None, None]


def first_visible(num_cached: int, window: int | None) -> int:
    """The oldest cached position a layer shows: 0, or its last window - 1 when it slides."""
    return 0 if window is None else max(0, num_cached - (window - 1))
