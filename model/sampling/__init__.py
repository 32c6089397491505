"""Sampling: the generation loop, its events, its noise and its policies."""

from model.sampling.autoregressive import GreedySampling
from model.sampling.block_diffusion import DiffusionSampling
from model.sampling.events import (
    BlockDelivered,
    CanvasTrace,
    Event,
    FinishReason,
    Phase,
    RowDelivery,
    StepDone,
    StopReason,
    TokenTrace,
)
from model.sampling.loop import EosPolicy, TraceLevel, check_request, generate
from model.sampling.noise import (
    CanvasNoise,
    NoiseSource,
    RecordedNoise,
    SeededNoise,
    StartingFrom,
)

__all__ = [
    "BlockDelivered",
    "CanvasNoise",
    "CanvasTrace",
    "DiffusionSampling",
    "EosPolicy",
    "Event",
    "FinishReason",
    "GreedySampling",
    "NoiseSource",
    "Phase",
    "RecordedNoise",
    "RowDelivery",
    "SeededNoise",
    "StartingFrom",
    "StepDone",
    "StopReason",
    "TokenTrace",
    "TraceLevel",
    "check_request",
    "generate",
]
