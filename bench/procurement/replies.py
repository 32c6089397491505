"""Reply lengths below which the autoregressive sibling answers sooner: measured ones and projected.

One request at a time, by device and precision. A pair that a run measured stands as it is; a
projection of the load's own prompts and steps stands beside it where those are others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from bench.phases import FUSED
from bench.procurement.inputs import Inputs
from bench.procurement.measured import device_of, mean_steps
from bench.procurement.projection import CANVAS, Projector, projected_points
from bench.procurement.reply_length import (
    ReplyLength,
    measured_deliveries,
    projected_deliveries,
    reply_length,
)
from bench.procurement.ways import PRECISIONS, lengths
from bench.store import Run

_REPLY_TOKENS = 4 * CANVAS
_ALIKE = (
    *("device", "precision", "vocabulary", "kernels", "execution", "backend"),
    *("workload", "eos_policy", "max_new_tokens"),
)
"""Columns of `points` in which the siblings of a pair agree."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A pair of siblings and the replies that the autoregressive one has finished sooner.

    Attributes:
        device: a name in `bench.devices`, or the run's own where it is not listed.
        prompt_tokens: of a request, on average; steps: denoise steps a canvas, on average.
    """

    device: str
    precision: str
    prompt_tokens: int
    steps: float | None
    length: ReplyLength


def measured_replies(run: Run) -> list[Reply]:
    """Every pair of a run that answered one request at a time; invalid points are left out."""
    points = run.points
    alone = points["batch_size"].eq(1) & points["connections"].isna()
    points = points[alone & points["validity"].ne("invalid")]
    found = []
    for _, group in points.groupby(list(_ALIKE), dropna=False, sort=False):
        rows = [
            {str(name): value for name, value in row.items()} for row in group.to_dict("records")
        ]
        siblings = [row for row in rows if row["decoding"] == "autoregressive"]
        for row in rows:
            if row["decoding"] == "diffusion" and siblings:
                pair = _pair(run, row, siblings[0])
                found += [] if pair is None else [pair]
    return found


def _pair(run: Run, diffusion: Mapping[str, Any], sibling: Mapping[str, Any]) -> Reply | None:
    """None where the prompts differ in length, or one of the two never delivered twice.

    The source of its length says where the canvases' commits are fused.
    """
    ids = [str(row["point_id"]) for row in (diffusion, sibling)]
    prompts = [round(float(_own(run.requests, each)["prompt_tokens"].mean())) for each in ids]
    ones = [measured_deliveries(run, each) for each in ids]
    if ones[0] is None or ones[1] is None or prompts[0] != prompts[1]:
        return None
    fused = ", commits fused" if diffusion.get("commit_mode") == FUSED else ""
    canvases = replace(ones[0], source=f"{ones[0].source}{fused}")
    return Reply(
        device_of(diffusion),
        str(diffusion["precision"]),
        prompts[0],
        mean_steps(_own(run.canvases, ids[0])),
        reply_length(canvases, ones[1], canvas_length=int(diffusion["canvas_length"])),
    )


def _own(table: pd.DataFrame | None, point_id: str) -> pd.DataFrame:
    return pd.DataFrame() if table is None else table[table["point_id"] == point_id]


def replies_of(inputs: Inputs, by: Projector, measured: Sequence[Reply]) -> list[Reply]:
    """The measured ones of offered devices, and projections of what was not measured."""
    found = [each for each in measured if any(o.covers(each.device) for o in inputs.offers)]
    steps = None if inputs.load is None else inputs.load.steps_per_canvas
    if steps is None or steps.value is None:
        return found
    prompt, _ = lengths(inputs)
    known = {(each.device, each.precision, each.prompt_tokens, each.steps) for each in found}
    for name in dict.fromkeys(offer.device for offer in inputs.offers if offer.device):
        for precision in PRECISIONS:
            if (name, precision, prompt, steps.value) in known:
                continue
            pair = projected_points(
                name,
                precision,
                batch_sizes=(1,),
                prompt_tokens=prompt,
                reply_tokens=_REPLY_TOKENS,
                steps=steps.value,
                by=by,
            )
            ones = [projected_deliveries(point) for point in pair]
            if ones[0] is not None and ones[1] is not None:
                length = reply_length(ones[0], ones[1], canvas_length=CANVAS)
                found.append(Reply(name, precision, prompt, steps.value, length))
    return found
