"""What one forward has to move and compute, by op group: the numerator of every roofline.

Weights are read once a forward and keys and values once; activations count only where they cannot
stay in a cache (scores over the vocabulary). FLOPs are those of the products. Nothing here depends
on how the forward is carried out.

Legend: T new tokens, D model, V vocab, K keys.
"""

from dataclasses import dataclass
from typing import Literal

from model.config import AttentionConfig, ModelConfig
from model.cost import projection_values, weight_bytes
from model.masks import first_visible
from model.precision import Precision
from model.vocabulary import Vocabulary

ForwardKind = Literal["denoise", "commit", "fused", "prefill", "decode"]
_CACHE_BYTES, _SCORE_BYTES = 2, 2
_FLOPS_A_SAMPLED_SCORE = 10


@dataclass(frozen=True, slots=True)
class OpGroup:
    """One group of operations of a forward.

    Attributes:
        weight_bytes: read once, in the width the precision stores them in.
        activation_bytes: keys, values and vocabulary scores, read or written in device memory.
        flops: two a multiply-add.
        is_fp8: whether its products are between e4m3 values.
    """

    name: str
    weight_bytes: float
    activation_bytes: float
    flops: float
    is_fp8: bool

    @property
    def bytes(self) -> float:
        return self.weight_bytes + self.activation_bytes


def expected_distinct_experts(config: ModelConfig, num_tokens: int) -> float:
    """Experts a layer that `num_tokens` tokens touch if every expert is as likely as another."""
    moe = config.moe
    return moe.num_experts * (1 - (1 - moe.top_k / moe.num_experts) ** num_tokens)


def forward_work(
    config: ModelConfig,
    kind: ForwardKind,
    precision: Precision,
    *,
    context: int,
    batch_size: int = 1,
    new_tokens: int | None = None,
    distinct_experts: float | None = None,
    vocabulary: Vocabulary = Vocabulary.EXACT,
    self_conditioning: bool = True,
) -> list[OpGroup]:
    """Every op group of one forward.

    A fused one commits a canvas and is the first denoise step of the next: weights are read once
    for the positions of both, and vocabulary scores are those of a step.

    Args:
        context: cached positions of every row.
        new_tokens: positions a row, of each canvas where there are two; by default a canvas, or one
            when decoding; needed for prefill.
        distinct_experts: experts a layer touched; by default what uniform routing would touch.
        vocabulary: what the products with the embedding table run in; scores are bf16 either way.
        self_conditioning: whether a step tells the next one what it believes. Without, no soft
            embedding is made of its scores; the MLP takes zeros and runs.

    Raises:
        ValueError: a prefill without new_tokens, or a kind the model does not have.
    """
    length = _new_tokens(config, kind, new_tokens)
    stepped = batch_size * length
    tokens = 2 * stepped if kind == "fused" else stepped
    if distinct_experts is None:
        distinct_experts = expected_distinct_experts(config, tokens)
    weights = weight_bytes(
        config,
        precision,
        distinct_experts,
        vocabulary=vocabulary,
        self_conditioning=self_conditioning,
    )
    is_fp8, is_fp8_table = precision is Precision.FP8, vocabulary is Vocabulary.FP8
    size, layers, moe = config.hidden_size, config.num_layers, config.moe
    expert, dense = 3 * size * moe.hidden_size, 3 * size * config.dense_hidden_size
    kinds = [config.attention(layer) for layer in config.layer_types]
    projections = sum(projection_values(config, a) for a in kinds)
    parts = _parts(kind, context, length)
    written = len(parts) * length
    found = [
        OpGroup("projections", weights["attention"], 0, 2 * tokens * projections, is_fp8),
        OpGroup(
            "attention",
            0,
            sum(
                batch_size * 2 * a.num_kv_heads * a.head_dim * _CACHE_BYTES * (held + written)
                for a, held in zip(kinds, _held(kinds, context), strict=True)
            ),
            sum(
                4 * config.num_heads * a.head_dim * stepped * (held + own)
                for before, own in parts
                for a, held in zip(kinds, _held(kinds, before), strict=True)
            ),
            False,
        ),
        OpGroup(
            "router", weights["router"], 0, 2 * tokens * layers * size * moe.num_experts, False
        ),
        OpGroup("experts", weights["experts"], 0, 2 * tokens * moe.top_k * layers * expert, is_fp8),
        OpGroup("dense", weights["dense"], 0, 2 * tokens * layers * dense, is_fp8),
        OpGroup("norms", weights["norms"], 0, 0, False),
    ]
    table = config.vocab_size * size
    steps = kind in ("denoise", "fused")
    scored = stepped if steps else batch_size if kind == "decode" else 0
    if kind == "prefill" and config.canvas_length is None:
        scored = batch_size
    if scored:
        scores = 0 if kind == "decode" else scored * config.vocab_size * _SCORE_BYTES
        sampling = _FLOPS_A_SAMPLED_SCORE * scored * config.vocab_size
        flops = 2 * scored * table
        found.append(OpGroup("logits", weights["logits"], scores, flops, is_fp8_table))
        found.append(OpGroup("sampling", 0, 0, sampling, False))
    if steps:
        fed = table if self_conditioning else 0
        scores = stepped * config.vocab_size * _SCORE_BYTES if self_conditioning else 0
        # Of an fp8 table's group the MLP's products, 2 % of all, run in the wide type.
        found.append(
            OpGroup(
                "self_conditioning",
                weights["self_conditioning"],
                scores,
                2 * stepped * (fed + dense),
                is_fp8_table and self_conditioning,
            )
        )
    return found


def _new_tokens(config: ModelConfig, kind: ForwardKind, asked: int | None) -> int:
    is_diffusion = config.canvas_length is not None
    own = ("denoise", "commit", "fused") if is_diffusion else ("decode",)
    valid = ("prefill", *own)
    if kind not in valid:
        raise ValueError(f"{config.name} has no {kind} forward; valid: {', '.join(valid)}")
    if kind == "prefill" and not asked:
        raise ValueError("a prefill's work depends on new_tokens; it must be >= 1")
    return asked or config.canvas_length or 1


def _parts(kind: ForwardKind, context: int, length: int) -> list[tuple[int, float]]:
    """Positions before each canvas of a forward, and how many of its own each position reads.

    A causal pass reads half of its own on average.
    """
    if kind == "fused":
        return [*_parts("commit", context, length), *_parts("denoise", context + length, length)]
    return [(context, length / 2 if kind in ("commit", "prefill") else length)]


def _held(kinds: list[AttentionConfig], context: int) -> list[int]:
    """Cached positions that each layer shows."""
    return [context - first_visible(context, a.window) for a in kinds]
