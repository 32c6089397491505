"""`claims.json` in a run's folder: verdicts with their evidence, which pages are made of.

A page needs neither the claims' files nor the engine, so that a report can be made again anywhere.
The file also remembers how claims came out that were judged before and not this time, so that what
a run preregistered cannot go out of sight.
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
        OSError: the folder cannot be written to; nothing half-written stays.
    """
    try:
        known = _known(_read(run_folder))
    except ValueError:
        known = {}
    shown = {own["claim"]["name"] for own in verdicts}
    before = {name: verdict for name, verdict in known.items() if name not in shown}
    whole = {"version": VERSION, "claims": list(verdicts), "judged_before": before}
    part = run_folder / f"{FILE}.part"
    try:
        part.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        move_into_place(part, run_folder / FILE)
    finally:
        part.unlink(missing_ok=True)


def read_verdicts(run_folder: Path) -> list[Plain]:
    """The verdicts on a run; none where it was not judged.

    Raises:
        ValueError: the file is damaged, or of another version.
    """
    return list(_read(run_folder)["claims"])


def unshown(
    run_folder: Path, info: Mapping[str, Any], verdicts: Sequence[Plain]
) -> dict[str, str | None]:
    """Claims that the run preregistered and `verdicts` leave out, in the plan's order.

    Returns:
        How each came out when it was last judged; None where it never was.

    Raises:
        ValueError: the file of verdicts is damaged, or of another version.
    """
    plan = info.get("preregistration")
    promised = plan.get("claims") or [] if isinstance(plan, Mapping) else []
    known, shown = _known(_read(run_folder)), {own["claim"]["name"] for own in verdicts}
    return {p["name"]: known.get(p["name"]) for p in promised if p["name"] not in shown}


def _known(found: Mapping[str, Any]) -> dict[str, str]:
    """Every verdict that a file holds, by the claim's name."""
    own = {each["claim"]["name"]: str(each["verdict"]) for each in found["claims"]}
    return {**found.get("judged_before", {}), **own}


def _read(run_folder: Path) -> Mapping[str, Any]:
    path = run_folder / FILE
    if not path.exists():
        return {"claims": []}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    version = found.get("version") if isinstance(found, dict) else None
    if version != VERSION:
        raise ValueError(f"{path} is of version {version}; this is version {VERSION}: judge again")
    assert isinstance(found, dict)
    return found
