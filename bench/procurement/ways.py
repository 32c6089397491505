"""Every way to run every offered device: as it was measured, and projected where it was not.

A way is an offer at an operating point. Where a run measured a device in a decoding, precision and
batch, that point stands and nothing is projected beside it; every other batch that fits the
device's memory is projected. A projection is drawn with one error a device, in whatever way it is
run, and with the buyer's range of denoise steps a canvas.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bench.devices import DEVICES
from bench.procurement.cell import Cell, NumberClass, weakest
from bench.procurement.distribution import mean
from bench.procurement.inputs import Inputs, Offer
from bench.procurement.laws import TAILS, Draws, Limits
from bench.procurement.memory_fit import MemoryFit, MemoryShape, memory_fit
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.projection import Projector, Setting
from bench.procurement.sampling import Parameter

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64)
PRECISIONS = ("fp8", "bf16")
DECODINGS = ("diffusion", "autoregressive")
STEPS_KEY = "load.steps_per_canvas"
_LIMITS = Draws(count=4_000)
"""For the limits that a projected cell shows."""
_PROMPT_TOKENS, _REPLY_TOKENS = 1024, 1024


@dataclass(frozen=True, slots=True)
class Way:
    """One offer at one operating point.

    Attributes:
        memory: None where the model's dimensions are not known (a run of another model).
    """

    offer: Offer
    point: OperatingPoint
    memory: MemoryFit | None

    @property
    def key(self) -> tuple[str, str]:
        """Unlike that of every other way of a study."""
        return self.offer.name, self.point.source

    @property
    def name(self) -> str:
        point = self.point
        how = f"{point.decoding} {point.precision}, batch {point.batch_size}"
        return f"{self.offer.label}, {how}"

    @property
    def short(self) -> str:
        """Enough to tell the best ways of each offer and decoding apart."""
        return f"{self.offer.label}, {self.point.decoding}"

    @property
    def fits(self) -> bool:
        return self.memory is None or self.memory.fits


@dataclass(frozen=True, slots=True)
class Projected:
    """How a projected time, or a rate, is drawn: the device's error, and the steps a canvas.

    Attributes:
        value, low, high: at the steps' own value, with the projection's limits.
        stream: of the device's error, the same for every number of the device.
        is_rate: falls where the device is slower than projected.
        steps: the steps; None where the number does not depend on them.
        slope: change of the time a step, as a share of it.
    """

    value: float
    low: float
    high: float
    stream: str
    is_rate: bool
    steps: Cell | None = None
    slope: float = 0.0

    def draw(self, draws: Draws, stream: str) -> np.ndarray:
        """(count,) values; `stream` is not used, as the error is the device's."""
        low, value, high = self.low, self.value, self.high
        if self.is_rate:
            low, value, high = 1 / self.high, 1 / self.value, 1 / self.low
        time = Limits(value, low, high).draw(draws, self.stream)
        if self.steps is not None and self.steps.value is not None:
            drawn = Parameter(self.steps, STEPS_KEY).draw(draws)
            time = time * np.maximum(1 + self.slope * (drawn - self.steps.value), 1e-6)
        return np.asarray(1 / time if self.is_rate else time)


def lengths(inputs: Inputs) -> tuple[int, int]:
    """Prompt and reply tokens that stand for the load in a projection: its means."""
    load = inputs.load
    if load is None:
        return _PROMPT_TOKENS, _REPLY_TOKENS
    prompt = _PROMPT_TOKENS if load.prompt_tokens is None else round(mean(load.prompt_tokens))
    return max(prompt, 1), max(round(mean(load.reply_tokens)), 1)


def measured_ways(
    inputs: Inputs, points: Sequence[OperatingPoint], shapes: Callable[[str], MemoryShape | None]
) -> list[Way]:
    """Points of runs by the offer of their device; points of devices not offered are left out."""
    return [
        Way(offer, point, fit_on(offer.device, point, shapes(point.model)))
        for offer in inputs.offers
        for point in points
        if offer.covers(point.device)
    ]


def projected_ways(
    inputs: Inputs,
    by: Projector,
    shapes: Callable[[str], MemoryShape | None],
    measured: Sequence[Way],
) -> Iterator[Way]:
    """Every way of a listed device that was not measured and fits its memory.

    Without `load.steps_per_canvas` diffusion is not projected: its speed hangs on them.
    """
    known = {
        (w.offer.name, w.point.decoding, w.point.precision, w.point.batch_size) for w in measured
    }
    steps = None if inputs.load is None else inputs.load.steps_per_canvas
    for offer in inputs.offers:
        if offer.device is None:
            continue
        for decoding in DECODINGS if steps is not None else DECODINGS[1:]:
            for precision in PRECISIONS:
                for batch_size in BATCH_SIZES:
                    if (offer.name, decoding, precision, batch_size) in known:
                        continue
                    setting = _setting(inputs, offer.device, decoding, precision, batch_size)
                    point = _powered(offer, projected_point(by, setting, steps))
                    way = Way(offer, point, fit_on(offer.device, point, shapes(point.model)))
                    if way.fits:
                        yield way


def projected_point(by: Projector, setting: Setting, steps: Cell | None) -> OperatingPoint:
    """One projection with its errors as laws; limits hold the steps' range, too."""
    point = by.project(setting).point
    stream = f"projection of {setting.device}"
    point = replace(point, source=f"{point.source}; {setting.device} {_how(setting)}")
    used = steps if setting.decoding == "diffusion" else None
    further = point
    if used is not None:
        further = by.project(replace(setting, steps=setting.steps + 1)).point

    def cell(name: str, *, is_rate: bool) -> Cell:
        own, other = getattr(point, name), getattr(further, name)
        if own.value is None:
            return Cell(
                None, None, None, own.kind, own.unit, own.definition, own.source, own.why_unknown
            )
        ratio = own.value / other.value if is_rate else other.value / own.value
        law = Projected(own.value, own.low, own.high, stream, is_rate, used, ratio - 1)
        low, high = np.quantile(law.draw(_LIMITS, ""), TAILS)
        kind = own.kind if used is None else weakest((own.kind, used.kind))
        return replace(own, low=float(low), high=float(high), kind=kind, law=law)

    return replace(
        point,
        system_tok_per_s=cell("system_tok_per_s", is_rate=True),
        first_canvas_s=cell("first_canvas_s", is_rate=False),
        canvas_gap_s=cell("canvas_gap_s", is_rate=False),
        end_to_end_s=cell("end_to_end_s", is_rate=False),
        joules_per_token=cell("joules_per_token", is_rate=False),
    )


def at_steps(inputs: Inputs, by: Projector, way: Way, steps: float) -> Way:
    """A projected diffusion way with another number of steps a canvas; others as they are."""
    point = way.point
    if point.kind is NumberClass.MEASURED or point.decoding != "diffusion":
        return way
    assert way.offer.device is not None
    setting = _setting(inputs, way.offer.device, point.decoding, point.precision, point.batch_size)
    exact = Cell(steps, None, None, NumberClass.ASSUMED, "steps", "steps a canvas")
    point = projected_point(by, replace(setting, steps=steps), exact)
    return replace(way, point=_powered(way.offer, point))


def _powered(offer: Offer, point: OperatingPoint) -> OperatingPoint:
    """Without its projected power where the offer states one, which then stands for it."""
    if offer.power_w is None:
        return point
    why = "the stated power over the rate stands for it"

    def unknown(cell: Cell) -> Cell:
        return replace(cell, value=None, low=None, high=None, law=None, why_unknown=why)

    return replace(
        point,
        power_w=unknown(point.power_w),
        joules_per_token=unknown(point.joules_per_token),
    )


def at_speed(way: Way, slower: float) -> Way:
    """The way with all of its times `slower` times as long, and its limits as they were."""

    def timed(cell: Cell, factor: float) -> Cell:
        return cell if cell.value is None else replace(cell, value=factor * cell.value)

    point = way.point
    return replace(
        way,
        point=replace(
            point,
            system_tok_per_s=timed(point.system_tok_per_s, 1 / slower),
            first_canvas_s=timed(point.first_canvas_s, slower),
            canvas_gap_s=timed(point.canvas_gap_s, slower),
            joules_per_token=timed(point.joules_per_token, slower),
        ),
    )


def without_steps(way: Way) -> Way:
    """The way with limits that leave out the range of steps a canvas, which is a bar of its own."""

    def still(cell: Cell) -> Cell:
        law = cell.law
        if not isinstance(law, Projected):
            return cell
        return replace(cell, low=law.low, high=law.high, law=replace(law, steps=None))

    point = way.point
    return replace(
        way,
        point=replace(
            point,
            system_tok_per_s=still(point.system_tok_per_s),
            first_canvas_s=still(point.first_canvas_s),
            canvas_gap_s=still(point.canvas_gap_s),
            joules_per_token=still(point.joules_per_token),
        ),
    )


def _how(setting: Setting) -> str:
    return f"{setting.decoding} {setting.precision} batch {setting.batch_size}"


def _setting(
    inputs: Inputs, device: str, decoding: str, precision: str, batch_size: int
) -> Setting:
    prompt, reply = lengths(inputs)
    steps = None if inputs.load is None else inputs.load.steps_per_canvas
    return Setting(
        device=device,
        decoding=decoding,
        precision=precision,
        prompt_tokens=prompt,
        reply_tokens=reply,
        batch_size=batch_size,
        steps=16.0 if steps is None or steps.value is None else steps.value,
    )


def fit_on(
    device: str | None, point: OperatingPoint, shape: MemoryShape | None
) -> MemoryFit | None:
    """What a point takes of a listed device's memory; None where that is not known."""
    listed = None if device is None else DEVICES.get(device)
    if shape is None or listed is None or point.precision not in shape.weight_bytes:
        return None
    return memory_fit(
        shape,
        point.precision,
        batch_size=point.batch_size,
        context_tokens=point.prompt_tokens,
        reply_tokens=point.reply_tokens,
        memory_bytes=listed.memory_bytes,
        source=listed.sources.get("memory_gb", listed.source),
    )
