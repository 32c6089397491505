"""What a pass sees against its sentences, position by position."""

import pytest
import torch

from model.masks import Sight, first_visible, slot_positions

CPU = torch.device("cpu")


def sight(
    cached: int, window: int | None, starts: list[int] | None = None, *, causal: bool
) -> Sight:
    start_B = None if starts is None else torch.tensor(starts)
    return Sight(causal, window, torch.tensor([cached]), start_B)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("starts", [None, [0, 2, 5]])
@pytest.mark.parametrize("window", [None, 1, 3, 100])
@pytest.mark.parametrize(("cached", "length"), [(0, 6), (4, 3), (7, 1)])
def test_causal_mask(
    cached: int, length: int, window: int | None, starts: list[int] | None, known: bool
) -> None:
    seen = sight(cached, window, starts, causal=True)
    mask = seen.mask(length, cached + length, cached if known else None)
    assert mask is not None
    for row, start in enumerate(starts or [0]):
        for i in range(length):
            for key in range(cached + length):
                query = cached + i
                visible = key <= query and (window is None or query - key < window)
                visible = (visible and key >= start) or key == query
                assert bool(mask[row, 0, i, key]) == visible


def test_a_canvas_hides_padding_only() -> None:
    assert sight(6, 4, causal=False).mask(3, 9, 6) is None
    mask = sight(6, None, [0, 5], causal=False).mask(3, 9, 6)
    assert mask is not None
    assert mask.shape == (2, 1, 1, 9)
    assert mask[0].all()
    assert mask[1, 0, 0].tolist() == [key >= 5 for key in range(9)]
    ring = sight(6, 4, [0, 5], causal=False).mask(3, 6, 6)  # 6 7 8 3 4 5
    assert ring is not None
    assert ring[1, 0, 0].tolist() == [True, True, True, False, False, True]


def test_slots_without_a_position_are_hidden_where_only_the_device_counts() -> None:
    mask = sight(6, None, causal=False).mask(3, 12)
    assert mask is not None
    assert mask[0, 0, 0].tolist() == [key < 9 for key in range(12)]


@pytest.mark.parametrize("num_keys", [1, 4, 7])
def test_a_position_lies_in_its_slot_of_a_ring(num_keys: int) -> None:
    slots = [-1] * num_keys
    for position in range(20):
        slots[position % num_keys] = position
        for known in (position + 1, torch.tensor([position + 1])):
            found = slot_positions(known, num_keys, CPU)
            assert found.clamp(min=-1).tolist() == slots


@pytest.mark.parametrize(("cached", "expected"), [(0, 0), (3, 0), (4, 1), (10, 7)])
def test_a_sliding_layer_shows_window_minus_one(cached: int, expected: int) -> None:
    assert first_visible(cached, 4) == expected
    assert first_visible(cached, None) == 0
