"""Block-diffusion and autoregressive Gemma 4 models, from scratch in torch."""

from model.config import PRESETS, Decoding, ModelConfig, preset
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
