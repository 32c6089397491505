"""A profile's folder: `profile.json`, the trace, the panes as parquet, and `profile.html`.

    results/profiles/<timestamp>-<point>/
        profile.json                          what was profiled, where, and every forward of it
        trace/profile.<time>.pt.trace.json.gz TensorBoard and Perfetto open it
        breakdown.parquet, operators.parquet  and the other panes (`bench.profile.panes`)
        profile.html

It is no run folder: nothing in it is a measurement of speed, and no command takes it for one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.profile.panes import Panes, make_panes
from bench.profile.trace import Trace, find_trace, read_trace

SCHEMA_VERSION = 1
PROFILES = Path("results") / "profiles"
TRACE = "trace"
_INFO = "profile.json"
_NEEDED = ("point_id", "forwards", "floors", "kernel_groups", "on_gpu")


@dataclass(frozen=True, slots=True)
class Profile:
    """A profile that was recorded: `info` is profile.json."""

    path: Path
    info: Mapping[str, Any]
    trace: Trace
    panes: Panes

    @property
    def device(self) -> str:
        machine = self.info.get("machine") or {}
        device = str(machine.get("device") or "unknown device")
        if device == "cpu" and machine.get("cpu"):
            return f"{machine['cpu']}, {machine.get('threads', '?')} threads"
        return device

    @property
    def date(self) -> str:
        return str(self.info.get("created") or "")[:10] or "undated"

    @property
    def name(self) -> str:
        return str(self.info["point_id"])


def create(path: Path) -> Path:
    """A new, empty folder.

    Raises:
        ValueError: it cannot be made, or something is in it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        full = any(path.iterdir())
    except OSError as error:
        raise ValueError(f"{path} cannot be made a folder: {error.strerror}") from error
    if full:
        raise ValueError(f"{path} is not empty; a profile is written to a folder of its own")
    return path


def write_info(path: Path, info: Mapping[str, Any]) -> None:
    """Writes profile.json whole or not at all."""
    part = path / f"{_INFO}.part"
    plain = {"kind": "profile", "schema_version": SCHEMA_VERSION, **info}
    part.write_text(json.dumps(plain, indent=2) + "\n")
    part.replace(path / _INFO)


def write_panes(profile: Profile) -> None:
    """Writes every pane that has rows as a parquet file."""
    for name, table in profile.panes.tables().items():
        part = profile.path / f"{name}.parquet.part"
        table.to_parquet(part, index=False)
        part.replace(profile.path / f"{name}.parquet")


def open_profile(path: Path) -> Profile:
    """Reads a folder and makes its panes, from the trace alone and what was noted beside it.

    Raises:
        ValueError: no profile folder, a damaged or foreign file, or one of a future version.
    """
    info_path = path / _INFO
    try:
        info = json.loads(info_path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError(f"{path} is no profile folder: it has no {_INFO}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{info_path} is damaged: {error}") from error
    except OSError as error:
        raise ValueError(f"{info_path} cannot be read: {error.strerror}") from error
    _check(info_path, info)
    trace = read_trace(find_trace(path / TRACE))
    try:
        panes = make_panes(trace, info)
    except (KeyError, TypeError) as error:
        raise ValueError(f"{info_path} is damaged: {type(error).__name__} {error}") from error
    return Profile(path, info, trace, panes)


def _check(path: Path, info: Any) -> None:
    if not isinstance(info, dict) or info.get("kind") != "profile":
        raise ValueError(f"{path} was not written by canvasbench profile")
    version = info.get("schema_version")
    if not isinstance(version, int) or version > SCHEMA_VERSION:
        raise ValueError(
            f"{path} has schema version {version!r}; this canvasbench reads up to {SCHEMA_VERSION}"
        )
    missing = [name for name in _NEEDED if name not in info]
    if missing:
        raise ValueError(f"{path} is damaged: it lacks {missing[0]!r}")
