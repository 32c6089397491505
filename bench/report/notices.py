"""What limits the numbers of a run, in words: stands below the headline, before any number."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.preregistration import EXCLUSIONS, State, deviations, standing
from bench.report.served import changed_servers
from bench.report.style import plural
from bench.report.view import Point, Run, View
from bench.telemetry import Condition, reason_names
from bench.telemetry.conditions import CAP

_NEXT_CODE = re.compile(rf", (?=(?:{'|'.join(EXCLUSIONS)})(?:[:,]|$))")
"""Where a validity_reason goes on to its next code; what a machine did may hold commas itself."""

_LIMITED = re.compile(
    rf"((?:{'|'.join(reason_names(CAP))})\b[^;]*?) in (\d+) of (\d+) samples", re.IGNORECASE
)
"""What a window's reason says of a power limit (`bench.telemetry.verdict`)."""

_NAMED = 4
"""Points that a notice names; it counts the rest."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that limits what the numbers mean.

    Attributes:
        lead: what a reader must know; all that a terminal has room for.
        serious: it changes how to read the numbers.
        more: what else a page says of it.
    """

    title: str
    lead: str
    serious: bool = False
    more: str = ""

    @property
    def text(self) -> str:
        return f"{self.lead} {self.more}".rstrip()


def limits_of(run: Run) -> dict[str, str]:
    """What a verdict on a run has to say beside it: every notice's lead by its title."""
    return {notice.title: notice.lead for notice in notices(View.of(run))}


def notices(view: View) -> list[Notice]:
    """Every limit of this run a reader has to know before quoting a number, the gravest first."""
    found = [*_validity(view), *_plan(view)]
    found += [Notice("The server changed", text, True) for text in changed_servers(view)]
    if view.simulated:
        text = "No model ran: these are numbers of a simulation, made to test the harness."
        found.append(Notice("Simulated", text, True))
    configs = (view.info.get("config") or {}).values()
    if any(isinstance(config, dict) and config.get("rehearsal") for config in configs):
        text = "A large experiment at a size for a processor: its speeds stand for nothing."
        found.append(Notice("Rehearsal", text, True))
    found += [*_random_weights(view), *_shared(view), *_limited(view)]
    if view.one_process:
        found.append(
            Notice(
                "Screening",
                "One process a point, so there is no between-process interval.",
                more="Any interval shown is within that process and too narrow to decide a "
                "comparison; measure=publish uses fresh processes.",
            )
        )
    if view.emulated:
        found.append(
            Notice(
                "Emulated precision",
                "This CPU computes its matrix products in fp32; bf16 and fp8 mean storage and "
                "rounding.",
                more="Ratios between precisions say nothing about GPUs. Steps, revisions and "
                "accuracy keep their meaning.",
            )
        )
    return [*found, *_code(view), *_failures(view)]


def reason_in_words(reason: str) -> str:
    """A point's validity_reason as a reader would say it, each code behind its words."""
    said = []
    for part in _NEXT_CODE.split(reason) if reason else ():
        words = next((w for code, w in EXCLUSIONS.items() if f"{part}:".startswith(f"{code}:")), "")
        said.append(f"{words} ({part})" if words else part)
    return "; ".join(said)


def measured_rows(view: View) -> Mapping[str, Mapping[str, Any]]:
    """The run's points as `bench.preregistration.deviations` reads them."""
    counts = ("num_processes", "num_repeats", "num_prompts")
    return {
        p.point_id: {
            "config_hash": p.text("config_hash"),
            "prompts_sha256": p.text("prompts_sha256") or None,
            **{name: p.count(name) for name in counts},
        }
        for p in view.points
    }


def _validity(view: View) -> list[Notice]:
    found = []
    for point in view.points:
        reason = point.text("validity_reason")
        if not point.usable:
            said = reason_in_words(reason) or "no reason given"
            more = (
                "It is left out of the headline, of every comparison and of every plot; the tables "
                "show it in grey."
            )
            lead = f"{said[0].upper()}{said[1:]}."
            found.append(Notice(f"Invalid point: {point.name}", lead, True, more))
        elif point.text("validity") == "low_validity":
            found.append(Notice(f"Low validity: {point.name}", f"{reason or 'no reason given'}."))
    return found


def _plan(view: View) -> list[Notice]:
    found = []
    unfinished = view.info.get("finished") is False or bool(view.info.get("interrupted"))
    if unfinished:
        text = "The run stopped early; points that are missing were planned."
        found.append(Notice("Unfinished", text, True))
    kept = standing(view.info)
    if kept.state is State.CHANGED:
        text = (
            f"What this run was to measure was {kept.state}: {kept.what}. Its plan is no promise."
        )
        found.append(Notice("Preregistration changed", text, True))
    elif not unfinished and (differing := deviations(view.info, measured_rows(view))):
        found.append(Notice("Not as planned", f"{'; '.join(differing)}.", True))
    return found


def _random_weights(view: View) -> list[Notice]:
    random = [p for p in view.points if p.dummy]
    if not random:
        return []
    lead = "They measure speed at a shape and tell nothing about steps, acceptance, accuracy, "
    lead += "self-correction or repair."
    more = "Those sections are left out." if view.dummy else "Such points are left out of those."
    forced = {p.count("max_denoising_steps") for p in random if p.is_diffusion}
    if counts := " or ".join(str(n) for n in sorted(n for n in forced if n)):
        more += f" Diffusion took {counts} denoise steps a canvas because it was told to."
    title = "Random weights" if view.dummy else f"Random weights: {_named(random)}"
    return [Notice(title, lead, True, more)]


def _shared(view: View) -> list[Notice]:
    """Others on the machine while a point was timed; where that made it invalid, that says it."""
    shared = [p for p in view.points if p.usable and p.text("condition") == Condition.SHARED]
    if not shared:
        return []
    reasons = (p.text("condition_reason") or "no reason given" for p in shared[:_NAMED])
    what = "; ".join(f"{p.name}: {reason}" for p, reason in zip(shared, reasons, strict=False))
    beyond = f"; and {len(shared) - _NAMED} more" if len(shared) > _NAMED else ""
    lead = f"Others worked on it while points were timed ({what}{beyond})."
    more = "Such speeds may be too low, by a share that differs from point to point."
    return [Notice("Shared machine", lead, True, more)]


def _limited(view: View) -> list[Notice]:
    """Points whose clocks a power limit held down in most samples of their timed windows."""
    said = [
        f"{point.name}: {text}"
        for point in view.points
        if point.usable and (text := _power_limit(view, point))
    ]
    if not said:
        return []
    beyond = f"; and {len(said) - _NAMED} more" if len(said) > _NAMED else ""
    lead = (
        "The device lowered its clocks to stay within its power in most samples "
        f"({'; '.join(said[:_NAMED])}{beyond})."
    )
    more = (
        "Their speeds hold at this limit; a ratio to a point that was not held down is partly the "
        "limit's."
    )
    return [Notice("Power limit", lead, True, more)]


def _power_limit(view: View, point: Point) -> str:
    """sw_power_cap in 71 of 71 samples, 695 of 700 W; "" where at most half were limited."""
    windows = view.table("windows", "point_id", "condition_reason", "num_samples")
    own = windows[windows["point_id"] == point.point_id]
    reasons = list(own["condition_reason"]) or [point.text("condition_reason")]
    found = [match for reason in reasons if (match := _LIMITED.search(str(reason)))]
    limited = sum(int(match[2]) for match in found)
    total = int(own["num_samples"].sum()) or sum(int(match[3]) for match in found)
    if 2 * limited <= total:
        return ""
    watts = [point.number(name) for name in ("power_mean_w", "power_limit_w")]
    power = "" if None in watts else f", {watts[0]:.0f} of {watts[1]:.0f} W"
    return f"{found[0][1].lower()} in {limited} of {total} samples{power}"


def _code(view: View) -> list[Notice]:
    """Points measured by code that no commit names; nothing where a run does not tell of code."""
    if "git" not in view.info:
        return []
    found = []
    if changed := [p for p in view.points if p.flag("dirty")]:
        lead = f"The code that measured differs from its commit ({_named(changed)})."
        found.append(Notice("Uncommitted code", lead))
    if unknown := [p for p in view.points if not p.text("commit")]:
        lead = f"It is not known which code measured ({_named(unknown)})."
        found.append(Notice("Unknown code", lead))
    return found


def _failures(view: View) -> list[Notice]:
    """Processes that failed; a run is only finished once other attempts have measured all of it."""
    count = len(view.tables["failures"])
    if not count:
        return []
    good = ", and made good by a later attempt" if view.info.get("finished") is True else ""
    return [Notice("Failures", f"{plural(count, 'failure')} recorded{good}.", more="Listed below.")]


def _named(points: Sequence[Point]) -> str:
    beyond = f" and {len(points) - _NAMED} more" if len(points) > _NAMED else ""
    return ", ".join(p.name for p in points[:_NAMED]) + beyond
