"""A point's row, summarised from its tables alone, so that it can be made again at any time.

Times use every process and repeat; contents (steps, revisions, answers) the first, as the others
repeat it exactly. From two processes on, intervals of rates and of times of a forward are between
processes (`bench.stats.process_interval`); with one they are within it, resampled by prompt.
"""

from typing import Any

import numpy as np
import pandas as pd

from bench.conditions import faults, machine_row
from bench.metrics import (
    RATES,
    REFERENCES,
    audit,
    few_failed,
    first_repeat,
    inert_knobs,
    many_failed,
    request_times,
    system_rate,
)
from bench.phases import COMMITTING, FUSED, TIMED
from bench.runtime import forwards_by_phase
from bench.stats import (
    Interval,
    process_interval,
    process_means,
    quantile_interval,
    ratio_interval,
    share_interval,
)

_LOW_VALIDITY_SHARE = 0.05
_CLIENTS_OWN = (
    "temperature_begin_c",
    "temperature_end_c",
    "sm_clock_mean_mhz",
    "power_mean_w",
    "power_limit_w",
    "joules_per_token",
    "delivered_tok_per_s_per_w",
)
"""Readings of the machine that asks, which are none of the server's."""
CONTENT = (
    "accuracy",
    "empty_share",
    "truncated_share",
    "steps_per_canvas_median",
    "steps_per_canvas_p90",
    "cap_rate",
    "converged_rate",
    "tokens_per_forward_denoise",
    "tokens_per_forward_all",
    "slots_per_forward",
    "canvas_fill",
    "argmax_flip_rate",
    "flips_after_accept_per_token",
    "revocations_per_token",
    "monotone_share",
    "revised_after_accept",
    "revised_direct_edit",
    "revised_revoke_rewrite",
    "return_rate",
    "never_accepted_share",
    "idle_tail_mean",
    "net_correction",
    "correction_n",
)
"""What random weights cannot tell: their tokens and step counts are nobody's answer."""

Row = dict[str, Any]
Tables = dict[str, pd.DataFrame]


def point_row(tables: Tables, knobs: Row) -> Row:
    """The point's row of `points`.

    Args:
        tables: requests, canvases, steps, repairs, experts, windows, failed_requests and loads of
            this point alone.
        knobs: what the point was configured with, named like columns.
    """
    requests, steps = tables["requests"], tables["steps"]
    row = dict(knobs) | _counts(requests, tables["failed_requests"])
    row["distinct_experts_per_layer"] = _distinct_experts(tables["experts"], "denoise", "decode")
    row["fused_distinct_experts_per_layer"] = _distinct_experts(tables["experts"], FUSED)
    if len(requests):
        first = first_repeat(requests)
        row |= _speed(requests, tables["canvases"], steps)
        row |= _system(requests, tables["windows"])
        row |= machine_row(tables["windows"], requests)
        row |= _outcomes(first)
        row |= _contents(tables, first, knobs)
        row |= _passes(first, first_repeat(steps), knobs)
    if len(tables["loads"]):
        row |= _served(tables, knobs)
    row |= _validity(tables, row, knobs)
    return _without_content(row) if knobs.get("weights") == "dummy" else row


def _counts(requests: pd.DataFrame, failed: pd.DataFrame) -> Row:
    """n at every level; prompts, repeats and processes of failed requests count as well."""
    keys = ["process_id", "repeat", "request_id"]
    asked = pd.concat([requests[keys], failed[keys]])
    return {
        "num_processes": asked["process_id"].nunique(),
        "num_repeats": asked["repeat"].nunique(),
        "num_prompts": asked["request_id"].nunique(),
        "num_requests": len(requests),
    }


def _contents(tables: Tables, first: pd.DataFrame, knobs: Row) -> Row:
    """Steps, revisions, corrections and repairs of the first repeat."""
    forwards = first_repeat(tables["steps"])
    if knobs["decoding"] != "diffusion":
        delivered = float(first["delivered_tokens"].sum())
        per_forward = delivered / len(forwards) if len(forwards) else None
        return _no_revision() | {"tokens_per_forward_all": per_forward}
    content = first_repeat(tables["canvases"])
    return (
        _work(first, content, forwards, knobs)
        | _revision(content)
        | _correction(first)
        | _repair(tables["repairs"])
    )


def _served(tables: Tables, knobs: Row) -> Row:
    """What is known of a server's load as a whole; nothing of its client where that is elsewhere.

    A step cap that the server's counters could not be held against is unknown.
    """
    loads = tables["loads"]
    found: Row = {"failed_requests": len(tables["failed_requests"])}
    if not knobs.get("launched"):
        found |= dict.fromkeys(_CLIENTS_OWN)
    counted = loads[["server_canvases", "server_denoise_steps"]]
    if counted.notna().all(axis=None):
        canvases, steps = (int(counted[name].sum()) for name in counted)
        return found | {
            "server_canvases": canvases,
            "server_steps_per_canvas": steps / canvases if canvases else None,
        }
    return found | dict.fromkeys(("max_denoising_steps", "early_stop"))


def _system(requests: pd.DataFrame, windows: pd.DataFrame) -> Row:
    """Tokens of all requests together a second; one value a process, so no interval with one."""
    name = "system_tok_per_s"
    sums = system_rate(requests, windows)
    value = _ratio(sums["tokens"], sums["window_s"])
    rates = (sums["tokens"] / sums["window_s"]).to_numpy(dtype=float)
    if value is None or len(rates) < 2 or not (rates > 0).all():
        return _estimate(name, value, None)
    return _estimate(name, value, process_interval(rates))


def _without_content(row: Row) -> Row:
    """The row with its content metrics and their intervals unknown."""
    unknown = {f"{name}{end}" for name in CONTENT for end in ("", "_lo", "_hi")}
    return {name: None if name in unknown else value for name, value in row.items()}


def _estimate(name: str, value: float | None, interval: Interval) -> Row:
    low, high = interval or (None, None)
    return {name: value, f"{name}_lo": low, f"{name}_hi": high}


def _ratio(numerator: pd.Series, denominator: pd.Series) -> float | None:
    """Sum over sum; None when there is nothing to divide by."""
    bottom = float(denominator.sum())
    return float(numerator.sum()) / bottom if bottom > 0 else None


def _speed(requests: pd.DataFrame, canvases: pd.DataFrame, steps: pd.DataFrame) -> Row:
    ids = requests[["request_id", "process_id"]]
    times = request_times(requests).assign(**ids)
    row: Row = {}
    for name, (top, bottom) in RATES.items():
        known = times[[top, bottom, *ids]].dropna()
        row |= _rate(name, known[top], known[bottom], known["request_id"], known["process_id"])
    rates = (times["decode_tokens"] / times["decode_s"]).dropna()
    row |= _quantile("decode_tok_per_s_median", rates.to_numpy(), 0.5)
    by_process = rates.groupby(times["process_id"]).median()
    if len(by_process) > 1:
        between = process_interval(by_process.to_numpy())
        row |= _estimate("decode_tok_per_s_median", row["decode_tok_per_s_median"], between)
    row |= _quantile("first_canvas_s", requests["first_canvas_s"].to_numpy(), 0.5)
    for share in (50, 95):
        gaps = canvases["gap_s"].dropna().to_numpy() if len(canvases) else np.array([])
        row |= _quantile(f"canvas_gap_p{share}_s", gaps, share / 100)
    for name, phase in TIMED.items():
        own = steps[steps["phase"] == phase]
        row |= _quantile(name, own["device_ms"].to_numpy(), 0.5)
        medians = own.groupby("process_id")["device_ms"].median().to_numpy()
        if len(medians) > 1 and (medians > 0).all():
            row |= _estimate(name, row[name], process_interval(medians))
    return row | {"host_share": _host_share(requests, steps)}


def _rate(
    name: str, top: pd.Series, bottom: pd.Series, request: pd.Series, process: pd.Series
) -> Row:
    """A ratio of sums; its interval between processes, or by prompt within the only one."""
    value = _ratio(top, bottom)
    if value is None:
        return _estimate(name, None, None)
    arrays = top.to_numpy(dtype=float), bottom.to_numpy(dtype=float)
    if process.nunique() > 1:
        ids = process.to_numpy()
        if all(array[ids == i].sum() > 0 for array in arrays for i in np.unique(ids)):
            _, means = process_means(*arrays, ids)
            return _estimate(name, value, process_interval(means))
        return _estimate(name, value, None)
    return _estimate(name, value, ratio_interval(*arrays, request.to_numpy()))


def _host_share(requests: pd.DataFrame, steps: pd.DataFrame) -> float | None:
    """Share of the requests' wall time in which no forward ran: the host's, between them."""
    if steps.empty or (requests["batch_size"] > 1).any():
        return None  # unknown forwards, or a batch's, which stand in several requests' rows
    wall_s = float(requests["wall_s"].sum())
    return 1 - float(steps["device_ms"].sum()) / 1e3 / wall_s if wall_s > 0 else None


def _quantile(name: str, values: np.ndarray, q: float) -> Row:
    if len(values) == 0:
        return _estimate(name, None, None)
    return _estimate(name, float(np.quantile(values, q)), quantile_interval(values, q))


def _outcomes(first: pd.DataFrame) -> Row:
    """Accuracy, and the shares of answers that are empty or were cut off."""
    judged = first["correct"].dropna()
    right = int(judged.sum())
    accuracy = right / len(judged) if len(judged) else None
    return _estimate("accuracy", accuracy, share_interval(right, len(judged))) | {
        "empty_share": float((first["text"] == "").mean()),
        "truncated_share": float((first["finish_reason"] == "length").mean()),
    }


def _work(first: pd.DataFrame, canvases: pd.DataFrame, steps: pd.DataFrame, knobs: Row) -> Row:
    if canvases.empty or canvases["steps"].isna().any():
        return _without_steps(canvases)
    taken = canvases["steps"].to_numpy(dtype=float)
    row = _quantile("steps_per_canvas_median", taken, 0.5)
    row |= _quantile("steps_per_canvas_p90", taken, 0.9)
    forced = (canvases["stop_reason"] == "forced").any()
    capped, total = int((canvases["stop_reason"] == "cap").sum()), len(canvases)
    if not forced:
        row |= _estimate("cap_rate", capped / total, share_interval(capped, total))
        row["converged_rate"] = float((canvases["stop_reason"] == "converged").mean())
    delivered = float(first["delivered_tokens"].sum())
    denoise = float(first["active_row_steps"].sum())
    waited = float((first["waiting_row_steps"] + first["ended_row_steps"]).sum())
    others = int(steps["phase"].isin(["prefill", *COMMITTING]).sum())
    return row | {
        "num_canvases": total,
        "tokens_per_forward_denoise": delivered / denoise,
        "tokens_per_forward_all": delivered / (denoise + others),
        "slots_per_forward": total * knobs["canvas_length"] / denoise,
        "canvas_fill": float(canvases["canvas_fill"].mean()),
        "occupancy": denoise / (denoise + waited),
    }


def _passes(first: pd.DataFrame, forwards: pd.DataFrame, knobs: Row) -> Row:
    """Readings of the weights by the first repeat: a fused forward is one, for two forwards' work.

    Unknown without recorded forwards, and of random weights whose contents decide how many.
    """
    forced = knobs["eos_policy"] == "ignore" and knobs.get("early_stop") is not True
    if forwards.empty or (knobs.get("weights") == "dummy" and not forced):
        return {}
    ran = forwards_by_phase(first, forwards)
    fused = ran.get(FUSED, 0) if knobs["decoding"] == "diffusion" else None
    return {"weight_passes": sum(ran.values()), "fused_forwards": fused}


def _without_steps(canvases: pd.DataFrame) -> Row:
    """Canvases of a server that does not tell their steps, or that could not be told at all."""
    if canvases.empty:
        return {}
    return {"num_canvases": len(canvases), "canvas_fill": float(canvases["canvas_fill"].mean())}


def _revision(canvases: pd.DataFrame) -> Row:
    if canvases["flips"].isna().all():
        return {}
    tokens = canvases["content_tokens"]
    revised = canvases["revised_after_accept"]
    row = _share("revised_after_accept", revised, tokens, canvases["request_id"])
    return row | {
        "argmax_flip_rate": _ratio(canvases["flips"], canvases["flip_opportunities"]),
        "flips_after_accept_per_token": _ratio(canvases["flips_after_accept"], tokens),
        "revocations_per_token": _ratio(canvases["revocations"], tokens),
        "monotone_share": float((canvases["revocations"] == 0).mean()),
        "revised_direct_edit": _ratio(canvases["direct_edits"], tokens),
        "revised_revoke_rewrite": _ratio(canvases["revoke_rewrites"], tokens),
        "return_rate": _ratio(canvases["returns"], tokens),
        "never_accepted_share": _ratio(canvases["never_accepted"], tokens),
        "idle_tail_mean": float(canvases["idle_tail"].mean()),
    }


def _distinct_experts(experts: pd.DataFrame, *phases: str) -> float | None:
    """Mean over layers and over the forwards watched of some phases."""
    own = experts[experts["phase"].isin(phases)]
    return None if own.empty else float(own["distinct_experts"].mean())


def _no_revision() -> Row:
    """An autoregressive model never revises: zero by construction."""
    names = ("argmax_flip_rate", "revocations_per_token", "revised_after_accept")
    return dict.fromkeys(names, 0.0)


def _correction(first: pd.DataFrame) -> Row:
    """Wrong to right and back between each reference step and the end, over all judged problems."""
    judged = first[first["correct_ever"].notna()]
    total = len(judged)
    if total == 0:
        return {}
    end = judged["correct"].astype(bool)
    row: Row = {"correction_n": total}
    for name in REFERENCES:
        then = judged[f"correct_{name}"]
        known = then.notna()
        was = then.fillna(False).astype(bool)
        unchanged = judged[f"unchanged_{name}"].fillna(False).astype(bool)
        gained, lost = known & ~was & end, known & was & ~end
        wrong = known & ~was
        row |= {
            f"wrong_to_right_{name}": float(gained.mean()),
            f"right_to_wrong_{name}": float(lost.mean()),
            f"unresolved_{name}": float((~known).mean()),
            f"lock_in_rate_{name}": float((wrong & unchanged).sum() / wrong.sum())
            if wrong.any()
            else None,
        }
        if name == "half":
            net = gained.astype(int) - lost.astype(int)
            interval = ratio_interval(
                net.to_numpy(), np.ones(total), judged["request_id"].to_numpy()
            )
            # Where all problems agree, resamples are all alike: that bounds nothing.
            bounded = None if net.nunique() == 1 else interval
            row |= _estimate("net_correction", float(net.mean()), bounded)
    ever = judged["correct_ever"].astype(bool)
    return row | {"ever_right_gap": float((ever & ~end).mean())}


def _repair(repairs: pd.DataFrame) -> Row:
    if repairs.empty:
        return {}
    row: Row = {
        "repair_n": len(repairs),
        "repair_correct_share": float(repairs["correct"].mean()),
    }
    for name, top, bottom in (
        ("repaired_share", "repaired", "corrupted"),
        ("preserved_share", "preserved", "untouched"),
    ):
        row |= _share(name, repairs[top], repairs[bottom], repairs["request_id"])
    return row


def _share(name: str, part: pd.Series, whole: pd.Series, prompt: pd.Series) -> Row:
    """A share of tokens, resampled by prompt.

    Where all prompts agree resamples are all alike and bound nothing. Of all or none of the tokens
    the interval is then Wilson's over the prompts, as if each were one case.
    """
    value = _ratio(part, whole)
    tops, bottoms = (each.to_numpy(dtype=float) for each in (part, whole))
    interval = ratio_interval(tops, bottoms, prompt.to_numpy())
    if interval is not None and interval[0] == interval[1]:
        prompts = prompt[whole > 0].nunique()
        interval = share_interval(prompts if value else 0, prompts) if value in (0, 1) else None
    return _estimate(name, value, interval)


def _validity(tables: Tables, row: Row, knobs: Row) -> Row:
    found = audit(tables["requests"], tables["steps"], knobs["canvas_length"], knobs["eos_policy"])
    found += inert_knobs(tables["canvases"], knobs)
    found += faults(tables["windows"])
    found += _contradictions(tables["loads"])
    answers, failed = len(tables["requests"]), tables["failed_requests"]
    found += many_failed(answers, failed)
    if found:
        return {"validity": "invalid", "validity_reason": ", ".join(found)}
    reasons = few_failed(answers, failed)
    if knobs["eos_policy"] != "ignore":
        lost = {name: row[f"{name}_share"] for name in ("empty", "truncated")}
        reasons += [
            f"{share:.0%} of answers {name}"
            for name, share in lost.items()
            if share > _LOW_VALIDITY_SHARE
        ]
    if reasons:
        return {"validity": "low_validity", "validity_reason": ", ".join(reasons)}
    return {"validity": "valid", "validity_reason": None}


def _contradictions(loads: pd.DataFrame) -> list[str]:
    """What a server's counters hold against its repeats, each reason once."""
    told = ",".join(loads["contradictions"].dropna())
    return list(dict.fromkeys(reason for reason in told.split(",") if reason))
