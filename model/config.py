"""Architecture: frozen dataclasses and the presets. The numbers of every model live here, once.

Sampling knobs are not architecture: see `model.sampling`. What a checkpoint's config.json says is
checked against these presets by `model.checkpoint`.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum


class Decoding(StrEnum):
    """How a model turns a prompt into text."""

    DIFFUSION = "diffusion"
    AUTOREGRESSIVE = "autoregressive"


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionConfig:
    """One attention type; `window` is None for full attention.

    `rotary_fraction` of the head dims rotate. With `value_is_key` there is no value projection: the
    value is the raw key projection.
    """

    num_kv_heads: int
    head_dim: int
    rope_theta: float
    rotary_fraction: float = 1.0
    window: int | None = None
    value_is_key: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class MoEConfig:
    """The routed half of the feed-forward: `top_k` of `num_experts` gated MLPs a token."""

    num_experts: int
    top_k: int
    hidden_size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One model. `canvas_length` is set for diffusion models and None for autoregressive ones."""

    name: str
    vocab_size: int
    hidden_size: int
    num_heads: int
    layer_types: tuple[str, ...]
    sliding: AttentionConfig
    full: AttentionConfig
    dense_hidden_size: int
    moe: MoEConfig
    canvas_length: int | None
    max_positions: int
    eos_token_ids: tuple[int, ...]
    pad_token_id: int = 0
    bos_token_id: int = 2
    final_logit_softcap: float = 30.0
    rms_norm_eps: float = 1e-6
    sibling: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.layer_types) - {"sliding", "full"})
        if unknown:
            raise ValueError(f"layer type {unknown[0]!r} is unknown; valid: sliding, full")
        if self.sliding.window is None or self.full.window is not None:
            raise ValueError("sliding layers need a window and full layers have none")
        for kind in ("sliding", "full"):
            if self.num_heads % self.attention(kind).num_kv_heads:
                raise ValueError(
                    f"{self.num_heads} heads cannot share "
                    f"{self.attention(kind).num_kv_heads} KV heads of the {kind} layers"
                )
        if self.moe.top_k > self.moe.num_experts:
            raise ValueError(f"top_k {self.moe.top_k} exceeds {self.moe.num_experts} experts")

    @property
    def decoding(self) -> Decoding:
        """diffusion where there is a canvas, else autoregressive."""
        return Decoding.AUTOREGRESSIVE if self.canvas_length is None else Decoding.DIFFUSION

    @property
    def num_layers(self) -> int:
        return len(self.layer_types)

    def attention(self, layer_type: str) -> AttentionConfig:
        """The attention geometry of a layer type."""
        return self.sliding if layer_type == "sliding" else self.full


def _five_to_one(num_layers: int) -> tuple[str, ...]:
    """Five sliding layers, then a full one, repeated; the released models' pattern."""
    return tuple("full" if i % 6 == 5 else "sliding" for i in range(num_layers))


_DIFFUSION_26B = ModelConfig(
    name="diffusiongemma-26b-a4b",
    sibling="gemma-4-26b-a4b",
    vocab_size=262_144,
    hidden_size=2816,
    num_heads=16,
    layer_types=_five_to_one(30),
    sliding=AttentionConfig(num_kv_heads=8, head_dim=256, rope_theta=1e4, window=1024),
    full=AttentionConfig(
        num_kv_heads=2, head_dim=512, rope_theta=1e6, rotary_fraction=0.25, value_is_key=True
    ),
    dense_hidden_size=2112,
    moe=MoEConfig(num_experts=128, top_k=8, hidden_size=704),
    canvas_length=256,
    max_positions=262_144,
    eos_token_ids=(1, 106, 50),
)

# The released architecture at 1.4 M parameters: same layer pattern, same ratio of window to canvas.
_DIFFUSION_TINY = ModelConfig(
    name="tiny-diffusion",
    sibling="tiny-autoregressive",
    vocab_size=64,
    hidden_size=128,
    num_heads=4,
    layer_types=_five_to_one(6),
    sliding=AttentionConfig(num_kv_heads=2, head_dim=32, rope_theta=1e4, window=128),
    full=AttentionConfig(
        num_kv_heads=1, head_dim=64, rope_theta=1e6, rotary_fraction=0.25, value_is_key=True
    ),
    dense_hidden_size=192,
    moe=MoEConfig(num_experts=8, top_k=2, hidden_size=32),
    canvas_length=32,
    max_positions=512,
    eos_token_ids=(1,),
)

# About 50 M parameters with the released canvas: large enough that a step is arithmetic, not
# overhead.
_DIFFUSION_MINI = ModelConfig(
    name="mini-diffusion",
    sibling="mini-autoregressive",
    vocab_size=8192,
    hidden_size=512,
    num_heads=8,
    layer_types=_five_to_one(12),
    sliding=AttentionConfig(num_kv_heads=4, head_dim=64, rope_theta=1e4, window=1024),
    full=AttentionConfig(
        num_kv_heads=2, head_dim=128, rope_theta=1e6, rotary_fraction=0.25, value_is_key=True
    ),
    dense_hidden_size=512,
    moe=MoEConfig(num_experts=16, top_k=4, hidden_size=96),
    canvas_length=256,
    max_positions=8192,
    eos_token_ids=(1,),
)


def _with_siblings(*diffusion: ModelConfig) -> dict[str, ModelConfig]:
    presets = {}
    for config in diffusion:
        presets[config.name] = config
        presets[config.sibling] = replace(
            config, name=config.sibling, sibling=config.name, canvas_length=None
        )
    return presets


PRESETS = _with_siblings(_DIFFUSION_26B, _DIFFUSION_TINY, _DIFFUSION_MINI)


def preset(name: str) -> ModelConfig:
    """The preset called `name`.

    Raises:
        ValueError: no such preset; the message lists them.
    """
    if name not in PRESETS:
        raise ValueError(f"model {name!r} is unknown; valid: {', '.join(PRESETS)}")
    return PRESETS[name]
