"""What both arms are asked to measure: the keys of configs/experiment/ab.yaml, and overrides.

They are handed to each arm as overrides, and not as `experiment=ab`: a revision may have another
file of that name, or none.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Any

import yaml

_CONTENTS = {
    "workload.num_prompts": "150",
    "measure.num_processes": "1",
    "measure.num_repeats": "1",
    "measure.min_warmup_prompts": "0",
    "measure.max_warmup_prompts": "0",
}


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


def asked_of_contents(overrides: Sequence[str]) -> list[str] | None:
    """The same for contents alone, of more prompts: one process that answers each once.

    Pairs of processes repeat contents exactly, so only other prompts tell more of them. Measured
    on the tiny diffusion model in fp32: a commit with 4 % more steps changed 1 of 38 canvases of 32
    prompts; over 150 prompts they were +3.98 % (95 %: +2.42 to +5.55).

    Returns:
        None where the overrides themselves say which prompts are asked.

    Raises:
        ValueError: an override that is none.
    """
    given = dict(_split(each) for each in overrides)
    if not given.keys().isdisjoint(("experiment", "workload", "workload.num_prompts")):
        return None
    kept = [each for each in asked(overrides) if _key(each) not in _CONTENTS]
    return [*kept, *(f"{key}={value}" for key, value in _CONTENTS.items())]


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


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def _split(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals or not key or key.startswith("-"):
        raise ValueError(
            f"{override!r} is unknown; overrides are key=value, as for canvasbench run"
        )
    return key.lstrip("+~"), value
