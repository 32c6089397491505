"""Rings of slots: after any passes a layer shows each query what the specification says."""

from dataclasses import replace

import pytest
import torch

from model.config import ModelConfig, preset
from model.kv_cache import KVCache, SpareCache, cache_bytes, num_slots_for
from model.masks import Sight, first_visible

CPU = torch.device("cpu")
FP32 = {"dtype": torch.float32, "device": CPU}
CANVAS = 5


def config(window: int, canvas: int | None = CANVAS) -> ModelConfig:
    tiny = preset("tiny-diffusion")
    sliding = replace(tiny.sliding, window=window, num_kv_heads=1, head_dim=4)
    return replace(tiny, sliding=sliding, layer_types=("sliding", "full"), canvas_length=canvas)


def entries(given: ModelConfig, layer: int, begin: int, length: int) -> torch.Tensor:
    """Keys that say which position they belong to."""
    attention = given.attention(given.layer_types[layer])
    shape = (1, attention.num_kv_heads, length, attention.head_dim)
    return torch.arange(begin, begin + length).float()[None, None, :, None].expand(shape)


def seen(
    cache: KVCache, given: ModelConfig, length: int, *, causal: bool, anywhere: bool
) -> list[list[list[int]]]:
    """Writes the next positions; which ones each of them sees, a layer."""
    begin = cache.num_cached
    slots = cache.open_anywhere(length) if anywhere else cache.open(length)
    found = []
    for layer, kind in enumerate(given.layer_types):
        new = entries(given, layer, begin, length)
        keys, values = slots.write_and_view(layer, new, -new)
        assert torch.equal(keys, -values)
        sight = Sight(causal, given.attention(kind).window, cache.cached_1, None)
        mask = sight.mask(length, keys.shape[2], None if anywhere else begin)
        if not anywhere:
            assert cache.num_keys(kind, length) == keys.shape[2]
        rows = torch.ones(1, 1, length, keys.shape[2], dtype=torch.bool) if mask is None else mask
        held = keys[0, 0, :, 0]
        found.append([sorted(held[row].int().tolist()) for row in rows[0, 0].expand(length, -1)])
    return found


def specified(
    given: ModelConfig, begin: int, length: int, *, causal: bool
) -> list[list[list[int]]]:
    found = []
    for kind in given.layer_types:
        window = given.attention(kind).window
        if causal:
            rows = [range(first_visible(q, window), q + 1) for q in range(begin, begin + length)]
        else:
            rows = [range(first_visible(begin, window), begin + length)] * length
        found.append([list(row) for row in rows])
    return found


@pytest.mark.parametrize("anywhere", [False, True])
@pytest.mark.parametrize("prompt", [1, 6, 12, 13, 30])
@pytest.mark.parametrize("window", [1, 2, 4, 8, 9, 100])
def test_canvases_after_a_prompt(window: int, prompt: int, anywhere: bool) -> None:
    """Windows shorter and longer than the canvas, prompts of several windows."""
    given = config(window)
    cache = KVCache(given, 1, prompt + 8 * CANVAS, **FP32)
    prefill = seen(cache, given, prompt, causal=True, anywhere=False)
    assert prefill == specified(given, 0, prompt, causal=True)
    cache.advance(prompt)
    for begin in range(prompt, prompt + 7 * CANVAS, CANVAS):
        for causal in (False, False, True):
            found = seen(cache, given, CANVAS, causal=causal, anywhere=anywhere)
            assert found == specified(given, begin, CANVAS, causal=causal)
        cache.advance(CANVAS)


@pytest.mark.parametrize("anywhere", [False, True])
@pytest.mark.parametrize("window", [1, 3, 8])
def test_tokens_one_by_one(window: int, anywhere: bool) -> None:
    given = config(window, canvas=None)
    cache = KVCache(given, 1, 40, **FP32)
    seen(cache, given, 7, causal=True, anywhere=False)
    cache.advance(7)
    for position in range(7, 40):
        found = seen(cache, given, 1, causal=False, anywhere=anywhere)
        assert found == specified(given, position, 1, causal=True)
        cache.advance(1)


def test_a_long_pass_may_follow_others() -> None:
    given = config(6)
    cache = KVCache(given, 1, 60, **FP32)
    for length in (3, 17, 5, 11, 20, 4):
        found = seen(cache, given, length, causal=True, anywhere=False)
        assert found == specified(given, cache.num_cached, length, causal=True)
        cache.advance(length)


def test_a_full_cache_takes_no_more() -> None:
    cache = KVCache(config(4), 1, 10, **FP32)
    cache.open(10)
    cache.advance(4)
    with pytest.raises(AssertionError, match="overflow"):
        cache.open(7)


def test_the_device_knows_how_many_positions_are_cached() -> None:
    cache = KVCache(config(4), 2, 20, **FP32, start_B=torch.tensor([0, 3]))
    cache.advance(7)
    cache.advance(5)
    assert cache.cached_1.tolist() == [cache.num_cached] == [12]
    assert cache.starts_B is not None
    kept = cache.starts_B.data_ptr()
    assert cache.starts_B.tolist() == [0, 3]
    cache.reset(None)
    assert cache.cached_1.tolist() == [cache.num_cached] == [0]
    assert cache.start_B is None
    assert cache.starts_B.tolist() == [0, 0]
    assert cache.starts_B.data_ptr() == kept


def test_one_cache_serves_every_smaller_request() -> None:
    given, spare = preset("mini-diffusion"), SpareCache()
    found = []
    for num_positions in (1000, 400, 1020, 1024, 1025, 1000):
        with spare.lent(given, 1, num_positions, **FP32, start_B=None) as cache:
            assert cache.num_cached == 0
            assert cache.num_slots >= num_positions
            found.append(cache.identity)
            cache.advance(10)
    assert found[:4] == [found[0]] * 4
    assert found[4] == found[5] != found[0]


def test_another_batch_or_a_lent_cache_is_another_cache() -> None:
    given, spare = preset("tiny-diffusion"), SpareCache()
    ours = spare.lent(given, 1, 64, **FP32, start_B=None)
    with ours as first, spare.lent(given, 1, 64, **FP32, start_B=None) as meanwhile:
        assert meanwhile is not first
    with spare.lent(given, 1, 64, **FP32, start_B=None) as again:
        assert again is first
    with spare.lent(given, 2, 64, **FP32, start_B=None) as wider:
        assert wider is not first


def test_nothing_of_a_broken_generation_is_left_for_the_next() -> None:
    given, spare = preset("tiny-diffusion"), SpareCache()
    with spare.lent(given, 1, 64, **FP32, start_B=None) as cache:
        for buffer in cache.storage():
            buffer.fill_(float("nan"))
    with spare.lent(given, 1, 64, **FP32, start_B=None) as cache:
        assert all(torch.isfinite(buffer).all() for buffer in cache.storage())


def test_sizes_are_rounded_by_less_than_a_quarter() -> None:
    given = preset("diffusiongemma-26b-a4b")
    assert num_slots_for(given, 1) == 256
    sizes = {num_slots_for(given, length) for length in range(1024, 2049)}
    assert sizes == {1024, 1280, 1536, 1792, 2048}
    for length in range(1024, 40_000, 77):
        assert length <= num_slots_for(given, length) < 1.25 * length
    assert num_slots_for(given, given.max_positions - 5) == given.max_positions


@pytest.mark.parametrize("num_positions", [60, 300])
def test_bytes_are_those_of_a_cache(num_positions: int) -> None:
    given, spare = preset("tiny-diffusion"), SpareCache()
    with spare.lent(given, 3, num_positions, **FP32, start_B=None) as cache:
        allocated = sum(buffer.numel() * 4 for buffer in cache.storage())
    assert cache_bytes(given, 3, num_positions, 4) == allocated


def test_sliding_layers_of_a_long_context_take_a_ring() -> None:
    given = preset("diffusiongemma-26b-a4b")
    full = 5 * 2 * 2 * 512 * (32_768 + 1) * 2
    sliding = 25 * 2 * 8 * 256 * (1023 + 256 + 1) * 2
    assert cache_bytes(given, 1, 32_768, 2) == full + sliding
