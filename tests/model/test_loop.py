"""The generation loop: ledger, ends of sequences, batches, seeds, traces and refused requests."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from model import load
from model.config import ModelConfig, preset
from model.diffusion import DiffusionTransformer
from model.dummy import fill_with_random
from model.ops import make_ops
from model.sampling import (
    BlockDelivered,
    CanvasNoise,
    DiffusionSampling,
    EosPolicy,
    FinishReason,
    GreedySampling,
    Phase,
    RecordedNoise,
    RowDelivery,
    SeededNoise,
    StartingFrom,
    StepDone,
    StopReason,
    TokenTrace,
    TraceLevel,
    generate,
)
from model.transformer import Transformer

DIFFUSION, AUTOREGRESSIVE = preset("tiny-diffusion"), preset("tiny-autoregressive")
LENGTH = 32
PROMPTS = [[2, 10, 11, 12], [2, 20, 21], [2, *range(30, 50)]]


def make(config: ModelConfig = DIFFUSION, seed: int = 0) -> Transformer:
    kind = Transformer if config.canvas_length is None else DiffusionTransformer
    model = kind(config, make_ops("torch"))
    fill_with_random(model, seed)
    for block in model.layers():
        torch.nn.init.constant_(block.attention.q_norm.weight, 0.3)
    return model.requires_grad_(False)


MODEL = make()
LOOSE = DiffusionSampling(
    max_denoising_steps=8, entropy_bound=3.0, confidence_threshold=3.3, t_min=0.1, t_max=0.3
)


def blocks(*arguments, **knobs) -> list[BlockDelivered]:
    return [e for e in generate(*arguments, **knobs) if isinstance(e, BlockDelivered)]


def rows_of(found: list[BlockDelivered], row: int) -> list[RowDelivery]:
    return [block.rows[row] for block in found]


def tokens_of(found: list[BlockDelivered], row: int) -> list[int]:
    return list(itertools.chain.from_iterable(r.tokens for r in rows_of(found, row)))


def test_the_ledger_sums_for_every_row() -> None:
    found = blocks(MODEL, PROMPTS, LOOSE, max_new_tokens=80, seed=3)
    for row in range(len(PROMPTS)):
        slots = sum(len(r.block_tokens) for r in rows_of(found, row))
        parts = sum(
            len(r.tokens) + r.after_eos + r.over_limit + r.row_ended for r in rows_of(found, row)
        )
        assert parts == slots == LENGTH * len(found)


def test_what_is_asked_for_is_delivered() -> None:
    for limit in (1, 31, 32, 33, 70):
        found = blocks(MODEL, PROMPTS[:1], LOOSE, max_new_tokens=limit, eos_policy=EosPolicy.IGNORE)
        assert len(tokens_of(found, 0)) == limit
        last = found[-1].rows[0]
        assert last.finish_reason is FinishReason.LENGTH
        assert last.over_limit == -limit % LENGTH


class Scripted(DiffusionTransformer):
    """Predicts given canvases with certainty, one after the other."""

    def __init__(self, canvases: Sequence[Sequence[int]]) -> None:
        super().__init__(DIFFUSION, make_ops("torch"))
        fill_with_random(self, 0)
        self.requires_grad_(False)
        self._canvases = list(canvases)
        self._position = 0

    def around_canvas(self, length, cache, *, ahead=0):
        self._position = (cache.num_cached + ahead - 4) // LENGTH
        return super().around_canvas(length, cache, ahead=ahead)

    def scores_in(self, canvas_BL, signal_BLD, surroundings, finished=None):
        wanted = torch.tensor(self._canvases[self._position])
        return 300 * torch.nn.functional.one_hot(wanted, 64).float()[None]


def canvas(*tokens: int) -> list[int]:
    return [*tokens, *[0] * (LENGTH - len(tokens))]


@pytest.mark.parametrize(
    ("canvases", "limit", "delivered", "finish"),
    [
        ([canvas(1)], 64, [1], FinishReason.EOS),
        ([canvas(5, 6, 1, 7, 1)], 64, [5, 6, 1], FinishReason.EOS),
        ([[5] * 31 + [1]], 64, [5] * 31 + [1], FinishReason.EOS),
        ([[5] * 32, canvas(6, 1)], 64, [5] * 32 + [6, 1], FinishReason.EOS),
        ([canvas(5, 6, 1)], 2, [5, 6], FinishReason.LENGTH),
        ([canvas(5, 6, 1)], 3, [5, 6, 1], FinishReason.EOS),
    ],
)
def test_ends_of_sequences(
    canvases: list[list[int]], limit: int, delivered: list[int], finish: FinishReason
) -> None:
    found = blocks(Scripted(canvases), PROMPTS[:1], DiffusionSampling(), max_new_tokens=limit)
    assert tokens_of(found, 0) == delivered
    assert found[-1].rows[0].finish_reason is finish
    # Certain from the start: stable at the second step.
    assert [r.steps for r in rows_of(found, 0)] == [2] * len(canvases)
    assert found[0].rows[0].stop_reason is StopReason.CONVERGED


def test_an_ignored_eos_is_a_token() -> None:
    found = blocks(
        Scripted([canvas(5, 1, 6)] * 2),
        PROMPTS[:1],
        DiffusionSampling(),
        max_new_tokens=40,
        eos_policy=EosPolicy.IGNORE,
    )
    assert tokens_of(found, 0) == canvas(5, 1, 6) + canvas(5, 1, 6)[:8]


def test_forced_steps_are_exact_and_named() -> None:
    sampling = DiffusionSampling(max_denoising_steps=5, early_stop=False)
    events = list(generate(MODEL, PROMPTS[:1], sampling, max_new_tokens=64))
    phases = [e.phase for e in events if isinstance(e, StepDone)]
    assert phases == [Phase.PREFILL, *[Phase.DENOISE] * 5, Phase.COMMIT, *[Phase.DENOISE] * 5]
    rows = [e.rows[0] for e in events if isinstance(e, BlockDelivered)]
    assert {r.stop_reason for r in rows} == {StopReason.FORCED}


def test_rows_do_not_depend_on_their_batch() -> None:
    """With trained weights: random ones turn a rounding difference into another token."""
    loaded = load("tiny-diffusion")
    assert loaded.tokenizer is not None
    texts = ("sort hgfedcba=", "count 1 12=", "add 12+30=")
    prompts = [[2, *loaded.tokenizer.encode(text).ids] for text in texts]
    sampling = DiffusionSampling()

    def run(rows: list[int]) -> list[BlockDelivered]:
        noise = SeededNoise(5, [7 + row for row in rows], LENGTH, DIFFUSION.vocab_size)
        given = [prompts[row] for row in rows]
        return blocks(loaded.model, given, sampling, max_new_tokens=64, noise=noise)

    together = run([0, 1, 2])
    for row in range(3):
        alone = run([row])
        assert tokens_of(alone, 0) == tokens_of(together, row)
        own = [r.steps for r in rows_of(together, row) if not r.row_ended]
        assert own == [r.steps for r in rows_of(alone, 0)]


def test_a_seed_repeats_and_another_differs() -> None:
    first, again, other = (
        blocks(MODEL, PROMPTS, LOOSE, max_new_tokens=64, seed=seed) for seed in (1, 1, 2)
    )
    assert [b.rows for b in first] == [b.rows for b in again]
    assert [b.rows for b in first] != [b.rows for b in other]


def test_the_trace_level_changes_no_token() -> None:
    by_level = {
        level: blocks(MODEL, PROMPTS, LOOSE, max_new_tokens=64, trace=level) for level in TraceLevel
    }
    rows = [[b.rows for b in found] for found in by_level.values()]
    assert rows[0] == rows[1] == rows[2]
    counts, positions, full = (found[0].trace for found in by_level.values())
    assert counts.accepted is None
    assert torch.equal(positions.accepted.sum(-1), counts.accepted_count)
    assert torch.equal(positions.entropy.mean(-1), counts.mean_entropy)
    assert positions.canvas is None
    # What a step was given: accepted positions carry the step before's candidates.
    kept = full.accepted[0] & full.accepted[0]
    assert torch.equal(full.canvas[1][kept], full.candidate[0][kept])


def test_without_self_conditioning_no_step_hears_of_the_one_before() -> None:
    """Given the same canvas at every step, it says the same every time; otherwise it does not."""
    drawn = SeededNoise(0, [0], LENGTH, DIFFUSION.vocab_size).canvas(0, 3)
    same_NBL = drawn.initial_BL.expand(3, -1, -1)
    still = RecordedNoise([replace(drawn, renoise_NBL=same_NBL, candidate_NBL=same_NBL)])
    for feeds_back in (True, False):
        sampling = DiffusionSampling(
            max_denoising_steps=3,
            t_min=0.5,
            t_max=0.5,
            early_stop=False,
            self_conditioning=feeds_back,
        )
        [found] = blocks(
            MODEL,
            PROMPTS[:1],
            sampling,
            max_new_tokens=LENGTH,
            noise=still,
            trace=TraceLevel.FULL,
        )
        assert found.trace is not None
        first, second, third = found.trace.canvas
        assert torch.equal(first, second)
        assert torch.equal(first, third)
        said = found.trace.entropy
        assert torch.equal(said[0], said[1]) != feeds_back
        assert torch.equal(said[1], said[2]) != feeds_back


def test_a_given_start_canvas_is_where_denoising_starts() -> None:
    given = torch.arange(LENGTH)[None] + 4
    noise = StartingFrom(SeededNoise(0, [0], LENGTH, 64), given)
    found = blocks(MODEL, PROMPTS[:1], LOOSE, max_new_tokens=64, noise=noise, trace=TraceLevel.FULL)
    assert found[0].trace is not None
    assert torch.equal(found[0].trace.canvas[0], given)
    assert not torch.equal(found[1].trace.canvas[0], given)


def test_recorded_noise_says_when_it_runs_out() -> None:
    canvas_noise = SeededNoise(0, [0], LENGTH, 64).canvas(0, 8)
    for noise, message in (
        (RecordedNoise([]), "recorded for 0 canvases, not 1"),
        (
            RecordedNoise([CanvasNoise(canvas_noise.initial_BL, *[torch.zeros(2, 1, 32)] * 2)]),
            "recorded for 2 steps, not 8",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            blocks(MODEL, PROMPTS[:1], LOOSE, max_new_tokens=8, noise=noise)


def test_autoregressive_tokens_come_one_by_one() -> None:
    model = make(AUTOREGRESSIVE)
    events = list(
        generate(model, PROMPTS, GreedySampling(), max_new_tokens=5, eos_policy=EosPolicy.IGNORE)
    )
    phases = [e.phase for e in events if isinstance(e, StepDone)]
    assert phases == [Phase.PREFILL, *[Phase.DECODE] * 4]
    delivered = [e for e in events if isinstance(e, BlockDelivered)]
    assert [len(e.rows[0].tokens) for e in delivered] == [1] * 5


def test_the_consumer_is_not_put_into_inference_mode() -> None:
    for _ in generate(MODEL, PROMPTS[:1], LOOSE, max_new_tokens=8):
        assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("prompts", "limit", "message"),
    [
        ([], 8, "no prompts given"),
        ([[2], []], 8, "prompt 1 is empty"),
        ([[2]], 0, "max_new_tokens is 0; it must be >= 1"),
        ([[2] * 481], 32, "prompt 0 has 481 tokens; with 32 new tokens .* takes at most 480"),
        ([[2, 64]], 8, "prompt 0 has token id 64; valid ids: 0 to 63"),
    ],
)
def test_refused_requests(prompts: list[list[int]], limit: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(MODEL, prompts, LOOSE, max_new_tokens=limit)


def test_a_fused_commit_takes_the_place_of_two_forwards() -> None:
    """At every canvas but the first, whose prefix is the prompt."""
    knobs = {"max_new_tokens": 3 * LENGTH, "eos_policy": EosPolicy.IGNORE, "seed": 3}
    separate, fused = (
        list(generate(MODEL, PROMPTS, LOOSE, fused_commit=fused_commit, **knobs))
        for fused_commit in (False, True)
    )
    expected, forwards = (
        [event for event in found if isinstance(event, StepDone)] for found in (separate, fused)
    )
    for block in (1, 2):
        place = expected.index(StepDone(Phase.COMMIT, block, 1))
        assert expected[place + 1] == StepDone(Phase.DENOISE, block, 1)
        expected[place : place + 2] = [StepDone(Phase.FUSED, block, 1)]
    assert forwards == expected
    delivered = [[e.rows for e in f if isinstance(e, BlockDelivered)] for f in (separate, fused)]
    assert delivered[0] == delivered[1]


def test_knobs_of_the_other_sibling_are_refused() -> None:
    with pytest.raises(ValueError, match="GreedySampling cannot drive the diffusion"):
        generate(MODEL, PROMPTS, GreedySampling(), max_new_tokens=8)
    greedy = GreedySampling()
    with pytest.raises(ValueError, match="tiny-autoregressive is autoregressive and has no canvas"):
        generate(make(AUTOREGRESSIVE), PROMPTS, greedy, max_new_tokens=8, fused_commit=True)


@pytest.mark.parametrize(
    "knobs",
    [
        {"max_denoising_steps": 0},
        {"entropy_bound": -0.1},
        {"confidence_threshold": -1.0},
        {"stability_threshold": -1},
        {"t_min": 0.0},
        {"t_min": 0.5, "t_max": 0.4},
    ],
)
def test_knobs_out_of_range_are_named(knobs: dict) -> None:
    with pytest.raises(ValueError, match=rf"sampler.{list(knobs)[-1]} is .*; it must be"):
        DiffusionSampling(**knobs)


def test_a_longer_context_than_the_model_has_is_not_allocated() -> None:
    short = make(replace(DIFFUSION, max_positions=40))
    assert tokens_of(blocks(short, [[2] * 8], LOOSE, max_new_tokens=3), 0)
    with pytest.raises(ValueError, match="takes at most 8"):
        generate(short, [[2] * 9], LOOSE, max_new_tokens=3)


def test_the_last_token_brings_the_score_of_every_token() -> None:
    model = load("tiny-autoregressive").model
    found = blocks(model, PROMPTS, GreedySampling(), max_new_tokens=5, eos_policy=EosPolicy.IGNORE)
    assert [b.trace for b in found[:-1]] == [None] * 4
    trace = found[-1].trace
    assert isinstance(trace, TokenTrace)
    assert trace.top_score.shape == (5, len(PROMPTS))
    assert torch.isfinite(trace.top_score).all()


def test_scores_that_are_not_finite_are_seen() -> None:
    model = load("tiny-autoregressive").model
    model.final_norm.weight.data[0] = float("nan")
    found = blocks(
        model, PROMPTS[:1], GreedySampling(), max_new_tokens=3, eos_policy=EosPolicy.IGNORE
    )
    trace = found[-1].trace
    assert isinstance(trace, TokenTrace)
    assert not torch.isfinite(trace.top_score).any()
