"""One run in a history: what was measured, where, and the figures that a series is made of."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from bench.comparison.environment import digest, environment, fingerprint
from bench.comparison.metrics import PEAKS
from bench.comparison.sources import opened
from bench.stats import Better
from bench.store import Run

VERSION = 1
SERIES: dict[str, tuple[str, Better | None]] = {
    **dict.fromkeys(
        (
            "delivered_tok_per_s",
            "decode_tok_per_s",
            "decode_tok_per_s_median",
            "generation_tok_per_s_excl_prefill",
            "slot_tok_per_s",
        ),
        ("tok/s", Better.MORE),
    ),
    **dict.fromkeys(
        ("step_ms", "commit_ms", "fused_ms", "prefill_ms", "decode_ms"), ("ms", Better.LESS)
    ),
    **dict.fromkeys(
        ("first_canvas_s", "canvas_gap_p50_s", "canvas_gap_p95_s", "round_s"), ("s", Better.LESS)
    ),
    **dict.fromkeys(("steps_per_canvas_median", "steps_per_canvas_p90"), ("steps", Better.LESS)),
    "tokens_per_forward_denoise": ("tokens", Better.MORE),
    "cap_rate": ("share", Better.LESS),
    "accuracy": ("share", Better.MORE),
    "net_correction": ("share", Better.MORE),
    "repaired_share": ("share", Better.MORE),
    "host_share": ("share", Better.LESS),
    "joules_per_token": ("J", Better.LESS),
    **dict.fromkeys(PEAKS, ("bytes", Better.LESS)),
    "argmax_flip_rate": ("a step and token", None),
    "revocations_per_token": ("a token", None),
    "revised_after_accept": ("a token", None),
}
"""Columns of `points` that a history keeps, with their unit and which way they improve."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its interval, where there is one."""

    value: float
    lo: float | None
    hi: float | None


@dataclass(frozen=True, slots=True)
class PointEntry:
    """A point of a run; `facts` is its fingerprint in full, `fingerprint` its short name."""

    point_id: str
    config_hash: str
    fingerprint: str
    facts: dict[str, str | None]
    validity: str
    num_processes: int
    figures: dict[str, Figure]


@dataclass(frozen=True, slots=True)
class Entry:
    """A run. `name` begins with when it was made, so that names sort like runs."""

    name: str
    created: str
    commit: str | None
    dirty: str | None
    host: str | None
    points: tuple[PointEntry, ...]

    @property
    def valid_points(self) -> list[PointEntry]:
        return [point for point in self.points if point.validity != "invalid"]

    @property
    def time(self) -> datetime:
        return datetime.fromisoformat(self.created)

    def as_json(self) -> dict[str, Any]:
        """All but the name, which is the file's."""
        plain = asdict(self)
        del plain["name"]
        return {"history_version": VERSION, **plain}


def entry_of(source: str | Path) -> Entry:
    """The entry of a run.

    Args:
        source: a run folder or REV:PATH.

    Raises:
        ValueError: no readable run, one without a finished point, or one that says not when it was
            made.
    """
    with opened(source) as run:
        return _entry(run)


def _entry(run: Run) -> Entry:
    created = _created(run)
    facts = environment(run.info, run.points)
    rows = [{str(k): v for k, v in row.items()} for row in run.points.to_dict("records")]
    made = Entry(
        name="",
        created=created.isoformat(timespec="seconds"),
        commit=facts["commit"],
        dirty=facts["uncommitted changes"],
        host=facts["host"],
        points=tuple(_point(run, row) for row in rows),
    )
    text = json.dumps(made.as_json(), sort_keys=True)
    name = f"{created:%Y%m%dT%H%M%S}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    return Entry(name, *(getattr(made, key) for key in Entry.__dataclass_fields__ if key != "name"))


def _created(run: Run) -> datetime:
    created = run.info.get("created")
    try:
        found = datetime.fromisoformat(str(created))
    except ValueError:
        raise ValueError(
            f"run {run.path} says {created!r} of when it was made; a history needs a date"
        ) from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _point(run: Run, row: Mapping[str, Any]) -> PointEntry:
    facts = fingerprint(run.info, row)
    figures = {}
    for name in SERIES:
        value = _number(row.get(name))
        if value is not None:
            limits = (_number(row.get(f"{name}_{end}")) for end in ("lo", "hi"))
            figures[name] = Figure(value, *limits)
    return PointEntry(
        point_id=str(row["point_id"]),
        config_hash=str(row["config_hash"]),
        fingerprint=digest(facts),
        facts=facts,
        validity=str(row["validity"]),
        num_processes=int(row["num_processes"]),
        figures=figures,
    )


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def parse_entry(name: str, found: Mapping[str, Any]) -> Entry:
    """An entry from its JSON.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    entry = Entry(
        name=name,
        created=str(found["created"]),
        commit=found["commit"],
        dirty=found["dirty"],
        host=found["host"],
        points=tuple(
            PointEntry(
                **{
                    **point,
                    "figures": {key: Figure(**own) for key, own in point["figures"].items()},
                }
            )
            for point in found["points"]
        ),
    )
    _ = entry.time
    return entry
