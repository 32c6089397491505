"""What a captured step copies and what it reads in place; capture itself needs a device."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from model import DiffusionSampling, GreedySampling, generate, load
from model.config import preset
from model.diffusion import DiffusionTransformer
from model.dummy import fill_with_random
from model.execution import cuda_graph
from model.folded import fold
from model.ops import make_ops
from model.sampling import BlockDelivered, EosPolicy, TraceLevel
from model.transformer import Transformer, Unwrapped

TINY = preset("tiny-diffusion")
# A window of two canvases, and prompts on both sides of it; one of several windows.
SHORT = replace(
    TINY,
    sliding=replace(TINY.sliding, window=17),
    layer_types=("sliding", "full"),
    canvas_length=8,
)
LENGTHS = (3, 15, 16, 17, 40)


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


class Counting:
    """Fixed shapes, run as they are; notes which graphs a device would have captured."""

    fixed_shapes = True

    def __init__(self) -> None:
        self.keys: dict[str, set[object]] = defaultdict(set)

    def __call__(self, step: Callable[..., Any], kind: str, /) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            self.keys[kind].add(cuda_graph._key(args))
            return step(*args)

        return run


def random_model(*, is_diffusion: bool, folded: bool) -> Transformer:
    kind = DiffusionTransformer if is_diffusion else Transformer
    config = SHORT if is_diffusion else replace(SHORT, canvas_length=None)
    model = kind(config, make_ops("torch")).requires_grad_(False)
    fill_with_random(model, 0)
    for block in model.layers():
        torch.nn.init.constant_(block.attention.q_norm.weight, 0.3)
    if folded:
        fold(model)
    return model


def prompt(length: int) -> list[int]:
    generator = torch.Generator().manual_seed(length)
    return [2, *torch.randint(8, TINY.vocab_size, (length - 1,), generator=generator).tolist()]


def decisions(
    model: Transformer, prompts: list[list[int]], *, fused_commit: bool = False
) -> list[Any]:
    """Tokens of every block and the accepted masks of every step."""
    is_diffusion = model.config.canvas_length is not None
    events = generate(
        model,
        prompts,
        DiffusionSampling(max_denoising_steps=4, entropy_bound=3.0)
        if is_diffusion
        else GreedySampling(),
        max_new_tokens=30 if is_diffusion else 20,
        eos_policy=EosPolicy.IGNORE,
        trace=TraceLevel.POSITIONS,
        fused_commit=fused_commit,
    )
    found: list[Any] = []
    for event in events:
        if isinstance(event, BlockDelivered):
            found.append([row.block_tokens for row in event.rows])
            if is_diffusion and event.trace is not None:
                found.append(event.trace.accepted.tolist())
    return found


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("is_diffusion", [True, False])
@pytest.mark.parametrize("batch", [LENGTHS, [(3, 15, 1), (40, 17, 2), (16, 16, 16)]], ids=str)
def test_one_graph_a_step_gives_what_a_step_of_any_shape_does(
    batch: Any, is_diffusion: bool, folded: bool
) -> None:
    """Prefixes that cross the window, alone and padded: one graph a kind of step for them all."""
    model = random_model(is_diffusion=is_diffusion, folded=folded)
    counting = Counting()
    for lengths in batch:
        prompts = [prompt(n) for n in (lengths if isinstance(lengths, tuple) else (lengths,))]
        model.wrap_step = Unwrapped()
        plain = decisions(model, prompts)
        model.wrap_step = counting
        assert decisions(model, prompts) == plain
    kinds = {"denoise", "commit"} if is_diffusion else {"decode"}
    assert {kind: len(keys) for kind, keys in counting.keys.items()} == dict.fromkeys(kinds, 1)


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("batch", [LENGTHS, [(3, 15, 1), (40, 17, 2), (16, 16, 16)]], ids=str)
def test_a_commit_in_the_next_first_step_changes_no_decision(batch: Any, folded: bool) -> None:
    """Rings that are not full yet, fill up and come round, alone and padded; then by graphs."""
    model = random_model(is_diffusion=True, folded=folded)
    counting = Counting()
    for lengths in batch:
        prompts = [prompt(n) for n in (lengths if isinstance(lengths, tuple) else (lengths,))]
        model.wrap_step = Unwrapped()
        separate = decisions(model, prompts)
        assert decisions(model, prompts, fused_commit=True) == separate
        model.wrap_step = counting
        assert decisions(model, prompts, fused_commit=True) == separate
    assert {kind: len(keys) for kind, keys in counting.keys.items()} == {"denoise": 2}


def test_a_longer_request_than_the_cache_holds_is_another_graph() -> None:
    model = random_model(is_diffusion=False, folded=True)
    model.wrap_step = counting = Counting()
    for length in (10, 200, 300, 10):
        decisions(model, [prompt(length)])
    assert len(counting.keys["decode"]) == 2


def test_rotary_tables_that_grow_are_another_graph() -> None:
    model = random_model(is_diffusion=True, folded=True)
    model.wrap_step = counting = Counting()
    decisions(model, [prompt(10)])
    model._table("sliding", 2000)
    decisions(model, [prompt(10)])
    assert len(counting.keys["denoise"]) == 2


@pytest.mark.parametrize("name", ["tiny-diffusion", "tiny-autoregressive"])
def test_steps_as_functions_of_tensors_give_the_same_text(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda_graph, "_Graph", Replayed)
    loaded = load(name)
    assert loaded.tokenizer is not None
    prompts = [[2, *loaded.tokenizer.encode(text).ids] for text in ("count 7 21=", "add 12 30=")]
    sampling = DiffusionSampling(max_denoising_steps=6) if "diff" in name else GreedySampling()

    def tokens(batch: list[list[int]]) -> list[list[int]]:
        events = generate(
            loaded.model, batch, sampling, max_new_tokens=40, eos_policy=EosPolicy.IGNORE
        )
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
        assert first == (2 if "diff" in name else 1)
        loaded.model.wrap_step = Unwrapped()


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
