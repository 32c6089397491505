"""Where a run was made, as facts that can be held against another run's, and their fingerprint.

A time means something only where it was measured. So two runs' environments are compared before any
number, and a series of numbers over time is one of a single fingerprint: another driver, CUDA,
torch or device starts a new series.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from bench.later import BEFORE, without_later

MACHINE = ("device", "driver", "cuda", "torch", "cpu", "cores", "threads")
"""Facts of a machine; with what is run (`_WORK`) they make the fingerprint."""

_WORK = (
    "decoding",
    "precision",
    "emulated",
    "kernels",
    "execution",
    "backend",
    "model",
    "weights",
    "weights_sha256",
    "workload",
    "prompts_sha256",
    "max_new_tokens",
    "eos_policy",
    "batch_size",
    "max_denoising_steps",
    "early_stop",
    "trace",
)
"""Columns of `points`: what a machine was asked to do."""


_OPTIONS = {"commit_mode": BEFORE["commit"], "vocabulary": BEFORE["vocabulary"]}
"""Columns of options that came later, at what every run before did: there they start no series."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact in which two runs or two configurations differ; unknown is None."""

    name: str
    baseline: str | None
    candidate: str | None

    def __str__(self) -> str:
        return f"{self.name}: {_told(self.baseline)} -> {_told(self.candidate)}"


def _told(value: str | None) -> str:
    return "unknown" if value is None else value


def environment(info: Mapping[str, Any], points: pd.DataFrame) -> dict[str, str | None]:
    """The facts of a run by name; what its points differ in is joined by commas.

    Args:
        info: run.json.
        points: the table of that name, or some of its rows.
    """
    git, machine = _mapping(info.get("git")), _mapping(info.get("machine"))
    facts = {
        "backend": _column(points, "backend"),
        "server": _column(points, "server"),
        "commit": _column(points, "commit") or git.get("commit"),
        "uncommitted changes": _column(points, "dirty") or git.get("dirty"),
        "host": _column(points, "host") or info.get("host"),
        **{name: _column(points, name) or machine.get(name) for name in MACHINE},
        "python": machine.get("python"),
        "weights": _column(points, "weights_sha256") or _column(points, "weights"),
        "prompts": _column(points, "prompts_sha256") or info.get("prompts_sha256"),
        "schema": info.get("schema_version"),
    }
    return {name: None if value is None else str(value) for name, value in facts.items()}


def differences(
    baseline: Mapping[str, str | None], candidate: Mapping[str, str | None]
) -> tuple[Difference, ...]:
    """Facts in which two runs differ, in the order of the facts."""
    names = dict.fromkeys([*baseline, *candidate])
    return tuple(
        Difference(name, baseline.get(name), candidate.get(name))
        for name in names
        if baseline.get(name) != candidate.get(name)
    )


def fingerprint(info: Mapping[str, Any], point: Mapping[str, Any]) -> dict[str, str | None]:
    """What must be the same for two measurements of a point to belong to one series.

    The machine's kind and versions and what it was asked to do; not the host, the commit or the
    Python version. `digest` makes a short name of it.

    Args:
        info: run.json.
        point: a row of `points`.
    """
    facts = environment(info, pd.DataFrame([dict(point)]))
    config = _mapping(_mapping(info.get("config")).get(str(point.get("point_id"))))
    sampler = without_later(config)["sampler"] if config.get("sampler") is not None else None
    options = {name: _known(point.get(name)) for name in _OPTIONS}
    return {
        **{name: facts[name] for name in MACHINE},
        **{name: _known(point.get(name)) for name in _WORK},
        **{n: told for n, told in options.items() if told not in (None, _OPTIONS[n])},
        "sampler": None if sampler is None else json.dumps(sampler, sort_keys=True),
    }


def digest(facts: Mapping[str, str | None]) -> str:
    """Twelve hexadecimal digits of a fingerprint."""
    text = json.dumps(dict(facts), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def config_differences(
    baseline: Mapping[str, Any], candidate: Mapping[str, Any]
) -> tuple[Difference, ...]:
    """Keys (a.b.c) in which two resolved configurations differ.

    Options that a run did not have yet are what they were then.
    """
    ours, theirs = _with_later(candidate), _with_later(baseline)
    return tuple(
        Difference(key, theirs.get(key), ours.get(key))
        for key in dict.fromkeys([*theirs, *ours])
        if theirs.get(key) != ours.get(key)
    )


def _with_later(config: Mapping[str, Any]) -> dict[str, str]:
    found = dict(_leaves(config))
    for key, value in BEFORE.items():
        part = key.rpartition(".")[0]
        if config.get(part) if part else config:
            found.setdefault(key, json.dumps(value))
    return found


def _leaves(config: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", json.dumps(value)


def _column(points: pd.DataFrame, name: str) -> str | None:
    """A column's known values, each once."""
    if name not in points:
        return None
    known = sorted({str(value) for value in points[name].dropna()})
    return ",".join(known) or None


def _known(value: Any) -> str | None:
    return None if value is None or pd.isna(value) else str(value)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
