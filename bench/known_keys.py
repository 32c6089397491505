"""The keys that a run's configuration may have, from its dataclasses; what a wrong one means."""

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from bench.schema import (
    BACKENDS,
    LAUNCHERS,
    WORKLOADS,
    BlockDiffusionConfig,
    GreedyConfig,
    MeasureConfig,
    RunConfig,
    WorkloadConfig,
)

GROUPS: dict[str, Mapping[str, type[Any]]] = {
    "sampler": {"block_diffusion": BlockDiffusionConfig, "greedy": GreedyConfig},
    "workload": {"tiny": WorkloadConfig, **WORKLOADS},
    "measure": {"screening": MeasureConfig},
    "launcher": LAUNCHERS,
    "backend": BACKENDS,
}
"""Groups of keys: for every schema that one may have, a choice that has it."""


def suggestion(key: str) -> str:
    """What follows "key K is unknown": the one probably meant, the choices that have it, or the
    keys that there are in its place."""
    group, _, name = key.partition(".")
    nested = {
        own: {
            field.name: f"{own}.{field.name}" for each in choices.values() for field in fields(each)
        }
        for own, choices in GROUPS.items()
    }
    if name and group in nested:
        having = [f"{group}={c}" for c, each in GROUPS[group].items() if _has(each, name)]
        if having:
            return f" here; {' or '.join(having)} has it"
        valid = nested[group]
        return _closest(name, valid, valid)
    valid = {field.name: field.name for field in fields(RunConfig)}
    return _closest(key, ChainMap(valid, *nested.values()), valid)


def _has(schema: type[Any], name: str) -> bool:
    return name in {field.name for field in fields(schema)}


def _closest(name: str, known: Mapping[str, str], valid: Mapping[str, str]) -> str:
    close = get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {known[close[0]]!r}?"
    return f"; valid: {', '.join(valid.values())}"
