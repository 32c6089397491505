"""Histories of many runs from one made run: its entry with other dates, figures and machines."""

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from bench.comparison import digest
from bench.history.entry import Entry, Figure, entry_of

BEGIN = datetime(2026, 9, 1, 12, tzinfo=UTC)
METRIC = "delivered_tok_per_s"


def noisy(levels: Sequence[float], seed: int = 0, spread: float = 0.01) -> list[float]:
    """Levels with the noise of a quiet machine."""
    drawn = np.random.default_rng(seed).normal(0, spread, len(levels))
    return [float(level * np.exp(noise)) for level, noise in zip(levels, drawn, strict=True)]


def history_of(
    folder: Path, entry: Entry, values: Sequence[float], drivers: Sequence[str] = ()
) -> list[Entry]:
    """A history of a day a run: `values` of delivered tok/s, under these drivers."""
    made = []
    for day, value in enumerate(values):
        (point,) = entry.points
        facts = point.facts | ({"driver": drivers[day]} if drivers else {})
        figure = Figure(value, 0.99 * value, 1.01 * value)
        created = BEGIN + timedelta(days=day)
        made.append(
            replace(
                entry,
                name=f"{created:%Y%m%dT%H%M%S}-{day:08x}",
                created=created.isoformat(timespec="seconds"),
                commit=f"{day:040x}",
                points=(
                    replace(
                        point,
                        facts=facts,
                        fingerprint=digest(facts),
                        figures=point.figures | {METRIC: figure},
                    ),
                ),
            )
        )
    folder.mkdir(parents=True, exist_ok=True)
    for each in made:
        (folder / f"{each.name}.json").write_text(json.dumps(each.as_json()) + "\n")
    return made


__all__ = ["METRIC", "entry_of", "history_of", "noisy"]
