"""The names and shapes of a checkpoint's tensors, and where each belongs in a model.

Merged matrices (query/key/value, gate/up, all experts) are their parts one below the other: with
leading dimensions flattened, a target's rows are its sources' rows in order.

BF16 checkpoints keep a layer's experts fused in two tensors, the published FP8 ones each expert's
matrices by themselves, with a `weight_scale` [out, 1] beside every e4m3 `weight`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from model.config import ModelConfig

_SKIPPED_PREFIXES = (
    "model.encoder.vision_tower.",
    "model.encoder.embed_vision.",
    "model.vision_tower.",
    "model.embed_vision.",
    "lm_head.",
)

# our norm in a block, the checkpoint's
_LAYER_NORMS = (
    ("input_norm", "input_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("pre_dense_norm", "pre_feedforward_layernorm"),
    ("post_dense_norm", "post_feedforward_layernorm_1"),
    ("pre_experts_norm", "pre_feedforward_layernorm_2"),
    ("post_experts_norm", "post_feedforward_layernorm_2"),
    ("post_feedforward_norm", "post_feedforward_layernorm"),
)


@dataclass(frozen=True, slots=True)
class Layout:
    """How a checkpoint writes a model down.

    Attributes:
        prefix: what text tensors start with (`text_prefixes`).
        per_expert: experts one by one instead of fused.
        fp8: the recipe's matrices in e4m3 with scales.
    """

    prefix: str
    per_expert: bool = False
    fp8: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A tensor of the checkpoint."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """`target`, a tensor of ours, is made of the checkpoint's `sources`.

    Attributes:
        part: the part of the model it belongs to, "embedding" or "blocks.3".
        in_recipe: it is one of the matrices that the fp8 recipe quantises.
    """

    part: str
    target: str
    sources: tuple[Source, ...]
    in_recipe: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor as a safetensors header describes it; `dtype` is BF16 or F8_E4M3."""

    name: str
    shape: tuple[int, ...]
    dtype: str


def text_prefixes(config: ModelConfig) -> tuple[str, ...]:
    """The prefixes text tensors may carry; the first is the released checkpoint's."""
    if config.canvas_length is not None:
        return ("model.decoder.",)
    return ("model.language_model.", "model.")


def is_skipped(name: str) -> bool:
    """Whether a tensor is none of the text model's: the vision tower and the tied lm_head."""
    return name.startswith(_SKIPPED_PREFIXES)


def scale_name(weight: str) -> str:
    """The scale that belongs to an e4m3 weight."""
    return f"{weight}_scale"


def rules(config: ModelConfig, layout: Layout) -> Iterator[Rule]:
    """Every tensor of a model and what a checkpoint makes it of."""
    size, prefix = config.hidden_size, layout.prefix
    embedding = Source(f"{prefix}embed_tokens.weight", (config.vocab_size, size))
    yield Rule("embedding", "weight", (embedding,))
    yield Rule("final_norm", "weight", (Source(f"{prefix}norm.weight", (size,)),))
    for index in range(config.num_layers):
        yield from _layer_rules(config, layout, index)
    if config.canvas_length is not None:
        yield from _self_conditioning_rules(config, prefix)


def _layer_rules(config: ModelConfig, layout: Layout, index: int) -> Iterator[Rule]:
    part, layer = f"blocks.{index}", f"{layout.prefix}layers.{index}."
    size, dense = config.hidden_size, config.dense_hidden_size
    num_experts, expert = config.moe.num_experts, config.moe.hidden_size
    geometry = config.attention(config.layer_types[index])
    head = geometry.head_dim
    q_size, kv_size = config.num_heads * head, geometry.num_kv_heads * head

    def plain(target: str, name: str, *shape: int) -> Rule:
        return Rule(part, target, (Source(layer + name, shape),))

    def matrix(target: str, *sources: tuple[str, int, int]) -> Rule:
        found = [Source(f"{layer}{name}.weight", (rows, cols)) for name, rows, cols in sources]
        return Rule(part, target, tuple(found), in_recipe=True)

    projections = [("q", q_size), ("k", kv_size)]
    if not geometry.value_is_key:
        projections.append(("v", kv_size))
    yield matrix(
        "attention.qkv.weight", *((f"self_attn.{n}_proj", rows, size) for n, rows in projections)
    )
    yield matrix("attention.output.weight", ("self_attn.o_proj", size, q_size))
    yield plain("attention.q_norm.weight", "self_attn.q_norm.weight", head)
    yield plain("attention.k_norm.weight", "self_attn.k_norm.weight", head)
    yield matrix("dense.gate_up.weight", *((f"mlp.{n}_proj", dense, size) for n in ("gate", "up")))
    yield matrix("dense.down.weight", ("mlp.down_proj", size, dense))
    yield plain("router.scale", "router.scale", size)
    yield plain("router.projection.weight", "router.proj.weight", num_experts, size)
    yield plain("router.per_expert_scale", "router.per_expert_scale", num_experts)
    if layout.per_expert:
        each = [f"experts.{e}" for e in range(num_experts)]
        gate_up = [(f"{e}.{n}_proj", expert, size) for e in each for n in ("gate", "up")]
        yield matrix("experts.gate_up", *gate_up)
        yield matrix("experts.down", *((f"{e}.down_proj", size, expert) for e in each))
    else:
        yield plain("experts.gate_up", "experts.gate_up_proj", num_experts, 2 * expert, size)
        yield plain("experts.down", "experts.down_proj", num_experts, size, expert)
    for ours, theirs in _LAYER_NORMS:
        yield plain(f"{ours}.weight", f"{theirs}.weight", size)
    yield plain("layer_scalar", "layer_scalar", 1)
    if config.canvas_length is not None:
        name = f"model.encoder.language_model.layers.{index}.layer_scalar"
        yield Rule(part, "encoder_layer_scalar", (Source(name, (1,)),))


def _self_conditioning_rules(config: ModelConfig, prefix: str) -> Iterator[Rule]:
    size, dense = config.hidden_size, config.dense_hidden_size
    for target, *sources in (
        ("pre_norm.weight", ("pre_norm.weight", size)),
        ("mlp.gate_up.weight", ("gate_proj.weight", dense, size), ("up_proj.weight", dense, size)),
        ("mlp.down.weight", ("down_proj.weight", size, dense)),
    ):
        found = tuple(Source(f"{prefix}self_conditioning.{n}", tuple(s)) for n, *s in sources)
        yield Rule("self_conditioning", target, found)


def entries(config: ModelConfig, layout: Layout) -> Iterator[Entry]:
    """Every tensor of the text model as a released checkpoint of this layout stores it."""
    for rule in rules(config, layout):
        is_fp8 = layout.fp8 and rule.in_recipe
        for source in rule.sources:
            yield Entry(source.name, source.shape, "F8_E4M3" if is_fp8 else "BF16")
            if is_fp8:
                yield Entry(scale_name(source.name), (source.shape[0], 1), "BF16")
