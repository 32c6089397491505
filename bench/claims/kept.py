"""`claims.json` in a run's folder: verdicts with their evidence, which pages are made of.

A page needs neither the claims' files nor the engine, so that a report can be made again anywhere.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.parquet import move_into_place

FILE = "claims.json"
VERSION = 1

Plain = Mapping[str, Any]


def write_verdicts(run_folder: Path, verdicts: Sequence[Plain]) -> None:
    """Replaces the verdicts of a run.

    Raises:
        OSError: the folder cannot be written to.
    """
    part = run_folder / f"{FILE}.part"
    whole = {"version": VERSION, "claims": list(verdicts)}
    part.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    move_into_place(part, run_folder / FILE)


def read_verdicts(run_folder: Path) -> list[Plain]:
    """The verdicts on a run; none where it was not judged.

    Raises:
        ValueError: the file is damaged, or of another version.
    """
    path = run_folder / FILE
    if not path.exists():
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    version = found.get("version") if isinstance(found, dict) else None
    if version != VERSION:
        raise ValueError(f"{path} is of version {version}; this is version {VERSION}: judge again")
    return list(found["claims"])
