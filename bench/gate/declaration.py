"""The gate file: what must not get worse, by how much, where, and from how much data.

It is written before the runs it judges, and its hash is printed with every decision, so that a
gate that was changed to let a change pass shows. Only metrics it names decide.

    name: the tiny pair on the build machine
    metrics:
      delivered_tok_per_s: {bound: 0.05}
      step_ms: {bound: 0.03}
      peak_rss_bytes: {bound: 0.05}
      steps_per_canvas: {bound: 0.01}
      accuracy: {bound: 0.02}
    points: [diffusion-bf16, autoregressive-bf16]   # all that both runs have, if left out
    min_processes: 8
    on_ambiguous: fail                              # fail | warn | pass
    may_differ: [driver]                            # facts of the machine; host; config
    baseline: baselines/build-machine               # used where no A is given
    aa: baselines/build-machine-aa.json             # recorded A/A pairs by metric
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from bench.comparison.environment import MACHINE
from bench.comparison.metrics import METRICS
from bench.preregistration import digest
from bench.stats import MIN_PAIRS, MIN_PROCESSES, check_bound
from bench.yaml_files import read_yaml

HOST, CONFIG = "host", "config"
_KEYS = (
    "name",
    "metrics",
    "points",
    "min_processes",
    "min_prompts",
    "on_ambiguous",
    "may_differ",
    "baseline",
    "aa",
)


class OnAmbiguous(StrEnum):
    """What an AMBIGUOUS metric does to the gate; INSUFFICIENT_DATA never passes."""

    FAIL = "fail"
    WARN = "warn"
    PASS = "pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate file, checked.

    Attributes:
        bounds: by metric: a relative change, or a difference for a share.
        points: point ids; None is all that both runs have.
        may_differ: facts of `bench.comparison.environment.MACHINE`, or `host`, that need not be the
            same for a time to be judged; `config` where a point's configuration need not.
        baseline, aa: as the file says, relative to its folder.
        sha256: of the file's content in one spelling, whatever its comments and its order.
    """

    name: str
    bounds: Mapping[str, float]
    points: tuple[str, ...] | None
    min_processes: int
    min_prompts: int
    on_ambiguous: OnAmbiguous
    may_differ: tuple[str, ...]
    sha256: str
    baseline: str | None = None
    aa: Mapping[str, tuple[float, ...]] = field(default_factory=dict)


def read_gate(path: Path, expected_sha256: str | None = None) -> Gate:
    """A gate file.

    Args:
        expected_sha256: of the gate that was agreed on, or the beginning of it.

    Raises:
        ValueError: it cannot be read, a key is missing, unknown, wrong or there twice, another gate
            was agreed on, or a bound is tighter than what the recorded A/A pairs could detect.
    """
    document = _mapping(path, read_yaml(path, "gate"))
    unknown = [key for key in document if key not in _KEYS]
    if unknown:
        raise ValueError(f"gate {path}: key {unknown[0]!r} is unknown; valid: {', '.join(_KEYS)}")
    sha256 = digest(document)
    if expected_sha256 is not None and not sha256.startswith(expected_sha256.lower()):
        raise ValueError(
            f"gate {path} has the hash {sha256}, not {expected_sha256}: it was changed after it"
            " was agreed on"
        )
    bounds = _bounds(path, document.get("metrics"))
    gate = Gate(
        name=str(document.get("name", path.stem)),
        bounds=bounds,
        points=_names(path, "points", document.get("points")),
        min_processes=_count(path, document, "min_processes", MIN_PROCESSES),
        min_prompts=_count(path, document, "min_prompts", MIN_PAIRS),
        on_ambiguous=_policy(path, document.get("on_ambiguous", OnAmbiguous.FAIL.value)),
        may_differ=_may_differ(path, document.get("may_differ")),
        sha256=sha256,
        baseline=_beside(path, document.get("baseline")),
        aa=_aa(path, document.get("aa")),
    )
    _refuse_tight(path, gate)
    return gate


def _mapping(path: Path, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise ValueError(f"gate {path} holds no mapping of names")
    return found


def _bounds(path: Path, found: Any) -> dict[str, float]:
    if not isinstance(found, dict) or not found:
        raise ValueError(f"gate {path}: metrics must name at least one metric with its bound")
    bounds = {}
    for name, given in found.items():
        if name not in METRICS:
            raise ValueError(
                f"gate {path}: metric {name!r} is unknown; valid: {', '.join(METRICS)}"
            )
        bound = given.get("bound") if isinstance(given, dict) and set(given) == {"bound"} else None
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not 0 < bound < 1:
            raise ValueError(
                f"gate {path}: metric {name} is {given!r}; it must be"
                " {bound: SHARE} with a share above 0 and below 1"
            )
        bounds[name] = float(bound)
    return bounds


def _names(path: Path, key: str, found: Any) -> tuple[str, ...] | None:
    if found is None:
        return None
    if not isinstance(found, list) or not found or not all(isinstance(n, str) for n in found):
        raise ValueError(f"gate {path}: {key} is {found!r}; it must be a list of names")
    return tuple(found)


def _count(path: Path, document: Mapping[str, Any], key: str, least: int) -> int:
    found = document.get(key, least)
    if isinstance(found, bool) or not isinstance(found, int) or found < least:
        raise ValueError(f"gate {path}: {key} is {found!r}; it must be at least {least}")
    return found


def _policy(path: Path, found: Any) -> OnAmbiguous:
    if found not in list(OnAmbiguous):
        raise ValueError(f"gate {path}: on_ambiguous is {found!r}; valid: {', '.join(OnAmbiguous)}")
    return OnAmbiguous(found)


def _may_differ(path: Path, found: Any) -> tuple[str, ...]:
    names = _names(path, "may_differ", found) or ()
    valid = (*MACHINE, HOST, CONFIG)
    for name in names:
        if name not in valid:
            raise ValueError(f"gate {path}: may_differ names {name!r}; valid: {', '.join(valid)}")
    return names


def _beside(path: Path, found: Any) -> str | None:
    if found is None:
        return None
    if not isinstance(found, str):
        raise ValueError(f"gate {path}: baseline is {found!r}; it must be a run folder or REV:PATH")
    stored = path.parent / found
    return str(stored) if stored.exists() else found


def _aa(path: Path, found: Any) -> dict[str, tuple[float, ...]]:
    """Log-ratios of recorded A/A pairs by metric."""
    if found is None:
        return {}
    stored = path.parent / str(found)
    try:
        recorded = json.loads(stored.read_text(encoding="utf-8"))
        return {
            str(name): tuple(float(value) for value in values)
            for name, values in recorded["log_ratios"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"gate {path}: aa {stored} is no recording of A/A pairs ({error}); it must be JSON with"
            " log_ratios by metric"
        ) from error


def _refuse_tight(path: Path, gate: Gate) -> None:
    for name, log_ratios in gate.aa.items():
        if name in gate.bounds:
            try:
                check_bound(gate.bounds[name], log_ratios, gate.min_processes)
            except ValueError as error:
                raise ValueError(f"gate {path}: {name}: {error}") from error
