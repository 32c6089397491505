"""fp8 products with the vocabulary: the arithmetic, the tiny pair with it, what a step moves."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import model.vocabulary as products
from model import DiffusionSampling, LoadedModel, generate, load, preset
from model import precision as precisions
from model.config import ModelConfig
from model.cost import stored_bytes, weight_bytes
from model.float8 import ScaledMatrix
from model.layers import Embedding
from model.ops import make_ops
from model.ops.reference import ScaledRows, quantise_rows
from model.precision import FP8, Precision, WideEmbedding, check_device, finish, quantise_weight
from model.sampling import BlockDelivered
from model.tiny.tasks import evaluation_set
from model.vocabulary import Fp8Embedding, LongProduct, Vocabulary, scaled_channels, scaled_rows
from model.work import OpGroup, forward_work
from tests.model.planned import by_group, planned_ops

FULL, SIBLING = preset("diffusiongemma-26b-a4b"), preset("gemma-4-26b-a4b")
TORCH, REFERENCE = make_ops("torch"), make_ops("reference")


def tiny(**keys: str) -> LoadedModel:
    return load("tiny-diffusion", **({"precision": "bf16"} | keys))


@pytest.fixture(scope="module")
def exact() -> LoadedModel:
    return tiny()


@pytest.fixture(scope="module")
def fp8() -> LoadedModel:
    return tiny(vocabulary="fp8")


def fp8_embedding(loaded: LoadedModel) -> Fp8Embedding:
    assert isinstance(loaded.model.embedding, Fp8Embedding)
    return loaded.model.embedding


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).bfloat16()


def e4m3(x: Tensor, scale: Tensor) -> Tensor:
    """The nearest e4m3 values, in double."""
    return (x.double() / scale.double()).float().to(FP8).double()


def scales(x: Tensor) -> Tensor:
    return x.float().abs().amax(-1, keepdim=True) / 448


def test_logits_are_the_formula(fp8: LoadedModel) -> None:
    """Hidden rows by a scale a token, the table by a scale a vocabulary row that bf16 holds."""
    hidden, table = draw(2, 5, 128), fp8.model.embedding.weight
    row_scale, table_scale = scales(hidden), scales(table).bfloat16().float()
    rows, columns = e4m3(hidden, row_scale), e4m3(table, table_scale)
    products = F.linear(rows.float(), columns.float()) * (row_scale * table_scale[:, 0])
    assert torch.equal(fp8.model.embedding.logits(hidden), products.bfloat16())
    wide = (rows @ columns.t()) * row_scale.double() * table_scale[:, 0].double()
    torch.testing.assert_close(products.double(), wide, rtol=1e-5, atol=1e-5)


def test_soft_embeddings_are_the_formula(fp8: LoadedModel) -> None:
    """Probabilities by a scale a position, the table by a scale a channel."""
    p, table = torch.softmax(draw(2, 5, 64).float() * 4, -1), fp8.model.embedding.weight
    rounded = p.bfloat16()
    row_scale, channel_scale = scales(rounded), scales(table.t()).bfloat16().float()
    rows, channels = e4m3(rounded, row_scale), e4m3(table.t(), channel_scale)
    products = F.linear(rows.float(), channels.float()) * (row_scale * channel_scale[:, 0])
    want = products.bfloat16() * torch.tensor(128**0.5).bfloat16()
    assert torch.equal(fp8.model.embedding.soft(p), want)
    assert torch.equal(fp8_embedding(fp8).soft(quantise_rows(rounded)), want)


def test_tokens_are_looked_up_in_the_table_as_it_is(exact: LoadedModel, fp8: LoadedModel) -> None:
    tokens = torch.arange(64)[None]
    assert torch.equal(fp8.model.embedding(tokens), exact.model.embedding(tokens))


def test_channels_lie_one_after_the_other_and_parts_are_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """e4m3 tensor cores take factors with the summed dimension innermost alone."""
    table = draw(96, 40)
    for whole, scaled, values in (
        (quantise_weight(table), scaled_rows, (96, 40)),
        (quantise_weight(table.t().contiguous()), scaled_channels, (40, 96)),
    ):
        for most in (1, 500, 1 << 20):
            monkeypatch.setattr(products, "_TABLE_VALUES", most)
            found = scaled(table, quantise_weight)
            assert found.values.shape == values
            assert found.values.is_contiguous()
            assert torch.equal(found.values.float(), whole.values.float())
            assert torch.equal(found.scale, whole.scale)


def test_logits_stay_close_and_so_does_what_they_decide(
    exact: LoadedModel, fp8: LoadedModel
) -> None:
    """Two factors of e4m3, each up to 1/16 off a value: 3 to 4 % of the norm, and few argmaxes."""
    canvas, found = torch.arange(4, 36)[None], []
    for loaded in (exact, fp8):
        cache = _cache(loaded)
        loaded.model.encode(torch.arange(2, 20)[None], cache)
        found.append(loaded.model.denoise(canvas, None, cache)[0])  # type: ignore[operator]
    error = (found[1] - found[0]).norm(dim=-1) / found[0].norm(dim=-1)
    assert 0.001 < error.median() < 0.05
    assert (found[0].argmax(-1) == found[1].argmax(-1)).float().mean() > 0.9


def _cache(loaded: LoadedModel) -> Any:
    from model.kv_cache import KVCache

    return KVCache(loaded.config, 1, 80, dtype=loaded.model.dtype, device=loaded.model.device)


def steps_and_tokens(loaded: LoadedModel, prompts: list[list[int]]) -> tuple[list[int], list[Any]]:
    rows = [
        row
        for event in generate(loaded.model, prompts, DiffusionSampling(), max_new_tokens=32)
        if isinstance(event, BlockDelivered)
        for row in event.rows
    ]
    return [row.steps or 0 for row in rows], [row.tokens for row in rows]


def test_the_default_is_exact_and_changes_nothing(exact: LoadedModel, fp8: LoadedModel) -> None:
    told = tiny(vocabulary="exact")
    for loaded in (exact, told):
        assert type(loaded.model.embedding) in (Embedding, WideEmbedding)
        assert loaded.model.ops == TORCH
        assert loaded.applied.vocabulary is Vocabulary.EXACT
    assert fp8.applied.vocabulary is Vocabulary.FP8
    assert fp8.applied.emulated
    hidden = draw(1, 3, 128)
    weight = exact.model.embedding.weight
    want = F.linear(hidden.float(), weight.float()).bfloat16()
    torch.testing.assert_close(exact.model.embedding.logits(hidden), want, rtol=2**-7, atol=2**-6)
    prompt = [[2, 10, 11, 12], [2, 20, 21]]
    assert steps_and_tokens(exact, prompt) == steps_and_tokens(told, prompt)


def test_the_tiny_model_still_answers(exact: LoadedModel, fp8: LoadedModel) -> None:
    problems = evaluation_set("tiny", 18)
    found = []
    for loaded in (exact, fp8):
        assert loaded.tokenizer is not None
        asked = [[2, *loaded.tokenizer.encode(p.prompt).ids] for p in problems]
        steps, tokens = steps_and_tokens(loaded, asked)
        texts = [loaded.tokenizer.decode(list(own)) for own in tokens]
        right = [p.is_correct(text) for p, text in zip(problems, texts, strict=True)]
        found.append((sum(right), sum(steps) / len(steps)))
    (right, steps), (right_fp8, steps_fp8) = found
    assert right >= 14
    assert right_fp8 >= right - 3
    assert steps_fp8 == pytest.approx(steps, rel=0.25)


@pytest.mark.parametrize(("vocab", "rows"), [(64, 7), (1536, 5), (262144, 9)])
def test_beliefs_leave_the_sampler_quantised(vocab: int, rows: int) -> None:
    """Decisions are `sample`'s bit by bit, and the values those of its probabilities."""
    raw, uniform = draw(1, rows, vocab) * 4, torch.rand(1, rows)
    given = raw, 30.0, torch.tensor(0.6), uniform
    *decided, p = TORCH.sample(*given)
    *same, belief = TORCH.sample_scaled(*given)
    for found, wanted in zip(same, decided, strict=True):
        assert torch.equal(found, wanted)
    want = quantise_rows(p)
    assert torch.equal(belief.values.float(), want.values.float())
    assert torch.equal(belief.scale, want.scale)
    assert belief.values.shape == raw.shape
    slow = REFERENCE.sample_scaled(*given)[3]
    assert torch.equal(slow.scale, want.scale)
    assert (slow.values.float() != want.values.float()).float().mean() < 0.01


def scaled_mm(
    a: Tensor, b: Tensor, scale_a: Tensor, scale_b: Tensor, *, out_dtype: Any, use_fast_accum: bool
) -> Tensor:
    """torch's row-wise product by its contract: e4m3, b column by column, scales [M, 1], [1, N]."""
    assert a.dtype is b.dtype is FP8
    assert a.stride(-1) == 1
    assert b.stride(0) == 1
    assert (scale_a.shape, scale_b.shape) == ((len(a), 1), (1, b.shape[1]))
    assert scale_a.is_contiguous()
    assert scale_b.is_contiguous()
    return (F.linear(a.float(), b.t().float()) * (scale_a * scale_b)).to(out_dtype)


def test_units_of_a_gpu_are_given_what_emulation_multiplies(
    fp8: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = tiny()
    monkeypatch.setattr(precisions, "has_fp8_units", lambda device: True)
    monkeypatch.setattr(torch, "_scaled_mm", scaled_mm)
    finish(native.model, Precision.BF16, Vocabulary.FP8)
    embedding = fp8_embedding(native)
    assert isinstance(embedding.mixture, LongProduct)
    hidden, p = draw(2, 5, 128), torch.softmax(draw(2, 5, 64).float(), -1)
    assert torch.equal(embedding.logits(hidden), fp8.model.embedding.logits(hidden))
    assert torch.equal(embedding.soft(p), fp8.model.embedding.soft(p))
    assert torch.equal(embedding.logits(hidden[:, 0]), fp8.model.embedding.logits(hidden[:, 0]))


def test_many_products_leave_the_narrow_accumulator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sums over a vocabulary; those of a token's hidden channels are short."""
    asked = []

    def product(*factors: Tensor, out_dtype: Any, use_fast_accum: bool) -> Tensor:
        asked.append(use_fast_accum)
        return scaled_mm(*factors, out_dtype=out_dtype, use_fast_accum=use_fast_accum)

    native = tiny()
    monkeypatch.setattr(precisions, "has_fp8_units", lambda device: True)
    monkeypatch.setattr(torch, "_scaled_mm", product)
    finish(native.model, Precision.BF16, Vocabulary.FP8)
    native.model.embedding.logits(draw(1, 2, 128))
    native.model.embedding.soft(torch.softmax(draw(1, 2, 64).float(), -1))
    assert asked == [True, False]


def test_the_autoregressive_sibling_has_the_logits_alone() -> None:
    loaded = load("tiny-autoregressive", precision="fp8", vocabulary="fp8")
    assert fp8_embedding(loaded).mixture is None
    plain = load("tiny-autoregressive", precision="fp8")
    hidden = draw(2, 1, 128)
    found, want = (m.model.embedding.logits(hidden).float() for m in (loaded, plain))
    assert 0.001 < (found - want).norm() / want.norm() < 0.05


def test_random_weights_are_quantised_too() -> None:
    loaded = tiny(weights="dummy", vocabulary="fp8")
    table, scores = loaded.model.embedding.weight, fp8_embedding(loaded).scores
    rounded = scores.weight * scores.scale[:, None]  # type: ignore[attr-defined]
    assert (rounded - table.float()).norm() / table.float().norm() < 0.04


def floor(precision: Precision, vocabulary: Vocabulary, **keys: Any) -> dict[str, OpGroup]:
    groups = forward_work(FULL, "denoise", precision, context=1024, vocabulary=vocabulary, **keys)
    return {group.name: group for group in groups}


def quantised_at_once(weight: Tensor) -> ScaledMatrix:
    """Without data: all matrices together, which is quicker to prepare."""
    scale = weight.new_empty((*weight.shape[:-1], 1), dtype=torch.float32)
    return ScaledMatrix(torch.empty_like(weight, dtype=FP8, requires_grad=False), scale)


@pytest.mark.parametrize("precision", [Precision.BF16, Precision.FP8])
def test_a_step_plans_at_most_a_twentieth_more_than_its_floor(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precisions, "quantise_weight", quantised_at_once)
    ops = planned_ops(FULL, TORCH, precision, context=1024, vocabulary=Vocabulary.FP8)
    least = floor(precision, Vocabulary.FP8)
    assert 1 < sum(op.bytes for op in ops) / sum(g.bytes for g in least.values()) <= 1.05
    assert by_group(ops)["logits"] == pytest.approx(least["logits"].bytes, rel=1e-3)
    products_bytes = sorted(op.bytes for op in ops if op.name == "_scaled_mm")[-2:]
    table, scores = FULL.vocab_size * FULL.hidden_size, 256 * FULL.vocab_size
    assert products_bytes[0] == pytest.approx(table + scores, rel=2e-3)  # e4m3 in, little out
    assert products_bytes[1] == pytest.approx(table + 2 * scores, rel=2e-3)  # bf16 scores out


def test_the_floor_counts_half_the_bytes_and_e4m3_products() -> None:
    for precision in (Precision.BF16, Precision.FP8):
        exact, fp8 = (floor(precision, v) for v in (Vocabulary.EXACT, Vocabulary.FP8))
        table = FULL.vocab_size * FULL.hidden_size
        saved = {n: exact[n].weight_bytes - fp8[n].weight_bytes for n in exact}
        assert saved.pop("logits") == table - 2 * FULL.vocab_size
        assert saved.pop("self_conditioning") == table - 2 * FULL.hidden_size
        assert set(saved.values()) == {0.0}
        for name, group in exact.items():
            is_product = name in ("logits", "self_conditioning")
            assert fp8[name].is_fp8 is (group.is_fp8 or is_product)
            assert fp8[name].flops == group.flops
            assert fp8[name].activation_bytes == group.activation_bytes


def test_without_self_conditioning_its_mlp_alone_is_left() -> None:
    """It takes zeros, and reads its weights for that; no soft embedding is made."""
    for vocabulary in Vocabulary:
        group = floor(Precision.FP8, vocabulary, self_conditioning=False)["self_conditioning"]
        mlp = 3 * FULL.hidden_size * FULL.dense_hidden_size
        assert group.weight_bytes == 2 * (mlp + FULL.hidden_size)
        assert group.flops == 2 * 256 * mlp
        assert group.activation_bytes == 0
        assert not group.is_fp8
    off = DiffusionSampling(max_denoising_steps=2, self_conditioning=False)
    ops = planned_ops(FULL, TORCH, Precision.BF16, context=0, sampling=off)
    assert by_group(ops)["self_conditioning"] == pytest.approx(group.bytes, rel=0.1)


@pytest.mark.parametrize("config", [FULL, SIBLING], ids=lambda config: config.name)
def test_beside_the_copies_that_products_read_the_table_is_kept(config: ModelConfig) -> None:
    table, copies = config.vocab_size * config.hidden_size, 2 if config is FULL else 1
    for precision, width in ((Precision.BF16, 2), (Precision.FP8, 2), (Precision.FP32, 4)):
        read = sum(weight_bytes(config, precision, config.moe.num_experts).values())
        exact = stored_bytes(config, precision)
        assert exact == read - (copies - 1) * width * table
        if precision is not Precision.FP32:
            more = stored_bytes(config, precision, Vocabulary.FP8) - exact
            assert more == pytest.approx(copies * table, rel=1e-3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"vocabulary": "fp4"}, "vocabulary 'fp4' is unknown; valid: exact, fp8"),
        (
            {"vocabulary": "fp8", "precision": "fp32"},
            "vocabulary is fp8 with precision fp32; it must be exact there, or precision bf16 or",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(keys: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiny(**keys)


def test_a_gpu_without_e4m3_products_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    message = r"vocabulary fp8 needs .* capability 9.0 or 10.0; cuda:0 has 8.0; .* exact"
    with pytest.raises(ValueError, match=message):
        check_device(torch.device("cuda:0"), Precision.BF16, Vocabulary.FP8)
    check_device(torch.device("cuda:0"), Precision.BF16)


def test_a_scaled_belief_is_a_pair_of_values_and_scales() -> None:
    x = torch.tensor([[0.5, 0.25, 0.0], [0.0, 0.0, 0.0]])
    found = quantise_rows(x)
    assert isinstance(found, ScaledRows)
    assert torch.equal(found.values.float() * found.scale, x)
