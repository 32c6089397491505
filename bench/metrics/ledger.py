"""The token ledger and its audit: every slot and every step of a request is accounted for.

slots committed = C x canvases = delivered + after EOS + over limit + rows already ended;
slot-steps: denoise forwards of the batch = active + waiting for a slower row + ended. A request
whose ledger does not sum invalidates its point.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from bench.phases import DENOISING


def inert_knobs(canvases: pd.DataFrame, knobs: Mapping[str, Any]) -> list[str]:
    """Step knobs that the measured canvases contradict, as reasons: a knob without effect.

    Args:
        knobs: with `max_denoising_steps` (None where there is no limit to check) and `early_stop`.
    """
    limit, taken = knobs.get("max_denoising_steps"), canvases["steps"].dropna()
    if limit is None or taken.empty:
        return []
    if (taken > limit).any():
        return ["max_denoising_steps_without_effect"]
    if knobs.get("early_stop") is False and (taken != limit).any():
        return ["early_stop_without_effect"]
    return []


def audit(
    requests: pd.DataFrame, steps: pd.DataFrame, canvas_length: int | None, eos_policy: str
) -> list[str]:
    """What is wrong with a point's measurement, as reasons; an empty list when nothing is.

    Slots are held against tokens where they are known: not where a server's answer cannot be cut
    into canvases.
    """
    reasons = []
    told = requests[requests["slots_committed"].notna()]
    committed = (
        told["delivered_tokens"]
        + told["after_eos_slots"]
        + told["over_limit_slots"]
        + told["row_ended_slots"]
    )
    if (committed != told["slots_committed"]).any():
        reasons.append("ledger_does_not_sum")
    elif (
        canvas_length is not None
        and (told["slots_committed"] != told["num_canvases"] * canvas_length).any()
    ):
        reasons.append("ledger_does_not_match_canvases")
    denoise = steps[steps["phase"].isin(DENOISING)]
    active = denoise.groupby(["process_id", "repeat", "request_id"]).size()
    keys = pd.MultiIndex.from_frame(requests[["process_id", "repeat", "request_id"]])
    counted = active.reindex(keys, fill_value=0).to_numpy()
    if not np.array_equal(counted, requests["active_row_steps"].to_numpy()):
        reasons.append("steps_do_not_sum")
    if eos_policy == "ignore" and (requests["finish_reason"] == "eos").any():
        reasons.append("stopped_at_an_ignored_eos")
    # A table holds a NaN entropy, what non-finite logits give, as null; only a step without a trace
    # may have none.
    traced = denoise["accepted_slots"].notna() | denoise["mean_entropy_nat"].notna()
    entropy = denoise.loc[traced, "mean_entropy_nat"].to_numpy(dtype=float, na_value=np.nan)
    if not np.isfinite(entropy).all():
        reasons.append("entropy_not_finite")
    if "scores_finite" in requests and requests["scores_finite"].eq(False).any():
        reasons.append("scores_not_finite")
    if not np.isfinite(requests["wall_s"]).all() or not np.isfinite(steps["device_ms"]).all():
        reasons.append("time_not_finite")
    elif (requests["wall_s"] <= 0).any():
        reasons.append("time_not_positive")
    return reasons
