"""What tokens and right answers cost: of an offer's prices and an operating point's rates.

A rented device costs its price for every hour, power included. A bought one costs its share of the
purchase price, its host's power and its own power in idle hours for every hour, and the energy of
its tokens. Delivered tokens come in the used share of the hours only (`utilisation`). Interest,
resale value, staff, network and room are left out.
"""

from typing import Any

from bench.procurement.cell import Cell
from bench.procurement.energy import energy_parameters, joules, joules_needs
from bench.procurement.inputs import Inputs, Offer
from bench.procurement.laws import Draws
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.sampling import Metric, Numbers, Parameter, evaluated

HOURS_PER_YEAR = 8766.0
"""Of 365.25 days."""
JOULES_PER_KWH = 3.6e6
_SECONDS_PER_HOUR = 3600.0

_RATE = ("system_tok_per_s", "utilisation")
_BOUGHT = (
    "purchase_price",
    "amortisation_years",
    "host_power_w",
    "idle_power_w",
    "pue",
    "power_price_per_kwh",
)


def parameters(inputs: Inputs, offer: Offer, point: OperatingPoint) -> dict[str, Parameter]:
    """Everything a cost or an energy of this point may be made of, by name.

    Streams of inputs are their key paths, those of a point its source: shared by every option that
    uses the same number. What is not given is left out.
    """
    found = energy_parameters(inputs, offer, point)
    own = f"offers.{offer.name}"
    stated = {
        "price_per_hour": offer.price_per_hour,
        "purchase_price": offer.purchase_price,
        "amortisation_years": offer.amortisation_years,
    }
    found |= {
        name: Parameter(cell, f"{own}.{name}") for name, cell in stated.items() if cell is not None
    }
    if inputs.power_price_per_kwh is not None:
        found["power_price_per_kwh"] = Parameter(inputs.power_price_per_kwh, "power_price_per_kwh")
    if point.tokens_per_correct_answer is not None:
        found["tokens_per_correct_answer"] = Parameter(
            point.tokens_per_correct_answer, f"{point.source}/answers"
        )
    return found


def hourly_cost(p: Numbers, *, is_rented: bool, used: Any) -> Any:
    """Cost of a device's hour without the energy of its tokens; `used` is the share it works."""
    if is_rented:
        return p["price_per_hour"]
    capital = p["purchase_price"] / (p["amortisation_years"] * HOURS_PER_YEAR)
    watts = p["host_power_w"] + p["idle_power_w"] * (1 - used)
    return capital + watts * p["pue"] * p["power_price_per_kwh"] / 1e3


def energy_cost_per_token(p: Numbers, *, is_rented: bool) -> Any:
    """Price of the energy that the device itself takes for a token; in a rent already."""
    if is_rented:
        return 0.0
    return joules(p) * p["pue"] * p["power_price_per_kwh"] / JOULES_PER_KWH


def _per_mtok(p: Numbers, is_rented: bool) -> Any:
    hourly = hourly_cost(p, is_rented=is_rented, used=p["utilisation"])
    delivered = p["system_tok_per_s"] * _SECONDS_PER_HOUR * p["utilisation"]
    return 1e6 * (hourly / delivered + energy_cost_per_token(p, is_rented=is_rented))


def cost_needs(offer: Offer, point: OperatingPoint) -> tuple[str, ...]:
    """Names that `hourly_cost` and `energy_cost_per_token` read."""
    return ("price_per_hour",) if offer.is_rented else (*_BOUGHT, *joules_needs(point))


def cost_per_mtok(currency: str, offer: Offer, point: OperatingPoint) -> Metric:
    """Price of a million delivered tokens."""
    is_rented = offer.is_rented
    return Metric(
        key="cost_per_mtok",
        unit=f"{currency}/Mtok",
        definition="rent over delivered tokens, at the stated utilisation"
        if is_rented
        else "purchase spread over its years, host and idle power, and energy of the tokens, over"
        " delivered tokens, at the stated utilisation",
        needs=tuple(dict.fromkeys((*_RATE, *cost_needs(offer, point)))),
        formula=lambda p: _per_mtok(p, is_rented),
    )


def cost_per_correct_answer(currency: str, offer: Offer, point: OperatingPoint) -> Metric:
    """Price of a right answer: wrong ones are paid as well."""
    per_mtok = cost_per_mtok(currency, offer, point)
    return Metric(
        key="cost_per_correct_answer",
        unit=currency,
        definition="price of all delivered tokens over right answers; wrong answers are paid too",
        needs=(*per_mtok.needs, "tokens_per_correct_answer"),
        formula=lambda p: per_mtok.formula(p) / 1e6 * p["tokens_per_correct_answer"],
    )


def cost_cells(
    inputs: Inputs, offer: Offer, point: OperatingPoint, draws: Draws
) -> dict[str, Cell]:
    """`cost_per_mtok` and `cost_per_correct_answer` of one offer at one point."""
    known = parameters(inputs, offer, point)
    metrics = (
        cost_per_mtok(inputs.currency, offer, point),
        cost_per_correct_answer(inputs.currency, offer, point),
    )
    return {metric.key: evaluated(metric, known, draws) for metric in metrics}
