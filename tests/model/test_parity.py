"""Our models against `transformers` with the same random weights, in fp32.

Logits agree within 1e-4 of the largest one. Trajectories agree exactly when both are fed the
same noise: accepted masks, argmax canvases, stop steps and delivered tokens, each row over its own
active steps. Upstream runs with its dynamic cache, whose sliding layers keep window - 1 positions.
"""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from bench.verify.recording import DraftStreamer, recording
from model.config import ModelConfig
from model.diffusion import DiffusionTransformer
from model.kv_cache import KVCache
from model.sampling import (
    BlockDelivered,
    DiffusionSampling,
    GreedySampling,
    RecordedNoise,
    TraceLevel,
    generate,
)
from model.transformer import Transformer
from tests.model.upstream import (
    CASES,
    Case,
    autoregressive_config,
    generation_config,
    left_padded,
    ours,
    randomise,
    upstream_autoregressive,
    upstream_diffusion,
)

KERNELS = ["reference", "torch", "folded"]
FIXED_SHAPES = "folded, steps of fixed shapes"
TOLERANCE = 1e-4
NUM_CANVASES = 3


class FixedShapes:
    """Asks for the steps that a captured graph holds; runs them as they are."""

    fixed_shapes = True

    def __call__(self, step, kind):
        return step


@dataclass(frozen=True)
class Upstream:
    case: Case
    model: torch.nn.Module
    folder: Path
    config: ModelConfig


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def diffusion(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Upstream:
    case: Case = request.param
    model = upstream_diffusion(case.config)
    randomise(model, case.seed)
    folder = tmp_path_factory.mktemp("diffusion")
    model.save_pretrained(folder)
    return Upstream(case, model, folder, case.config)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def autoregressive(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Upstream:
    case: Case = request.param
    config = autoregressive_config(case.config)
    model = upstream_autoregressive(config)
    randomise(model, case.seed)
    folder = tmp_path_factory.mktemp("autoregressive")
    model.save_pretrained(folder)
    return Upstream(case, model, folder, config)


def assert_close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    assert actual.dtype is torch.float32
    assert (actual - expected).abs().max() <= TOLERANCE * expected.abs().max()


def prepared(found: Upstream, kernels: str) -> Transformer:
    if kernels != FIXED_SHAPES:
        return ours(found.folder, found.config, kernels)
    model = ours(found.folder, found.config, "folded")
    model.wrap_step = FixedShapes()
    return model


def new_cache(config: ModelConfig, mask: torch.Tensor, num_slots: int) -> KVCache:
    starts = (mask == 0).sum(dim=1)
    return KVCache(
        config,
        len(mask),
        num_slots,
        dtype=torch.float32,
        device=torch.device("cpu"),
        start_B=starts if starts.any() else None,
    )


@pytest.mark.parametrize("kernels", KERNELS)
def test_denoise_logits(diffusion: Upstream, kernels: str) -> None:
    config, case = diffusion.config, diffusion.case
    model = ours(diffusion.folder, config, kernels)
    assert isinstance(model, DiffusionTransformer)
    ids, mask = left_padded(case.make_prompts())
    generator = torch.Generator().manual_seed(case.seed)
    canvas = torch.randint(config.vocab_size, (len(ids), case.canvas), generator=generator)
    committed = torch.randint(config.vocab_size, (len(ids), case.canvas), generator=generator)
    scaled = torch.randn(len(ids), case.canvas, config.vocab_size, generator=generator) * 3
    canvas_ones = torch.ones(len(ids), case.canvas, dtype=torch.long)

    with torch.inference_mode():
        cache = new_cache(config, mask, ids.shape[1] + 2 * case.canvas)
        model.encode(ids, cache)
        first = model.denoise(canvas, None, cache)
        guided = model.denoise(canvas, model.signal(scaled), cache)
        model.encode(committed, cache)
        second = model.denoise(canvas, model.signal(scaled), cache)

        upstream, past = diffusion.model, None
        for tokens, known, signal, actual in (
            (ids, mask, None, first),
            (ids, mask, scaled, guided),
            (committed, torch.cat((mask, canvas_ones), dim=1), scaled, second),
        ):
            if tokens is committed:  # continue from the prompt's cache
                past = upstream.model.encoder(input_ids=ids, attention_mask=mask).past_key_values
            expected = upstream(
                input_ids=tokens,
                attention_mask=known,
                past_key_values=past,
                decoder_input_ids=canvas,
                self_conditioning_logits=signal,
                decoder_attention_mask=torch.cat((known, canvas_ones), dim=1),
            ).logits
            assert_close(actual, expected)


@pytest.mark.parametrize("kernels", [*KERNELS, FIXED_SHAPES])
def test_trajectory(diffusion: Upstream, kernels: str) -> None:
    config, case = diffusion.config, diffusion.case
    # Thresholds between what random weights reach early and never, so that rows stop apart.
    sampling = DiffusionSampling(
        max_denoising_steps=9, entropy_bound=2.0, confidence_threshold=2.6, t_min=0.2, t_max=0.5
    )
    prompts = case.make_prompts()
    ids, mask = left_padded(prompts)
    limit = NUM_CANVASES * case.canvas
    torch.manual_seed(case.seed)
    with recording() as recorded:
        sequences = diffusion.model.generate(
            ids,
            attention_mask=mask,
            generation_config=generation_config(config, sampling, limit),
            streamer=DraftStreamer(recorded),
        ).sequences[:, ids.shape[1] :]
    num_upstream_canvases = sequences.shape[1] // case.canvas

    model = prepared(diffusion, kernels)
    events = generate(
        model,
        prompts,
        sampling,
        max_new_tokens=limit,
        trace=TraceLevel.FULL,
        noise=RecordedNoise(recorded.noise(sampling.max_denoising_steps)),
    )
    blocks = [event for event in events if isinstance(event, BlockDelivered)]
    assert len(blocks) == num_upstream_canvases
    delivered: list[list[int]] = [[] for _ in prompts]
    for block in blocks:
        index = block.block
        trace = block.trace
        assert trace is not None
        assert trace.accepted is not None
        assert trace.argmax is not None
        active_steps = max(row.steps for row in block.rows)
        # Upstream goes on while any row, ended or not, is undecided; ours only while one is needed.
        assert active_steps <= len(recorded.accepted[index])
        for row, found in enumerate(block.rows):
            delivered[row] += found.tokens
            for step in range(found.steps):
                assert torch.equal(
                    trace.accepted[step, row], recorded.accepted[index][step][row]
                ), (index, step, row)
                assert torch.equal(trace.argmax[step, row], recorded.argmax[index][step][row])
            if found.row_ended == 0:
                assert found.steps == recorded.stop_step(index, row)
                assert found.block_tokens == recorded.argmax[index][-1][row].tolist()
    for row, tokens in enumerate(delivered):
        padded = tokens + [config.pad_token_id] * (sequences.shape[1] - len(tokens))
        assert padded == sequences[row].tolist()


@pytest.mark.parametrize("kernels", [*KERNELS, FIXED_SHAPES])
def test_autoregressive_logits_and_greedy_tokens(autoregressive: Upstream, kernels: str) -> None:
    config, case = autoregressive.config, autoregressive.case
    model = prepared(autoregressive, kernels)
    prompts = case.make_prompts()
    ids, mask = left_padded(prompts)
    with torch.inference_mode():
        cache = new_cache(config, mask, ids.shape[1] + 1)
        actual = model.logits(model.encode(ids, cache))
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        expected = autoregressive.model(
            input_ids=ids, attention_mask=mask, position_ids=positions
        ).logits
    for row, length in enumerate(map(len, prompts)):
        assert_close(actual[row, -length:], expected[row, -length:])

    num_new = 24
    sequences = autoregressive.model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=num_new,
        do_sample=False,
        eos_token_id=list(config.eos_token_ids),
        pad_token_id=config.pad_token_id,
    )[:, ids.shape[1] :]
    delivered: list[list[int]] = [[] for _ in prompts]
    for event in generate(model, prompts, GreedySampling(), max_new_tokens=num_new):
        if isinstance(event, BlockDelivered):
            for row, found in enumerate(event.rows):
                delivered[row] += found.tokens
    for row, tokens in enumerate(delivered):
        padded = tokens + [config.pad_token_id] * (sequences.shape[1] - len(tokens))
        assert padded == sequences[row].tolist()
