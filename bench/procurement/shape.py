"""A model's dimensions as plain data, for what knows neither torch nor the model."""

from bench.procurement.memory_fit import LayerKind, MemoryShape
from model import ModelConfig, preset
from model.cost import weight_bytes
from model.precision import Precision


def memory_shape(name: str) -> MemoryShape:
    """Of a preset.

    Raises:
        ValueError: no such preset; the message lists them.
    """
    config = preset(name)
    return MemoryShape(
        model=name,
        canvas_length=config.canvas_length,
        vocab_size=config.vocab_size,
        max_positions=config.max_positions,
        layers=tuple(
            LayerKind(
                config.layer_types.count(kind),
                config.attention(kind).num_kv_heads,
                config.attention(kind).head_dim,
                config.attention(kind).window,
            )
            for kind in dict.fromkeys(config.layer_types)
        ),
        weight_bytes={str(precision): _kept(config, precision) for precision in Precision},
    )


def _kept(config: ModelConfig, precision: Precision) -> int:
    """Every expert, and each matrix once: the embedding table is read two times a step."""
    read = weight_bytes(config, precision, config.moe.num_experts)
    twice = read["logits"] if config.canvas_length is not None else 0
    return int(sum(read.values()) - twice)
