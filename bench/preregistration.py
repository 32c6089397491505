"""What a run promises before its first measurement, hashed so that a later change shows.

run.json holds `preregistration` (metrics, bound, planned n, prompts, exclusions, configurations,
and claims where the run is to judge some) and `preregistration_sha256` from the moment its folder
exists. Runs of older versions have neither.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

HEADLINE_METRICS = (
    "delivered_tok_per_s",
    "decode_tok_per_s",
    "steps_per_canvas_median",
    "steps_per_canvas_p90",
    "accuracy",
    "net_correction",
    "repaired_share",
)
"""What a run may be quoted for; everything else it holds was not declared beforehand."""

EXCLUSIONS: dict[str, str] = {
    "ledger_does_not_sum": "the tokens of an answer do not add up to the canvas slots it took",
    "ledger_does_not_match_canvases": "the slots accounted for are not those of the canvases",
    "steps_do_not_sum": "the denoise steps recorded are not those the requests took part in",
    "stopped_at_an_ignored_eos": "an answer stopped at an end-of-sequence token it was to ignore",
    "entropy_not_finite": "entropies of some steps are NaN or infinite: the model's outputs were "
    "broken, and so may be the work that was timed",
    "scores_not_finite": "scores of some autoregressive tokens are NaN or infinite: the model's "
    "outputs were broken",
    "time_not_finite": "a measured time is NaN or infinite",
    "time_not_positive": "a request took no time by the clock",
    "max_denoising_steps_without_effect": "canvases took more steps than the limit allows",
    "early_stop_without_effect": "canvases stopped early although early_stop was off",
    "canvases_differ_from_the_servers": "the server's counters tell of other canvases than arrived",
    "tokens_differ_from_the_servers": "the server's counters tell of other tokens than arrived",
    "requests_failed": "more than 5 % of the requests had no answer",
    "throttled": "heat or a fault slowed the device down",
    "shared": "another process used the GPU",
    "unknown: uncorrected memory errors": "the GPU's memory had errors it could not correct",
}
"""Reason codes that make a point invalid, in words; it is kept, and left out of summaries.

A condition's code goes on with what was sampled: "throttled: HW_SLOWDOWN in 5 of 60 samples".
"""

_COUNTS = ("processes", "repeats", "prompts")


class State(StrEnum):
    """How a run stands to its preregistration."""

    ABSENT = "not preregistered"
    KEPT = "unchanged since before the first measurement"
    CHANGED = "changed after the start"


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a run's preregistration, and what was changed (empty unless CHANGED)."""

    state: State
    what: str = ""


def preregister(
    configs: Mapping[str, Mapping[str, Any]],
    config_hashes: Mapping[str, str],
    prompts_sha256: str,
    claims: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """The fields of run.json that hold the plan and its hash.

    Args:
        configs, config_hashes: a point's resolved configuration and its hash, by point_id.
        prompts_sha256: of the prompts to ask; several are joined by commas.
        claims: what the run is to judge, each with its name, metric, bound and n.
    """
    from bench.stats import DEFAULT_BOUND  # slow to import, and not needed to verify

    plan = {
        "metrics": list(dict.fromkeys([*HEADLINE_METRICS, *(c["metric"] for c in claims)])),
        "bound": DEFAULT_BOUND,
        "exclusions": list(EXCLUSIONS),
        **({"claims": [dict(claim) for claim in claims]} if claims else {}),
        **_derived(configs, config_hashes, prompts_sha256),
    }
    return {"preregistration": plan, "preregistration_sha256": digest(plan)}


def digest(plan: Mapping[str, Any]) -> str:
    """SHA-256 of a plan in one spelling: sorted keys, no spaces."""
    text = json.dumps(plan, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def standing(info: Mapping[str, Any]) -> Standing:
    """Whether run.json still holds the plan that was hashed, and one its configuration agrees with.

    That both fields were replaced together is noticed where the configuration tells otherwise.
    """
    plan, hashed = info.get("preregistration"), info.get("preregistration_sha256")
    if plan is None and hashed is None:
        return Standing(State.ABSENT)
    if not isinstance(plan, Mapping):
        return Standing(State.CHANGED, "the plan is missing")
    if digest(plan) != hashed:
        return Standing(
            State.CHANGED, f"the plan's hash is {digest(plan)[:12]}, not {hashed!s:.12}"
        )
    try:
        told = _derived(info["config"], info["config_hashes"], info["prompts_sha256"])
    except (KeyError, TypeError, AttributeError):
        return Standing(State.CHANGED, "the configuration it belongs to is missing")
    different = sorted(name for name, value in told.items() if plan.get(name) != value)
    if different:
        return Standing(State.CHANGED, f"{different[0]} is not what the configuration says")
    return Standing(State.KEPT)


def verify(
    info: Mapping[str, Any], config_hashes: Iterable[str] = (), prompts_sha256: Iterable[str] = ()
) -> None:
    """Refuses to go on with a run whose plan was changed; a run without one may go on.

    Args:
        config_hashes, prompts_sha256: of what was measured and is about to be.

    Raises:
        ValueError: the preregistration was changed after the start, or something else is measured.
    """
    found = standing(info)
    if found.state is State.CHANGED:
        raise ValueError(
            f"the run's preregistration was {found.state}: {found.what}; "
            "a changed plan is another run"
        )
    if found.state is State.ABSENT:
        return
    plan = info["preregistration"]
    for name, planned, met in (
        ("configuration", plan["config_hashes"].values(), config_hashes),
        ("prompts", plan["prompts_sha256"].split(","), prompts_sha256),
    ):
        for other in sorted(set(met) - set(planned)):
            raise ValueError(
                f"{name} {other[:12]} is not what the run preregistered "
                f"({', '.join(each[:12] for each in planned)}); a changed plan is another run"
            )


def planned_counts(info: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Processes, repeats and prompts planned, by point_id; empty without a preregistration."""
    plan = info.get("preregistration")
    counts = plan.get("n") if isinstance(plan, Mapping) else None
    return {str(k): dict(v) for k, v in counts.items()} if isinstance(counts, Mapping) else {}


def deviations(info: Mapping[str, Any], measured: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Where what was measured is not what was planned, a sentence each.

    Args:
        measured: a row of `points` by point_id: config_hash, prompts_sha256, num_processes,
            num_repeats, num_prompts; an unknown one is not judged.
    """
    plan = info.get("preregistration")
    if not isinstance(plan, Mapping):
        return []
    planned, hashes = planned_counts(info), plan.get("config_hashes") or {}
    found = [f"{name} was planned and not measured" for name in planned if name not in measured]
    for name, row in measured.items():
        if name not in planned:
            found.append(f"{name} was measured and not planned")
            continue
        if row.get("config_hash") != hashes.get(name):
            found.append(f"{name} was measured with another configuration")
        asked = row.get("prompts_sha256")
        if isinstance(asked, str) and asked not in str(plan.get("prompts_sha256")).split(","):
            found.append(f"{name} was asked other prompts")
        for count in _COUNTS:
            wanted, got = planned[name].get(count), row.get(f"num_{count}")
            if wanted is not None and got is not None and int(got) != wanted:
                found.append(f"{name}: {int(got)} of {wanted} {count}")
    return found


def _derived(
    configs: Mapping[str, Mapping[str, Any]], config_hashes: Mapping[str, str], prompts_sha256: str
) -> dict[str, Any]:
    """The part of a plan that follows from the configuration."""
    return {
        "n": {
            name: {
                "processes": config["measure"]["num_processes"],
                "repeats": config["measure"]["num_repeats"],
                "prompts": config["workload"]["num_prompts"],
            }
            for name, config in configs.items()
        },
        "config_hashes": dict(config_hashes),
        "prompts_sha256": prompts_sha256,
    }
