"""What both arms are asked to measure: the keys of configs/experiment/ab.yaml, and overrides.

They are handed to each arm as overrides, and not as `experiment=ab`: a revision may have another
file of that name, or none.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import yaml


def asked(overrides: Sequence[str]) -> list[str]:
    """Arguments of `canvasbench run` for one arm, without folder and number of processes.

    Args:
        overrides: key=value each; with an experiment among them, the default points are left out.

    Raises:
        ValueError: an override that is none.
    """
    given = dict(_split(each) for each in overrides)
    if "experiment" in given:
        return list(overrides)
    kept = {key: value for key, value in defaults().items() if key not in given}
    return ["-m", *(f"{key}={value}" for key, value in kept.items()), *overrides]


def defaults() -> dict[str, str]:
    """The keys (a.b) of the default points with their values."""
    text = resources.files("configs").joinpath("experiment", "ab.yaml").read_text(encoding="utf-8")
    return dict(_leaves(yaml.safe_load(text)))


def _leaves(found: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


def _split(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals or not key or key.startswith("-"):
        raise ValueError(
            f"{override!r} is unknown; overrides are key=value, as for canvasbench run"
        )
    return key.lstrip("+~"), value
