"""Where the numbers of a run come from, and what it had promised to measure."""

from collections.abc import Mapping
from typing import Any

from bench.digits import NOT_AVAILABLE
from bench.preregistration import State, deviations, planned_counts, standing
from bench.report.notices import measured_rows
from bench.report.style import percent_text, plural
from bench.report.view import View, as_number


def provenance(view: View) -> list[tuple[str, str]]:
    """Where the numbers come from, as (name, value) rows; unknown values say so."""
    info = view.info
    machine, git = _mapping(info, "machine"), _mapping(info, "git")
    states: dict[object, str] = {True: ", with uncommitted changes", False: ", clean"}
    dirty = states.get(git.get("dirty"), "")
    rows: list[tuple[str, Any]] = [
        ("created", info.get("created")),
        ("command", info.get("command")),
        ("configuration hash", info.get("config_hash")),
        ("code", f"{git['commit']}{dirty}" if git.get("commit") else None),
        ("state", _state(info)),
        ("run time", f"{info['wall_s']:,.0f} s" if info.get("wall_s") else None),
        ("device", view.device),
        ("CPU", _cpu(machine)),
        ("driver", machine.get("driver")),
        ("CUDA", machine.get("cuda")),
        ("Python", machine.get("python")),
        ("torch", machine.get("torch")),
        ("packages", ", ".join(f"{k} {v}" for k, v in _mapping(info, "packages").items())),
        ("prompts sha256", info.get("prompts_sha256")),
    ]
    rows += _plan(view)
    for name, weights in _mapping(info, "weights").items():
        described = weights.values() if isinstance(weights, Mapping) else [weights]
        rows.append((f"weights of {name}", ", ".join(str(part) for part in described if part)))
    schema = info.get("schema_version")
    rows.append(("schema version", schema))
    return [(name, NOT_AVAILABLE if value in (None, "") else str(value)) for name, value in rows]


def _plan(view: View) -> list[tuple[str, Any]]:
    """The preregistration, and n as planned against n as measured."""
    kept = standing(view.info)
    if kept.state is State.ABSENT:
        return [("preregistration", str(kept.state))]
    plan = _mapping(view.info, "preregistration")
    remark = f"{kept.state}: {kept.what}" if kept.what else str(kept.state)
    differing = deviations(view.info, measured_rows(view))
    return [
        ("preregistration sha256", f"{view.info.get('preregistration_sha256')} ({remark})"),
        ("declared metrics", ", ".join(map(str, plan.get("metrics") or ()))),
        ("bound", f"{percent_text(as_number(plan.get('bound')))} relative change"),
        ("planned n", _planned(view.info)),
        ("measured n", "; ".join(differing) or "as planned"),
        ("exclusions", ", ".join(map(str, plan.get("exclusions") or ()))),
    ]


def _planned(info: Mapping[str, Any]) -> str:
    """Points that plan the same share a phrase."""
    points: dict[str, list[str]] = {}
    for point_id, counts in planned_counts(info).items():
        nouns = {"processes": "process", "repeats": "repeat", "prompts": "prompt"}
        words = [plural(counts[name], noun) for name, noun in nouns.items() if name in counts]
        points.setdefault(", ".join(words), []).append(point_id)
    if len(points) == 1:
        return f"{next(iter(points))} a point"
    return "; ".join(f"{', '.join(ids)}: {words}" for words, ids in points.items())


def _mapping(info: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = info.get(name)
    return value if isinstance(value, Mapping) else {}


def _state(info: Mapping[str, Any]) -> str | None:
    if info.get("interrupted"):
        return "interrupted"
    return (
        {True: "finished", False: "unfinished"}.get(info["finished"])
        if "finished" in info
        else None
    )


def _cpu(machine: Mapping[str, Any]) -> str | None:
    if not machine.get("cpu"):
        return None
    memory = machine.get("memory_bytes")
    parts = [
        str(machine["cpu"]),
        f"{machine['cores']} cores" if machine.get("cores") else "",
        f"{machine['threads']} threads" if machine.get("threads") else "",
        f"{memory / 2**30:.1f} GiB" if memory else "",
    ]
    return ", ".join(part for part in parts if part)
