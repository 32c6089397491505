"""Two profiles against each other: which op groups take longer, the largest change first.

Forwards are paired by phase, a denoise step with a decode step where only one of the two has it.
A change is weighed by how often the first profile had that forward, so a group's sum is what the
second one adds to the same request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

import pandas as pd

from bench.profile.folder import Profile
from bench.profile.names import MAIN_PHASES, MERGED_GROUPS, PHASES

_CERTAINTY = 2.0  # standard errors
GAP = "nothing ran"
_COMPARED = ("step_groups", "operators", "kernels", "gaps")
_FACTS = ("model", "decoding", "precision", "kernels", "executed", "batch_size", "threads")


@dataclass(frozen=True, slots=True)
class ProfileDiff:
    """What changed from one profile to the other.

    Attributes:
        groups: a row an op group: milliseconds of the request before and after, `change_ms`,
            `noise_ms` (two standard errors over the forwards, None where one has a single one),
            `clear` (the change is larger than that) and `mostly`, what changed most in it.
        phases: the same a phase and op group, a forward.
        facts: what is not the same of what was profiled: name, before, after.
        total_before_ms, total_after_ms: of all groups.
    """

    before: Profile
    after: Profile
    groups: pd.DataFrame
    phases: pd.DataFrame
    facts: tuple[tuple[str, str, str], ...]
    total_before_ms: float
    total_after_ms: float


def diff_profiles(before: Profile, after: Profile) -> ProfileDiff:
    """Compares two profiles of any two points.

    Raises:
        ValueError: they share no phase.
    """
    before, after = _same_groups(before, after)
    pairs = _pairs(before, after)
    if not pairs:
        raise ValueError(f"{before.path} and {after.path} have no phase in common")
    phases = pd.concat([_phase(before, after, *pair) for pair in pairs], ignore_index=True)
    groups = _groups(phases)
    return ProfileDiff(
        before=before,
        after=after,
        groups=groups,
        phases=phases.drop(columns=["variance"]),
        facts=(*_facts(before.info, after.info), *_alone(before, after, pairs)),
        total_before_ms=float(groups["before_ms"].sum()),
        total_after_ms=float(groups["after_ms"].sum()),
    )


def _same_groups(before: Profile, after: Profile) -> tuple[Profile, Profile]:
    """Both with op groups that run as one in either of them as one."""
    used = {group for p in (before, after) for group in p.panes.step_groups["op_group"]}
    names = {part: one for one, parts in MERGED_GROUPS.items() if one in used for part in parts}
    return _renamed(before, names), _renamed(after, names)


def _renamed(profile: Profile, names: Mapping[str, str]) -> Profile:
    tables = {name: getattr(profile.panes, name) for name in _COMPARED}
    merged = {
        name: table.assign(op_group=table["op_group"].replace(names))
        for name, table in tables.items()
    }
    return replace(profile, panes=replace(profile.panes, **merged))


def _pairs(before: Profile, after: Profile) -> list[tuple[str, str]]:
    """Phases of the first with those of the second that stand against them."""
    own, other = (list(p.panes.steps["phase"].unique()) for p in (before, after))
    pairs = [(phase, phase) for phase in PHASES if phase in own and phase in other]
    main = [[p for p in MAIN_PHASES if p in phases] for phases in (own, other)]
    if main[0] and main[1] and main[0] != main[1]:
        pairs.insert(0, (main[0][0], main[1][0]))
    return pairs


def _alone(
    before: Profile, after: Profile, pairs: Sequence[tuple[str, str]]
) -> list[tuple[str, str, str]]:
    """Phases of one profile that nothing of the other stands against: they are in no difference."""
    paired = [set(phases) for phases in zip(*pairs, strict=True)]
    left = [
        ", ".join(phase for phase in PHASES if phase in own - known)
        for own, known in zip(
            (set(p.panes.steps["phase"]) for p in (before, after)), paired, strict=True
        )
    ]
    return [("forwards not compared", left[0] or "none", left[1] or "none")] if any(left) else []


def _phase(before: Profile, after: Profile, own: str, other: str) -> pd.DataFrame:
    """A row an op group of one pair of phases."""
    first, second = _samples(before, own), _samples(after, other)
    forwards = len(first)
    rows = []
    for group in sorted(set(first.columns) | set(second.columns)):
        sides = [s.get(group, pd.Series(0.0, index=s.index)) for s in (first, second)]
        before_ms, after_ms = (float(side.mean()) for side in sides)
        variance = sum(float(side.var(ddof=1)) / len(side) for side in sides)
        known = all(len(side) > 1 for side in sides)
        rows.append(
            {
                "phase": own if own == other else f"{own} / {other}",
                "op_group": group,
                "forwards": forwards,
                "before_ms": before_ms,
                "after_ms": after_ms,
                "change_ms": after_ms - before_ms,
                "variance": variance if known else None,
                "mostly": _mostly(before, after, own, other, str(group)),
            }
        )
    return pd.DataFrame(rows).sort_values("change_ms", ascending=False, key=abs)


def _samples(profile: Profile, phase: str) -> pd.DataFrame:
    """Milliseconds by forward (rows) and op group (columns)."""
    steps, own = profile.panes.steps, profile.panes.step_groups
    own = own[own["phase"] == phase].assign(total_ms=lambda t: t["busy_ms"] + t["gap_ms"])
    wide = own.pivot_table(index="number", columns="op_group", values="total_ms", aggfunc="sum")
    return wide.reindex(steps[steps["phase"] == phase]["number"]).fillna(0.0)


def _mostly(before: Profile, after: Profile, own: str, other: str, group: str) -> str:
    """The operation, or the time in which nothing ran, that changed most in a group."""
    first, second = _inside(before, own, group), _inside(after, other, group)
    names = sorted(first.keys() | second.keys())
    changes = {name: second.get(name, 0.0) - first.get(name, 0.0) for name in names}
    return max(changes, key=lambda name: abs(changes[name]), default="")


def _inside(profile: Profile, phase: str, group: str) -> dict[str, float]:
    on_gpu = bool(profile.info["on_gpu"])
    table = profile.panes.kernels if on_gpu else profile.panes.operators
    name, time = ("kernel", "kernel_ms") if on_gpu else ("operator", "self_ms")
    own = table[(table["phase"] == phase) & (table["op_group"] == group)]
    gaps = profile.panes.gaps
    gap_ms = gaps[(gaps["phase"] == phase) & (gaps["op_group"] == group)]["gap_ms"].sum()
    sums = own.groupby(name)[time].sum()
    return {str(each): float(value) for each, value in sums.items()} | {GAP: float(gap_ms)}


def _groups(phases: pd.DataFrame) -> pd.DataFrame:
    """Op groups over the first profile's request, what became slower first."""
    rows = []
    for group, own in phases.groupby("op_group"):
        weight = own["forwards"]
        change_ms = float((own["change_ms"] * weight).sum())
        known = own.dropna(subset=["variance"])
        variance = (known["variance"].astype(float) * known["forwards"] ** 2).sum()
        noise_ms = _CERTAINTY * sqrt(variance) if len(known) else None
        largest = int((own["change_ms"] * weight).abs().to_numpy().argmax())
        rows.append(
            {
                "op_group": str(group),
                "before_ms": float((own["before_ms"] * weight).sum()),
                "after_ms": float((own["after_ms"] * weight).sum()),
                "change_ms": change_ms,
                "noise_ms": noise_ms,
                "clear": None if noise_ms is None else abs(change_ms) > noise_ms,
                "mostly": str(own["mostly"].iloc[largest]),
            }
        )
    found = pd.DataFrame(rows).sort_values("change_ms", ascending=False, ignore_index=True)
    return found


def _facts(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """What of the points and machines is not the same."""
    sides = [_flat(info) for info in (before, after)]
    names = [name for name in sides[0] if sides[0][name] != sides[1][name]]
    return [(name, sides[0][name], sides[1][name]) for name in names]


def _flat(info: Mapping[str, Any]) -> dict[str, str]:
    machine, git = info.get("machine") or {}, info.get("git") or {}
    own = {name: info.get(name) for name in _FACTS} | {
        "device": machine.get("device"),
        "processor": machine.get("cpu"),
        "torch": machine.get("torch"),
        "commit": git.get("commit"),
        "uncommitted changes": git.get("dirty"),
    }
    return {name: "n/a" if value is None else str(value) for name, value in own.items()}
