"""What a model holds, and what forwards of the released pair move and compute.

The one module here that imports the model. That loads torch, so a command imports it late and hands
its functions on.
"""

from bench.procurement.memory_fit import LayerKind, MemoryShape
from bench.roofline import Group
from model import PRESETS, ModelConfig, preset
from model.cost import weight_bytes
from model.precision import Precision
from model.work import ForwardKind, forward_work

_DIFFUSION = PRESETS["diffusiongemma-26b-a4b"]


def released_work(
    decoding: str,
    kind: ForwardKind,
    precision: str,
    *,
    context: int,
    batch_size: int = 1,
    new_tokens: int | None = None,
) -> list[Group]:
    """Op groups of one forward, with as many experts touched as uniform routing would touch.

    Args:
        context: cached positions of every row.
        new_tokens: positions a row; needed for a prefill.

    Raises:
        ValueError: a precision or a kind that the model does not have.
    """
    config = _DIFFUSION if decoding == "diffusion" else PRESETS[_DIFFUSION.sibling]
    return list(
        forward_work(
            config,
            kind,
            Precision(precision),
            context=context,
            batch_size=batch_size,
            new_tokens=new_tokens,
        )
    )


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
