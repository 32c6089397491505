"""Block-diffusion and autoregressive Gemma 4 models, from scratch in torch.

What an architecture is needs no torch: that is imported with the first name that does.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from model.config import PRESETS, Decoding, ModelConfig, preset

if TYPE_CHECKING:
    from model.loading import LoadedModel, Weights, load
    from model.sampling import DiffusionSampling, EosPolicy, GreedySampling, TraceLevel, generate

__all__ = [
    "PRESETS",
    "Decoding",
    "DiffusionSampling",
    "EosPolicy",
    "GreedySampling",
    "LoadedModel",
    "ModelConfig",
    "TraceLevel",
    "Weights",
    "generate",
    "load",
    "preset",
]

_IN_LOADING = {"LoadedModel", "Weights", "load"}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(
            import_module(f"model.{'loading' if name in _IN_LOADING else 'sampling'}"), name
        )
    raise AttributeError(f"module 'model' has no attribute {name!r}")
