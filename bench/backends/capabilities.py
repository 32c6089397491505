"""What a backend can tell and what it cannot; a metric that needs the latter is None with a reason.

Nothing is approximated: what is missing here is n/a in the report, which prints the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

OF_POSITIONS = (
    "revised_after_accept",
    "argmax_flip_rate",
    "revocations_per_token",
    "net_correction",
)
"""Metrics that need every position of every step."""


class Steps(Enum):
    """How finely denoising steps are known."""

    PER_POSITION = "per_position"
    PER_CANVAS = "per_canvas"
    AGGREGATE = "aggregate"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend gives.

    Attributes:
        device_time: forwards are timed by the device's own clock.
        seeds: contents repeat with the seed.
        step_cap: the cap is one's to set, request by request.
        batch: how many sequences share a forward is one's to set.
        missing: metrics it cannot give, each with the reason.
    """

    steps: Steps
    device_time: bool
    seeds: bool
    step_cap: bool
    batch: bool
    missing: Mapping[str, str] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "steps": self.steps.value,
            "device_time": self.device_time,
            "seeds": self.seeds,
            "step_cap": self.step_cap,
            "batch": self.batch,
            "missing": dict(self.missing),
        }
