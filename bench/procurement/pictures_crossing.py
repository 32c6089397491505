"""The crossover figure of a study: which of its curves, and what each panel says."""

from collections.abc import Sequence

import numpy as np

from bench.digits import digits
from bench.procurement.cell import Cell, NumberClass
from bench.procurement.crossover import Crossover
from bench.procurement.curves import Curve
from bench.procurement.marks import Series, Stamp
from bench.procurement.plots import Crossing, plot_crossover
from bench.procurement.study import Study
from bench.procurement.ways import DECODINGS, PRECISIONS, lengths
from bench.procurement.words import device_label
from bench.report.figures import Plot
from bench.report.style import plural


def crossing(study: Study, stamp: Stamp) -> Plot:
    """Diffusion over autoregressive by batch, a panel a device, for the load's prompts."""
    found = []
    for each in study.crossings:
        if each.metric != "delivered_tok_per_s" or not _is_shown(study, each):
            continue
        pair = [_curve(study.curves, each, decoding) for decoding in DECODINGS]
        if pair[0] is None or pair[1] is None:
            continue
        sizes, ratios = _ratios(pair[0], pair[1])
        label = f"{device_label(each.device)}, {each.precision}"
        found.append(
            Crossing(
                label,
                Series("diffusion", each.precision),
                sizes,
                ratios,
                each.batch_size,
                _crossing_words(each),
            )
        )
    known = [each for each in found if each.at.value is not None]
    title = (
        f"The autoregressive sibling overtakes on {len(known)} of {plural(len(found), 'device')}, "
        "within the batches that fit"
    )
    return plot_crossover(stamp, found, title=title)


def _is_shown(study: Study, each: Crossover) -> bool:
    """Of projections, those of the load's own prompts and steps."""
    if each.kind is NumberClass.MEASURED:
        return True
    load = study.inputs.load
    steps = None if load is None else load.steps_per_canvas
    own = each.prompt_tokens == lengths(study.inputs)[0]
    return own and (steps is None or each.steps == steps.value) and each.precision == PRECISIONS[0]


def _crossing_words(each: Crossover) -> str:
    at, (first, last) = each.batch_size, each.range
    if at.value is None:
        return f"none in {first} to {last}: {each.outcome}"
    if each.no_crossing_share is None:
        return f"they meet at {digits(at.value)}; no interval"
    low = f"below {first}" if at.low is None else digits(at.low)
    high = f"above {last}" if at.high is None else digits(at.high)
    return f"they meet at {digits(at.value)} ({low} to {high})"


def _curve(curves: Sequence[Curve], of: Crossover, decoding: str) -> Curve | None:
    for curve in curves:
        same = all(
            getattr(curve, name) == getattr(of, name)
            for name in ("metric", "kind", "device", "precision", "prompt_tokens", "reply_tokens")
        )
        if same and curve.decoding == decoding and curve.steps in (of.steps, None):
            return curve
    return None


def _ratios(diffusion: Curve, sibling: Curve) -> tuple[tuple[int, ...], tuple[Cell, ...]]:
    """Diffusion over autoregressive by the batches that both have."""
    sizes = [size for size in diffusion.batch_sizes if size in sibling.batch_sizes]
    logs = diffusion.logs(sizes).mean(axis=0) - sibling.logs(sizes).mean(axis=0)
    return tuple(sizes), tuple(
        Cell(
            float(ratio),
            None,
            None,
            diffusion.kind,
            "times",
            "diffusion's delivered tok/s over the sibling's",
            diffusion.source,
        )
        for ratio in np.exp(logs)
    )
