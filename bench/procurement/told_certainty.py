"""How sure the answer of a study is, in words."""

import math
from collections.abc import Sequence

from bench.digits import tidy
from bench.procurement.capacity import Capacity
from bench.procurement.cell import NumberClass
from bench.procurement.study import Finalist, Study
from bench.procurement.words import first_up
from bench.report.style import percent


def certainty(study: Study, best: Finalist) -> tuple[str, ...]:
    found = []
    others = [each for each in study.finalists if each is not best]
    if best.share_cheapest is not None:
        of = "Of the safe ways the" if best.is_safe else "The"
        said = (
            f"{of} cheapest in {percent(best.share_cheapest)} % of {study.draws.count:,} draws of "
            "prices, load and speeds"
        )
        rivals = sorted(others, key=lambda each: -(each.share_cheapest or 0))
        tied = [each for each in rivals if each.share_cheapest and _costs_the_same(each, best)]
        if tied:
            said = _tied(study, best, tied)
        elif rivals and rivals[0].share_cheapest:
            rival = rivals[0]
            said += f"; {rival.judged.way.name}, in {percent(rival.share_cheapest)} %"
        found.append(f"{said}.")
    if best.fleet is not None:
        found.append(f"{_served(best, best.fleet)}{_decided(study, best.fleet)}.")
    elif study.inputs.latency.is_stated:
        found.append(f"It keeps the latency limits in {percent(best.share_served)} % of draws.")
    kind = best.judged.way.point.kind
    found.append(
        "Its speed was measured."
        if kind is NumberClass.MEASURED
        else "Its speed is projected: nobody measured this way to run it. Measure it before buying."
    )
    notes = [f"{first_up(note)}." for note in best.judged.way.point.notes]
    return (*found, *notes)


def _costs_the_same(one: Finalist, other: Finalist) -> bool:
    return math.isclose(one.judged.cost, other.judged.cost, rel_tol=1e-9)


def _tied(study: Study, best: Finalist, tied: Sequence[Finalist]) -> str:
    """That others cost the same, which no share of draws tells from doubt."""
    names = " and ".join(each.judged.way.name for each in tied)
    cost = "costs" if len(tied) == 1 else "cost"
    share = sum(each.share_cheapest or 0 for each in (best, *tied))
    said = (
        f"{names}, {cost} the same; one of the {len(tied) + 1} is the cheapest in {percent(share)} "
        f"% of {study.draws.count:,} draws"
    )
    if all(each.share_served < best.share_served for each in tied):
        said += ", and this one keeps the limits more often"
    return said


def _decided(study: Study, fleet: Capacity) -> str:
    """Which of the stated numbers asks for so many devices; empty where one is enough."""
    load = study.inputs.load
    if load is None or (fleet.devices.value == 1 and fleet.decided_by == "utilisation"):
        return ""
    said = {
        "utilisation": "; the stated utilisation decides how many",
        "waiting": "; the wait for a free slot decides how many",
        "concurrency": "; the stated concurrency, whose 95th percentile has a slot each, decides "
        "how many",
    }[fleet.decided_by]
    if load.requests_per_s is not None and load.concurrency is not None:
        other = "requests a second" if fleet.decided_by == "concurrency" else "concurrency"
        said += f": the {other} alone would take no more"
    return said


def _served(best: Finalist, fleet: Capacity) -> str:
    """How often the fleet serves the load in time, and what fewer or more devices would."""
    devices = fleet.devices.value
    they = "It serves" if devices == 1 else f"{tidy(devices)} devices serve"
    said = f"{they} the load within its limits in {percent(best.share_served)} % of draws"
    least = fleet.needed.value
    if fewer(fleet) and least is not None:
        said += f", the {tidy(least)} that the stated numbers ask for in "
        said += f"{percent(fleet.share_enough(least))} %"
    if not best.is_safe:
        said += f"; no number of devices does in more than {percent(fleet.share_possible)} %"
    return said


def fewer(fleet: Capacity) -> str:
    """How often the fewer devices are enough that the stated numbers ask for; else empty."""
    devices, least = fleet.devices.value, fleet.needed.value
    if devices is None or least is None or least >= devices:
        return ""
    is_are = "is" if least == 1 else "are"
    return f"{tidy(least)} {is_are} enough in {percent(fleet.share_enough(least))} % of draws"
