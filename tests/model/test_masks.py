"""Masks and cache views against their sentences, position by position."""

import pytest
import torch

from model.config import preset
from model.kv_cache import KVCache
from model.masks import canvas_mask, causal_mask, first_visible

CPU = torch.device("cpu")


@pytest.mark.parametrize("starts", [None, [0, 2, 5]])
@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize(("cached", "length"), [(0, 6), (4, 3), (7, 1)])
def test_causal_mask(
    cached: int, length: int, window: int | None, starts: list[int] | None
) -> None:
    given = None if starts is None else torch.tensor(starts)
    mask = causal_mask(cached, length, window, given, CPU)
    for row, start in enumerate(starts or [0]):
        for i in range(length):
            for key in range(cached + length):
                query = cached + i
                visible = key <= query and (window is None or query - key < window)
                visible = (visible and key >= start) or key == query
                assert bool(mask[row, 0, i, key]) == visible


@pytest.mark.parametrize("window", [None, 4])
def test_canvas_mask_hides_padding_only(window: int | None) -> None:
    assert canvas_mask(6, 3, window, None, CPU) is None
    mask = canvas_mask(6, 3, window, torch.tensor([0, 5]), CPU)
    assert mask is not None
    first = 0 if window is None else 3
    assert mask.shape == (2, 1, 1, 9 - first)
    assert mask[0].all()
    assert mask[1, 0, 0].tolist() == [key >= 5 for key in range(first, 9)]


@pytest.mark.parametrize(("cached", "expected"), [(0, 0), (3, 0), (4, 1), (10, 7)])
def test_a_sliding_layer_shows_window_minus_one(cached: int, expected: int) -> None:
    assert first_visible(cached, 4) == expected
    assert first_visible(cached, None) == 0


def test_a_denoise_step_overwrites_its_own_slots_only() -> None:
    config = preset("tiny-diffusion")
    cache = KVCache(config, 1, 10, dtype=torch.float32, device=CPU)

    def entries(value: float, length: int) -> torch.Tensor:
        return torch.full((1, config.sliding.num_kv_heads, length, 32), value)

    cache.write_and_view(0, entries(1, 4), entries(1, 4), whole_prefix=True)
    cache.advance(4)
    for value in (2.0, 3.0):
        keys, values = cache.write_and_view(
            0, entries(value, 3), entries(value, 3), whole_prefix=False
        )
        for found in (keys, values):
            assert found[0, 0, :, 0].tolist() == [1.0] * 4 + [value] * 3
    assert cache.num_cached == 4
    with pytest.raises(AssertionError, match="overflow"):
        cache.write_and_view(0, entries(1, 7), entries(1, 7), whole_prefix=False)
