"""Plays generations of a run back, canvas by canvas and step by step; no torch."""

from bench.replay.command import replay
from bench.replay.data import Clock, Generation, Replay, Sibling
from bench.replay.gather import replayable
from bench.replay.page import replay_page
from bench.replay.terminal import print_generation

__all__ = [
    "Clock",
    "Generation",
    "Replay",
    "Sibling",
    "print_generation",
    "replay",
    "replay_page",
    "replayable",
]
