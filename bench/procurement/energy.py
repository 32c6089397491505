"""Energy of tokens: the device's own, and that of the site it stands in.

The device's joules are measured over the timed window. Where they are not, its power under load
over its rate stands for them. The site adds the host's share, the device's idle hours, and the
power of cooling and distribution (PUE) on all of it.
"""

from typing import Any

from bench.procurement.cell import Cell, NumberClass
from bench.procurement.inputs import Inputs, Offer
from bench.procurement.laws import Draws
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.sampling import Metric, Numbers, Parameter, evaluated

_NO_IDLE = Cell(
    0.0,
    None,
    None,
    NumberClass.ASSUMED,
    "W",
    "idle power, not stated: not counted",
)


def energy_parameters(inputs: Inputs, offer: Offer, point: OperatingPoint) -> dict[str, Parameter]:
    """What rates and energy are made of, by name; what is not given is left out."""
    own = f"offers.{offer.name}"
    # Two offers that do not state their own utilisation share the file's, and its draws.
    used = f"{own}.utilisation" if offer.has_own_utilisation else "utilisation"
    found = {
        "system_tok_per_s": Parameter(point.system_tok_per_s, f"{point.source}/rate"),
        "utilisation": Parameter(offer.utilisation, used),
        "idle_power_w": Parameter(offer.idle_power_w or _NO_IDLE, f"{own}.idle_power_w"),
    }
    if point.joules_per_token.value is not None:
        found["joules_per_token"] = Parameter(point.joules_per_token, f"{point.source}/joules")
    if point.power_w.value is not None:
        found["power_w"] = Parameter(point.power_w, f"{point.source}/power")
    elif offer.power_w is not None:
        found["power_w"] = Parameter(offer.power_w, f"{own}.power_w")
    if offer.host_power_w is not None:
        found["host_power_w"] = Parameter(offer.host_power_w, f"{own}.host_power_w")
    if offer.rack_units is not None:
        found["rack_units"] = Parameter(offer.rack_units, f"{own}.rack_units")
    if inputs.pue is not None:
        found["pue"] = Parameter(inputs.pue, "pue")
    return found


def joules_needs(point: OperatingPoint) -> tuple[str, ...]:
    """Names that `joules` reads: the measured energy, or power and rate where there is none."""
    known = point.joules_per_token.value is not None
    return ("joules_per_token",) if known else ("power_w", "system_tok_per_s")


def joules(p: Numbers) -> Any:
    """The device's joules a delivered token."""
    if "joules_per_token" in p:
        return p["joules_per_token"]
    return p["power_w"] / p["system_tok_per_s"]


def device_energy(point: OperatingPoint) -> Metric:
    """J a token of the device alone, while it works."""
    is_measured = point.joules_per_token.value is not None
    return Metric(
        key="joules_per_token",
        unit="J/tok",
        definition=point.joules_per_token.definition
        if is_measured
        else "the device's power under load over its rate",
        needs=joules_needs(point),
        formula=joules,
    )


def site_energy(point: OperatingPoint) -> Metric:
    """J a token of device, host and site, idle hours included."""
    needs = ("system_tok_per_s", "utilisation", "host_power_w", "idle_power_w", "pue")

    def formula(p: Numbers) -> Any:
        always_w = p["host_power_w"] + p["idle_power_w"] * (1 - p["utilisation"])
        return p["pue"] * (joules(p) + always_w / (p["system_tok_per_s"] * p["utilisation"]))

    return Metric(
        key="site_joules_per_token",
        unit="J/tok",
        definition="device, host's share and idle hours, times PUE, a delivered token",
        needs=tuple(dict.fromkeys((*needs, *joules_needs(point)))),
        formula=formula,
    )


def rate_per_watt(point: OperatingPoint) -> Metric:
    """Delivered tok/s for each watt of the device: tokens a joule."""
    return Metric(
        key="tok_per_s_per_w",
        unit="tok/s/W",
        definition="delivered tokens a second for each watt of the device",
        needs=joules_needs(point),
        formula=lambda p: 1 / joules(p),
    )


RATE_PER_RACK_UNIT = Metric(
    key="tok_per_s_per_rack_unit",
    unit="tok/s/U",
    definition="delivered tokens a second for each rack unit a device takes",
    needs=("system_tok_per_s", "rack_units"),
    formula=lambda p: p["system_tok_per_s"] / p["rack_units"],
)


def energy_cells(
    inputs: Inputs, offer: Offer, point: OperatingPoint, draws: Draws
) -> dict[str, Cell]:
    """Energy and density of one offer at one point, by metric."""
    known = energy_parameters(inputs, offer, point)
    metrics = (device_energy(point), site_energy(point), rate_per_watt(point), RATE_PER_RACK_UNIT)
    return {metric.key: evaluated(metric, known, draws) for metric in metrics}
