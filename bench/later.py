"""Options that came when runs had been stored already, and what every run before them did.

At that value an option is left out wherever configurations are hashed or held against each other,
so that a stored run is still the same configuration as a run of today that does the same.
"""

from collections.abc import Mapping
from typing import Any

BEFORE: dict[str, Any] = {
    "commit": "separate",
    "vocabulary": "exact",
    "sampler.self_conditioning": True,
    "sampler.min_belief": 0.0,
}
"""By key, as `canvasbench run` takes it."""
EXACT: dict[str, Any] = {key: BEFORE[key] for key in ("vocabulary", "sampler.min_belief")}
"""Of these the ones at any other value of which a step computes less than the model's own work, and
decides by it. Their columns of `points` are called like the last part of the key; they are unknown
where there is no such option."""


def without_later(config: Mapping[str, Any], within: str = "") -> dict[str, Any]:
    """A resolved configuration, or its part `within`, less later options at what was before them.

    Args:
        within: the part's key with a dot at its end, "sampler."; the whole by default.
    """
    return {
        key: without_later(value, f"{within}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
        if f"{within}{key}" not in BEFORE or value != BEFORE[f"{within}{key}"]
    }
