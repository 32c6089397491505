"""A backend without a model: it replays recorded runs, or made-up ones, on a clock of choice.

So the whole harness can be tested without a model, with faults where they are wanted. It needs no
torch. What it measures is a simulation's: its rows say device `simulated`.
"""

from bench.backends.simulated.clocks import VirtualClock
from bench.backends.simulated.config import SimulatedConfig, simulated_session
from bench.backends.simulated.pace import ChosenTiming
from bench.backends.simulated.recording import Recording
from bench.backends.simulated.runs import read_recording
from bench.backends.simulated.session import Knobs, SimulatedSession
from bench.backends.simulated.synthetic import SyntheticConfig, make_recording

__all__ = [
    "ChosenTiming",
    "Knobs",
    "Recording",
    "SimulatedConfig",
    "SimulatedSession",
    "SyntheticConfig",
    "VirtualClock",
    "make_recording",
    "read_recording",
    "simulated_session",
]
