"""Whether a model fits a device: weights, keys and values, canvases, and what is left.

The same arithmetic as the harness's own refusal (`bench.memory`), without torch: what a model's
dimensions imply is counted (`projected`), what its libraries take is `assumed`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.procurement.cell import Cell, NumberClass, weakest

LIBRARY_BYTES = 3 << 30
"""Context, libraries' work space and a prefill's activations on a GPU; assumed."""
_KV_VALUE_BYTES = 2  # bf16, also beside fp8 products
_SCORE_BYTES = 2 * (
    2 + 2
)  # scores and probabilities in bf16, in a graph's memory and outside of it
_LEAST_SLOTS = 256


@dataclass(frozen=True, slots=True)
class LayerKind:
    """Layers of one attention type; `window` is None where every position is kept."""

    layers: int
    kv_heads: int
    head_dim: int
    window: int | None


@dataclass(frozen=True, slots=True)
class MemoryShape:
    """Of a model, what its memory depends on (`bench.procurement.work.memory_shape`).

    Attributes:
        canvas_length: None for an autoregressive model.
        weight_bytes: by precision, as a GPU keeps them.
    """

    model: str
    canvas_length: int | None
    vocab_size: int
    max_positions: int
    layers: tuple[LayerKind, ...]
    weight_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MemoryFit:
    """Bytes of one model at one batch and context on one device.

    Attributes:
        canvas_bytes: scores and probabilities of the open canvases.
        library_bytes: beside the model.
        head_room_bytes: what is left; negative where it does not fit.
    """

    weights_bytes: Cell
    kv_bytes: Cell
    canvas_bytes: Cell
    library_bytes: Cell
    memory_bytes: Cell
    head_room_bytes: Cell

    @property
    def fits(self) -> bool:
        assert self.head_room_bytes.value is not None
        return self.head_room_bytes.value >= 0


def memory_fit(
    shape: MemoryShape,
    precision: str,
    *,
    batch_size: int,
    context_tokens: int,
    reply_tokens: int,
    memory_bytes: float,
    source: str = "data sheet",
) -> MemoryFit:
    """What a batch takes whose every row has so long a prompt and so long a reply.

    Args:
        context_tokens: of a prompt.
        memory_bytes: of the device.
        source: where that stands.

    Raises:
        ValueError: an unknown precision, or a batch or length below one.
    """
    if precision not in shape.weight_bytes:
        valid = ", ".join(shape.weight_bytes)
        raise ValueError(f"precision {precision!r} is unknown; valid: {valid}")
    for name, given in (
        ("batch_size", batch_size),
        ("context_tokens", context_tokens),
        ("reply_tokens", reply_tokens),
    ):
        if given < 1:
            raise ValueError(f"{name} {given} must be at least 1")
    canvas = shape.canvas_length or 1
    positions = context_tokens + reply_tokens + canvas
    parts = {
        "weights_bytes": _counted(shape.weight_bytes[precision], f"weights in {precision}"),
        "kv_bytes": _counted(
            kv_bytes(shape, batch_size, positions), "keys and values of prompt, reply and canvas"
        ),
        "canvas_bytes": _counted(
            batch_size * canvas * shape.vocab_size * _SCORE_BYTES,
            "scores and probabilities of the open canvases",
        ),
        "library_bytes": Cell(
            LIBRARY_BYTES,
            None,
            None,
            NumberClass.ASSUMED,
            "B",
            "context, libraries and activations",
        ),
    }
    kind = weakest(cell.kind for cell in parts.values())
    total = sum(cell.value for cell in parts.values() if cell.value is not None)
    has = Cell(memory_bytes, None, None, NumberClass.PUBLISHED, "B", "of the device", source)
    return MemoryFit(
        **parts,
        memory_bytes=has,
        head_room_bytes=Cell(
            memory_bytes - total, None, None, kind, "B", "memory of the device less all of it"
        ),
    )


def kv_bytes(shape: MemoryShape, batch_size: int, positions: int) -> int:
    """Keys and values of a cache for so many positions a row, as `model.kv_cache` allocates it.

    A sliding layer keeps its window and a canvas; sizes are rounded up by less than a quarter, and
    every ring has a slot to spare.
    """
    step = max(_LEAST_SLOTS, 1 << max(0, positions.bit_length() - 3))
    slots = max(positions, min(-(-positions // step) * step, shape.max_positions))
    per_row = 0
    for kind in shape.layers:
        kept = slots
        if kind.window is not None:
            kept = min(slots, kind.window - 1 + (shape.canvas_length or 1))
        per_row += kind.layers * 2 * kind.kv_heads * kind.head_dim * (kept + 1)
    return batch_size * per_row * _KV_VALUE_BYTES


def _counted(value: float, definition: str) -> Cell:
    return Cell(value, None, None, NumberClass.PROJECTED, "B", definition, "counted from the model")
