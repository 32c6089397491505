"""What the projection rests on: measured times of this engine, and the efficiencies they imply.

A forward takes `fixed + sum of floor / efficiency` over op groups. Groups are told apart by two
profiles of one generation of kernels, on an H100 and on an H200; routing, norms, sampling and the
rest are launches whose time does not depend on a device's rates and are the fixed part. All of a
forward is then scaled to what it took in the newest timed run. A decode step has no profile of its
own: its fixed part and the one efficiency of its groups follow from fp8 and bf16, which differ in
bytes alone.

`calibration.yaml` holds the measurements (`calibration_sources` makes it from the runs).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

from bench.devices import device
from bench.roofline import Group, Rates, group_floors, op_floor_s

Work = Callable[..., Sequence[Group]]
"""`bench.procurement.work.released_work`."""
SHARED: Mapping[str, tuple[str, ...]] = {
    "experts": ("experts",),
    "products": ("projections", "dense"),
    "attention": ("attention",),
    "logits": ("logits",),
    "self_conditioning": ("self_conditioning",),
}
"""Op groups of `model.work` by the part of a profile that they share; others are fixed time."""
PART_OF = {group: part for part, groups in SHARED.items() for group in groups}


@dataclass(frozen=True, slots=True)
class Profile:
    """A denoise step of one device by parts, in shares of the timed step.

    Attributes:
        step_ms, commit_ms: timed without the profiler.
        parts_ms: of `SHARED`, and `fixed`; they sum to `step_ms`.
    """

    device: str
    precision: str
    context: int
    step_ms: float
    commit_ms: float
    parts_ms: Mapping[str, float]
    source: str


@dataclass(frozen=True, slots=True)
class Timed:
    """A point of the newest timed run, batch 1.

    Attributes:
        forwards_ms: mean of each kind of forward: denoise and commit, or decode.
        context: mean prefix of its steps.
        host_ms: of wall time a delivery, in which no forward ran.
        prefill_ms: of `prompt_tokens`; steps one after the other, so bound by the host.
        power_share: mean power over the card's limit.
        copy_share, product_share: the bandwidth and the product rate that the card reached, over
            its data sheet.
    """

    device: str
    decoding: str
    precision: str
    context: int
    prompt_tokens: int
    processes: int
    forwards_ms: Mapping[str, float]
    host_ms: float
    prefill_ms: float
    power_share: float
    copy_share: float
    product_share: float
    source: str


@dataclass(frozen=True, slots=True)
class Measurements:
    """Everything measured that a calibration needs.

    Attributes:
        untuned_ratio: a denoise step of kernels that run anywhere over one of the profiled kernels,
            same device: what an architecture may cost for which nothing was tuned.
    """

    profiles: tuple[Profile, ...]
    timed: tuple[Timed, ...]
    untuned_ratio: float
    untuned_source: str

    @property
    def devices(self) -> tuple[str, ...]:
        return tuple(sorted({p.device for p in self.profiles} | {t.device for t in self.timed}))


@dataclass(frozen=True, slots=True)
class Forward:
    """How long one kind of forward takes: `fixed_ms` and what each group reaches of its floor."""

    fixed_ms: float
    efficiency: Mapping[str, float]

    def scaled(self, ratio: float) -> "Forward":
        """The same forward, taking `ratio` times as long everywhere."""
        found = {name: value / ratio for name, value in self.efficiency.items()}
        return Forward(self.fixed_ms * ratio, found)

    def parts_ms(self, groups: Iterable[Group], on: Rates) -> dict[str, float]:
        """Milliseconds by op group, and of `fixed`."""
        found = {"fixed": self.fixed_ms}
        for floor in group_floors(groups, on):
            if floor.name in self.efficiency:
                found[floor.name] = 1e3 * floor.floor_s / self.efficiency[floor.name]
        return found

    def ms(self, groups: Iterable[Group], on: Rates) -> float:
        return sum(self.parts_ms(groups, on).values())


@dataclass(frozen=True, slots=True)
class Calibration:
    """Forwards by (decoding, kind, precision), with the points that they reproduce."""

    forwards: Mapping[tuple[str, str, str], Forward]
    timed: Mapping[tuple[str, str], Timed]
    architectures: frozenset[str]
    untuned_ratio: float


def shipped_measurements() -> Measurements:
    """What `calibration.yaml` holds."""
    text = (files("bench.procurement") / "calibration.yaml").read_text(encoding="utf-8")
    return measurements(yaml.safe_load(text))


def measurements(document: Mapping[str, Any]) -> Measurements:
    """From the mapping that `calibration_sources` writes."""
    return Measurements(
        tuple(Profile(**each) for each in document["profiles"]),
        tuple(Timed(**each) for each in document["timed"]),
        document["untuned_ratio"],
        document["untuned_source"],
    )


def profiled_forward(profiles: Sequence[Profile], work: Work) -> Forward:
    """A denoise step by the profiles: geometric means over devices of what each part reached."""
    fixed = _mean([profile.parts_ms["fixed"] for profile in profiles])
    reached: dict[str, list[float]] = {}
    for profile in profiles:
        groups = work("diffusion", "denoise", profile.precision, context=profile.context)
        for part, names in SHARED.items():
            own = [group for group in groups if group.name in names]
            floor_ms = 1e3 * op_floor_s(own, device(profile.device))
            for name in names:
                reached.setdefault(name, []).append(floor_ms / profile.parts_ms[part])
    return Forward(fixed, {name: _mean(values) for name, values in reached.items()})


def calibrate(given: Measurements, work: Work) -> Calibration:
    """Forwards that take on the timed device what they took there."""
    profiled = profiled_forward(given.profiles, work)
    timed = {(point.decoding, point.precision): point for point in given.timed}
    found: dict[tuple[str, str, str], Forward] = {}
    for (decoding, precision), point in timed.items():
        if decoding == "diffusion":
            for kind, took_ms in point.forwards_ms.items():
                groups = work(decoding, kind, precision, context=point.context)
                ratio = took_ms / profiled.ms(groups, device(point.device))
                found[decoding, kind, precision] = profiled.scaled(ratio)
    siblings = [point for (decoding, _), point in timed.items() if decoding == "autoregressive"]
    for point, forward in zip(siblings, _decode_forwards(siblings, work), strict=True):
        found["autoregressive", "decode", point.precision] = forward
    architectures = {device(name).architecture for name in given.devices}
    return Calibration(found, timed, frozenset(architectures), given.untuned_ratio)


def _decode_forwards(points: Sequence[Timed], work: Work) -> list[Forward]:
    """Fixed time and one efficiency for all groups, from two precisions on one device."""
    narrow, wide = points
    floors = [
        1e3 * op_floor_s(groups, device(point.device))
        for point in points
        for groups in [_bound(work, point)]
    ]
    took = [point.forwards_ms["decode"] for point in (narrow, wide)]
    efficiency = (floors[1] - floors[0]) / (took[1] - took[0])
    fixed_ms = took[0] - floors[0] / efficiency
    return [Forward(fixed_ms, dict.fromkeys(PART_OF, efficiency))] * 2


def _bound(work: Work, point: Timed) -> list[Group]:
    groups = work(point.decoding, "decode", point.precision, context=point.context)
    return [group for group in groups if group.name in PART_OF]


def _mean(values: Sequence[float]) -> float:
    product = 1.0
    for value in values:
        product *= value
    return float(product ** (1 / len(values)))
