"""What limits the numbers of a run, in words: stands below the headline, before any number."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bench.preregistration import EXCLUSIONS, State, deviations, standing
from bench.report.served import changed_servers
from bench.report.style import plural
from bench.report.view import View

_NEXT_CODE = re.compile(rf", (?=(?:{'|'.join(EXCLUSIONS)})(?:[:,]|$))")
"""Where a validity_reason goes on to its next code; what a machine did may hold commas itself."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that limits what the numbers mean; a `serious` one changes how to read them."""

    title: str
    text: str
    serious: bool = False


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
    if any(p.dummy for p in view.points):
        found.append(Notice("Dummy weights", _dummy_text(view), True))
    if view.one_process:
        found.append(
            Notice(
                "Screening",
                "One process a point, so there is no between-process interval. Any interval shown "
                "is within that process and too narrow to decide a comparison; "
                "measure=publish uses fresh processes.",
            )
        )
    if view.emulated:
        found.append(
            Notice(
                "Emulated precision",
                "This CPU computes its matrix products in fp32; bf16 and fp8 mean storage and "
                "rounding. Ratios between precisions say nothing about GPUs. Steps, revisions and "
                "accuracy keep their meaning.",
            )
        )
    failures = len(view.tables["failures"])
    if failures:
        found.append(Notice("Failures", f"{plural(failures, 'failure')} recorded; listed below."))
    return found


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
            text = (
                f"{said[0].upper()}{said[1:]}. It is left out of the headline, of every "
                "comparison and of every plot; the tables show it in grey."
            )
            found.append(Notice(f"Invalid point: {point.name}", text, True))
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


def _dummy_text(view: View) -> str:
    text = "Random weights: they measure speed at a shape and tell nothing about "
    text += "steps, acceptance, accuracy, self-correction or repair; "
    text += "those sections are left out." if view.dummy else "such points are left out of those."
    forced = {p.count("max_denoising_steps") for p in view.diffusion if p.dummy}
    if counts := " or ".join(str(n) for n in sorted(n for n in forced if n)):
        text += f" Diffusion took {counts} denoise steps a canvas because it was told to."
    return text
