"""What a model weighs and what one forward has to read, from its dimensions alone.

Weight bytes are counted once a forward, by op group. They are what the precision implies, also on a
machine that stores it in a wider type. Widths follow the released checkpoints (`model.precision`).
"""

from collections.abc import Mapping

from model.config import AttentionConfig, ModelConfig
from model.precision import Precision
from model.vocabulary import Vocabulary

_WIDE_BYTES: Mapping[Precision, int] = {Precision.FP32: 4, Precision.BF16: 2, Precision.FP8: 2}
_SCALE_BYTES = 2  # one bf16 scale an output channel


def num_parameters(config: ModelConfig) -> int:
    """Parameters, the tied embedding counted once; layer scalars included."""
    size, moe = config.hidden_size, config.moe
    total = config.vocab_size * size + size
    for kind in config.layer_types:
        attention = config.attention(kind)
        total += projection_values(config, attention) + 2 * attention.head_dim
        total += 3 * size * (config.dense_hidden_size + moe.num_experts * moe.hidden_size)
        total += moe.num_experts * (size + 1) + 8 * size + 1
        total += config.canvas_length is not None
    if config.canvas_length is not None:
        total += 3 * size * config.dense_hidden_size + size
    return total


def weight_bytes(
    config: ModelConfig,
    precision: Precision,
    distinct_experts: float,
    *,
    vocabulary: Vocabulary = Vocabulary.EXACT,
    self_conditioning: bool = True,
) -> dict[str, float]:
    """Bytes of weights that one denoise step or one autoregressive step reads, by op group.

    Args:
        distinct_experts: experts a layer that the step's tokens are routed to, on average.
        self_conditioning: whether the step tells the next one what it believes.

    Returns:
        attention, router, experts, dense, norms, logits, and for a diffusion model
        self_conditioning: its MLP, which takes a signal of zeros as well, and the embedding table a
        second time (the soft embedding) where beliefs are fed back.
    """
    size, moe, wide = config.hidden_size, config.moe, _WIDE_BYTES[precision]
    layers = [config.attention(kind) for kind in config.layer_types]
    dense, expert = config.dense_hidden_size, moe.hidden_size
    found = {
        "attention": sum(
            _matrix(projection_values(config, a), _outputs(config, a), precision) for a in layers
        ),
        "router": len(layers) * moe.num_experts * (size + 1) * wide,
        "experts": len(layers)
        * distinct_experts
        * _matrix(3 * size * expert, 2 * expert + size, precision),
        "dense": len(layers) * _matrix(3 * size * dense, 2 * dense + size, precision),
        "norms": sum(8 * size + 2 * a.head_dim for a in layers) * wide + size * wide,
        "logits": _table(config, config.vocab_size, precision, vocabulary),
    }
    if config.canvas_length is not None:
        found["self_conditioning"] = (3 * size * dense + size) * wide
        if self_conditioning:
            found["self_conditioning"] += _table(config, size, precision, vocabulary)
    return {name: float(value) for name, value in found.items()}


def stored_bytes(
    config: ModelConfig, precision: Precision, vocabulary: Vocabulary = Vocabulary.EXACT
) -> int:
    """Bytes of weights that a GPU keeps: every expert, and each matrix once in its own width.

    Of the embedding table that is one copy for everything, or beside fp8 products the plain one
    for tokens and those that the products read.
    """
    read = weight_bytes(config, precision, config.moe.num_experts, vocabulary=vocabulary)
    table = config.vocab_size * config.hidden_size * _WIDE_BYTES[precision]
    if vocabulary is Vocabulary.FP8:
        return int(sum(read.values())) + table
    return int(sum(read.values())) - (table if config.canvas_length is not None else 0)


def _table(config: ModelConfig, outputs: int, precision: Precision, vocabulary: Vocabulary) -> int:
    """Bytes of the embedding table as a product with so many output channels reads it."""
    values = config.vocab_size * config.hidden_size
    if vocabulary is Vocabulary.FP8:
        return values + outputs * _SCALE_BYTES
    return values * _WIDE_BYTES[precision]


def projection_values(config: ModelConfig, attention: AttentionConfig) -> int:
    """Values in the query, key, value and output matrices."""
    heads = 2 * config.num_heads + attention.num_kv_heads * (2 - attention.value_is_key)
    return heads * attention.head_dim * config.hidden_size


def _outputs(config: ModelConfig, attention: AttentionConfig) -> int:
    """Output channels of the same matrices."""
    heads = config.num_heads + attention.num_kv_heads * (2 - attention.value_is_key)
    return heads * attention.head_dim + config.hidden_size


def _matrix(values: int, outputs: int, precision: Precision) -> int:
    """Bytes of a matrix that the fp8 recipe quantises."""
    if precision is Precision.FP8:
        return values + outputs * _SCALE_BYTES
    return values * _WIDE_BYTES[precision]
