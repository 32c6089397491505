"""Crossovers by projection: precision, context and steps a canvas in turn."""

from collections.abc import Callable

from bench.procurement.curves import Curve, projected_curves
from bench.procurement.inputs import Inputs
from bench.procurement.memory_fit import MemoryShape
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.projection import Projector, projected_points
from bench.procurement.ways import BATCH_SIZES, PRECISIONS, fit_on, lengths

_CONTEXTS = (8192,)
"""Prompt tokens for which crossovers are projected, beside the load's own."""


def curves_of(
    inputs: Inputs, by: Projector, shapes: Callable[[str], MemoryShape | None]
) -> list[Curve]:
    """By device, precision, context and steps a canvas; without steps there is no diffusion.

    A batch that the device's memory cannot hold is no point of a curve.
    """
    load = inputs.load
    steps = None if load is None else load.steps_per_canvas
    if steps is None or steps.value is None:
        return []
    prompt, reply = lengths(inputs)
    known = [each for each in (steps.low, steps.value, steps.high) if each is not None]
    points: dict[tuple[object, ...], OperatingPoint] = {}
    for name in dict.fromkeys(offer.device for offer in inputs.offers if offer.device):
        for precision in PRECISIONS:
            for context in dict.fromkeys((prompt, *_CONTEXTS)):
                for count in dict.fromkeys(known) if context == prompt else (steps.value,):
                    made = projected_points(
                        name,
                        precision,
                        batch_sizes=BATCH_SIZES,
                        prompt_tokens=context,
                        reply_tokens=reply,
                        steps=count,
                        by=by,
                    )
                    for point in made:
                        fit = fit_on(name, point, shapes(point.model))
                        if fit is not None and not fit.fits:
                            continue
                        key = (
                            *(name, precision, context, point.decoding),
                            *(point.steps, point.batch_size),
                        )
                        points[key] = point
    return projected_curves(points.values())
