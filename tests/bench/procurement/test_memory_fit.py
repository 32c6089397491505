"""Memory: the same bytes as the harness counts, and the largest batch that fits."""

from dataclasses import replace
from functools import cache

import pytest

from bench import memory
from bench.build import decoding_of
from bench.compose import compose_points
from bench.procurement.cell import NumberClass
from bench.procurement.memory_fit import kv_bytes, memory_fit
from bench.procurement.work import memory_shape
from bench.schema import Precision, RunConfig
from model import PRESETS
from model.kv_cache import cache_bytes

H200_BYTES = 141e9
RELEASED = "diffusiongemma-26b-a4b"


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_keys_and_values_take_what_the_cache_allocates(name: str) -> None:
    shape = memory_shape(name)
    for batch in (1, 7):
        for positions in (1, 255, 256, 257, 1300, 2304, 5000, 40_001):
            expected = cache_bytes(PRESETS[name], batch, positions, value_bytes=2)
            assert kv_bytes(shape, batch, positions) == expected


@cache
def composed(model: str) -> RunConfig:
    """A point of the harness."""
    overrides = [
        "workload=fixed_work",
        f"model={model}",
        "precision=bf16",
        "batch_size=4",
        "device=cuda",
        "weights=dummy",
        "workload.prompt_tokens=1024",
        "workload.max_new_tokens=512",
    ]
    (point,) = compose_points(overrides, decoding_of, default_sweep=False)
    return point.config


@pytest.mark.parametrize("model", [RELEASED, "gemma-4-26b-a4b"])
@pytest.mark.parametrize("precision", ["bf16", "fp8"])
def test_weights_and_canvases_take_what_the_harness_reserves(model: str, precision: str) -> None:
    expected = memory.need(replace(composed(model), precision=Precision[precision]))

    found = memory_fit(
        memory_shape(model),
        precision,
        batch_size=4,
        context_tokens=1024,
        reply_tokens=512,
        memory_bytes=H200_BYTES,
    )

    assert found.weights_bytes.value == expected.weights
    assert found.kv_bytes.value == expected.cache
    assert found.canvas_bytes.value == expected.logits


def test_parts_sum_and_the_weakest_class_marks_the_sum() -> None:
    found = memory_fit(
        memory_shape(RELEASED),
        "fp8",
        batch_size=8,
        context_tokens=8192,
        reply_tokens=1024,
        memory_bytes=H200_BYTES,
        source="NVIDIA H200 data sheet",
    )
    parts = (found.weights_bytes, found.kv_bytes, found.canvas_bytes, found.library_bytes)

    assert found.head_room_bytes.value == H200_BYTES - sum(part.value or 0 for part in parts)
    assert found.fits
    assert found.kv_bytes.kind is NumberClass.PROJECTED
    assert found.head_room_bytes.kind is NumberClass.ASSUMED
    assert (found.memory_bytes.kind, found.memory_bytes.source) == (
        "published",
        "NVIDIA H200 data sheet",
    )


def test_wrong_precisions_and_counts_are_named() -> None:
    shape = memory_shape(RELEASED)
    lengths = {"context_tokens": 1, "reply_tokens": 1, "memory_bytes": 1e9}
    with pytest.raises(ValueError, match="precision 'int4' is unknown; valid: fp32, bf16, fp8"):
        memory_fit(shape, "int4", batch_size=1, **lengths)
    with pytest.raises(ValueError, match="batch_size 0 must be at least 1"):
        memory_fit(shape, "fp8", batch_size=0, **lengths)
    with pytest.raises(ValueError, match="model 'x' is unknown"):
        memory_shape("x")
