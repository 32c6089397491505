"""What one forward has to move and compute, by op group: the numerator of every roofline.

Weights are read once a forward and keys and values once; activations count only where they cannot
stay in a cache (scores over the vocabulary). FLOPs are those of the products. Nothing here depends
on how the forward is carried out.

Legend: T new tokens, D model, V vocab, K keys.
"""

from dataclasses import dataclass
from typing import Literal

from model.config import AttentionConfig, ModelConfig
from model.cost import weight_bytes
from model.masks import first_visible
from model.precision import Precision

ForwardKind = Literal["denoise", "commit", "prefill", "decode"]
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
) -> list[OpGroup]:
    """Every op group of one forward.

    Args:
        context: cached positions of every row.
        new_tokens: positions a row; by default a canvas, or one when decoding; needed for prefill.
        distinct_experts: experts a layer touched; by default what uniform routing would touch.

    Raises:
        ValueError: a prefill without new_tokens, or a kind the model does not have.
    """
    length = _new_tokens(config, kind, new_tokens)
    tokens = batch_size * length
    if distinct_experts is None:
        distinct_experts = expected_distinct_experts(config, tokens)
    weights = weight_bytes(config, precision, distinct_experts)
    is_fp8 = precision is Precision.FP8
    size, layers, moe = config.hidden_size, config.num_layers, config.moe
    expert, dense = 3 * size * moe.hidden_size, 3 * size * config.dense_hidden_size
    kinds = [config.attention(layer) for layer in config.layer_types]
    projections = sum(_projection_values(config, a) for a in kinds)
    # A causal pass reads half of its own positions on average.
    own = length / 2 if kind in ("commit", "prefill") else length
    found = [
        OpGroup("projections", weights["attention"], 0, 2 * tokens * projections, is_fp8),
        OpGroup(
            "attention",
            0,
            sum(
                batch_size * 2 * a.num_kv_heads * a.head_dim * _CACHE_BYTES * (held + length)
                for a, held in zip(kinds, _held(kinds, context), strict=True)
            ),
            sum(
                4 * config.num_heads * a.head_dim * tokens * (held + own)
                for a, held in zip(kinds, _held(kinds, context), strict=True)
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
    scored = {"denoise": tokens, "decode": batch_size, "prefill": 0, "commit": 0}[kind]
    if kind == "prefill" and config.canvas_length is None:
        scored = batch_size
    if scored:
        scores = 0 if kind == "decode" else scored * config.vocab_size * _SCORE_BYTES
        sampling = _FLOPS_A_SAMPLED_SCORE * scored * config.vocab_size
        found.append(OpGroup("logits", weights["logits"], scores, 2 * scored * table, False))
        found.append(OpGroup("sampling", 0, 0, sampling, False))
    if kind == "denoise":
        flops = 2 * tokens * (table + dense)
        scores = tokens * config.vocab_size * _SCORE_BYTES
        condition = OpGroup("self_conditioning", weights["self_conditioning"], scores, flops, False)
        found.append(condition)
    return found


def _new_tokens(config: ModelConfig, kind: ForwardKind, asked: int | None) -> int:
    is_diffusion = config.canvas_length is not None
    valid = ("prefill", "denoise", "commit") if is_diffusion else ("prefill", "decode")
    if kind not in valid:
        raise ValueError(f"{config.name} has no {kind} forward; valid: {', '.join(valid)}")
    if kind == "prefill" and not asked:
        raise ValueError("a prefill's work depends on new_tokens; it must be >= 1")
    return asked or config.canvas_length or 1


def _held(kinds: list[AttentionConfig], context: int) -> list[int]:
    """Cached positions that each layer shows."""
    return [context - first_visible(context, a.window) for a in kinds]


def _projection_values(config: ModelConfig, attention: AttentionConfig) -> int:
    heads = 2 * config.num_heads + attention.num_kv_heads * (2 - attention.value_is_key)
    return heads * attention.head_dim * config.hidden_size
