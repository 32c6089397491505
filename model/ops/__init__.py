"""The operations of a step, chosen once at construction.

`reference` is plain torch and the specification; `torch` computes the same with fused torch calls,
`triton` with kernels of our own. A model never asks which one it has.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor

from model.ops import reference, torch_native


@dataclass(frozen=True, slots=True)
class Ops:
    """A table of callables; `model.ops.reference` states each one's contract.

    Attributes:
        sample: its last result is what the model's `Embedding.soft` takes: `sample_scaled` stands
            here for a model that multiplies with the vocabulary in fp8 (`model.vocabulary`).
    """

    name: str
    rms_norm: Callable[[Tensor, Tensor | None, float], Tensor]
    rms_norms: Callable[..., list[Tensor]]
    add_rms_norm: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    qkv_norm_rope: Callable[..., tuple[Tensor, Tensor, Tensor]]
    attention: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
    gated_gelu: Callable[[Tensor], Tensor]
    route: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]
    experts: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
    softcap: Callable[[Tensor, float], Tensor]
    sample: Callable[[Tensor, float, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, Any]]
    sample_scaled: Callable[
        [Tensor, float, Tensor, Tensor], tuple[Tensor, Tensor, Tensor, reference.ScaledRows]
    ]
    settle: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]]
    soft_embedding: Callable[[Tensor, Tensor, Tensor], Tensor]


def _table(name: str, module: object) -> Ops:
    names = [field.name for field in fields(Ops) if field.name != "name"]
    return Ops(name, *(getattr(module, each) for each in names))


OPS = ("reference", "torch", "triton")


def make_ops(name: str) -> Ops:
    """The operations called `name`.

    Raises:
        ValueError: no such table, or one that needs a package which is missing.
    """
    if name not in OPS:
        raise ValueError(f"kernels {name!r} are unknown; valid: {', '.join(OPS)}")
    if name == "reference":
        return _table(name, reference)
    if name == "torch":
        return _table(name, torch_native)
    try:
        from model.kernels import ops as kernels
    except ImportError as error:
        raise ValueError(
            f"kernels 'triton' need the package triton ({error}); valid here: reference, torch"
        ) from error
    return _table(name, kernels)
