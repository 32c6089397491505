"""What a captured step copies and what it reads in place; capture itself needs a device."""

import pytest
import torch

from model import DiffusionSampling, GreedySampling, generate, load
from model.config import preset
from model.execution import cuda_graph
from model.kv_cache import SpareCache
from model.sampling import BlockDelivered


class Replayed:
    """Stands for `cuda_graph._Graph` on a processor: own inputs, own outputs, one captured run."""

    built = 0

    def __init__(self, step, args, pool) -> None:  # type: ignore[no-untyped-def]
        type(self).built += 1
        self._inputs = [tensor.clone() for tensor in cuda_graph._tensors(args)]
        inputs = iter(self._inputs)
        self._args = cuda_graph._replace(args, lambda _: next(inputs))
        self._step = step

    def replay(self, args):  # type: ignore[no-untyped-def]
        cuda_graph._copy(self._inputs, list(cuda_graph._tensors(args)))
        result = self._step(*self._args)
        outputs = list(cuda_graph._tensors(result))
        results = [torch.empty_like(tensor) for tensor in outputs]
        cuda_graph._copy(results, outputs)
        copies = iter(results)
        return cuda_graph._replace(result, lambda _: next(copies))


class OnCpu(cuda_graph.CudaGraphs):
    def __init__(self) -> None:
        self._steps, self._pool = {}, None


@pytest.mark.parametrize("name", ["tiny-diffusion", "tiny-autoregressive"])
def test_steps_as_functions_of_tensors_give_the_same_text(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graph, "_Graph", Replayed)
    loaded = load(name)
    assert loaded.tokenizer is not None
    prompts = [[2, *loaded.tokenizer.encode(text).ids] for text in ("count 7 21=", "add 12 30=")]
    sampling = DiffusionSampling(max_denoising_steps=12) if "diff" in name else GreedySampling()

    def tokens(batch: list[list[int]]) -> list[list[int]]:
        events = generate(loaded.model, batch, sampling, max_new_tokens=70)
        blocks = [event for event in events if isinstance(event, BlockDelivered)]
        return [[t for b in blocks for t in b.rows[row].tokens] for row in range(len(batch))]

    for batch in (prompts[:1], prompts):
        plain = tokens(batch)
        loaded.model.wrap_step = OnCpu()
        Replayed.built = 0
        assert tokens(batch) == plain
        first = Replayed.built
        assert tokens(batch) == plain
        assert Replayed.built == first, "the second generation of a shape needs no new graph"
        assert first >= 1
        from model.transformer import Unwrapped

        loaded.model.wrap_step = Unwrapped()


def test_a_cache_of_the_same_size_is_kept() -> None:
    config, spare = preset("tiny-diffusion"), SpareCache()
    where = {"dtype": torch.float32, "device": torch.device("cpu")}
    with spare.lent(config, 1, 64, **where, start_B=None) as first:
        first.advance(10)
        with spare.lent(config, 1, 64, **where, start_B=None) as meanwhile:
            assert meanwhile is not first
    with spare.lent(config, 1, 64, **where, start_B=None) as again:
        assert again is first
        assert again.num_cached == 0
    with spare.lent(config, 1, 65, **where, start_B=None) as larger:
        assert larger is not first


def test_nothing_of_a_broken_generation_is_left_for_the_next() -> None:
    config, spare = preset("tiny-diffusion"), SpareCache()
    where = {"dtype": torch.float32, "device": torch.device("cpu")}
    with spare.lent(config, 1, 64, **where, start_B=None) as cache:
        for buffer in cache.storage():
            buffer.fill_(float("nan"))
    with spare.lent(config, 1, 64, **where, start_B=None) as cache:
        assert all(torch.isfinite(buffer).all() for buffer in cache.storage())


def test_a_generation_cut_short_gives_its_cache_back() -> None:
    loaded = load("tiny-diffusion")
    addresses = []
    for _ in range(2):
        events = generate(loaded.model, [[2, 5, 6]], DiffusionSampling(), max_new_tokens=32)
        next(events)
        events.close()
        spare = loaded.model.spare_cache._spare
        assert spare is not None
        addresses.append(next(spare[1].storage()).data_ptr())
    assert addresses[0] == addresses[1]


def test_a_processor_has_no_cuda_graphs() -> None:
    with pytest.raises(ValueError, match="needs a CUDA device, not cpu"):
        load("tiny-diffusion", execution="cuda_graph")
