"""Names of numbers and devices in words, as a procurement report prints them."""

from collections.abc import Sequence

from bench.devices import DEVICES
from bench.digits import tidy
from bench.procurement.inputs import Inputs
from bench.procurement.ways import STEPS_KEY, Way

_FIELDS = {
    "price_per_hour": "price of an hour of",
    "purchase_price": "purchase price of",
    "amortisation_years": "years of use of",
    "host_power_w": "host power of",
    "idle_power_w": "idle power of",
    "power_w": "power under load of",
    "rack_units": "rack units of",
    "utilisation": "utilisation of",
}
_PLAIN = {
    "power_price_per_kwh": "power price",
    "pue": "PUE",
    "utilisation": "utilisation",
    "load.requests_per_s": "requests a second",
    STEPS_KEY: "denoise steps a canvas",
}
_OF_A_WAY = {
    "rate": "tokens a second",
    "joules": "joules a token",
    "power": "power",
    "times": "time taken",
    "first_canvas_s": "time to the first delivery",
    "first_canvas_p95_s": "p95 of the first delivery",
    "canvas_gap_s": "time between deliveries",
    "canvas_gap_p95_s": "p95 between deliveries",
    "answers": "tokens a correct answer",
}
_UNITS_IN_WORDS = ("1/s", "steps")
"""Units that the words of their number say already."""


def key_words(key: str, inputs: Inputs, ways: Sequence[Way]) -> str:
    """What a number of the tornado is: its words and whose it is."""
    if key in _PLAIN:
        return _PLAIN[key]
    for offer in inputs.offers:
        field = key.removeprefix(f"offers.{offer.name}.")
        if field in _FIELDS and field != key:
            return f"{_FIELDS[field]} {offer.label}"
    way = way_of(key, ways)
    source, _, name = key.rpartition("/")
    whose = source if way is None else way.short
    return f"{_OF_A_WAY.get(name, name)}: {whose}"


def way_of(key: str, ways: Sequence[Way]) -> Way | None:
    """The way whose point a number belongs to; None for an input."""
    source = key.rpartition("/")[0]
    return next((way for way in ways if way.point.source == source), None)


def unit_words(unit: str) -> str:
    """A unit after a number, with its space; empty where the number's words say it."""
    return "" if not unit or unit in _UNITS_IN_WORDS else f" {unit}"


def device_label(name: str | None) -> str:
    """A device by its listed label."""
    if name is None:
        return "unlisted device"
    return DEVICES[name].label if name in DEVICES else name


def short(value: float) -> str:
    """Three significant digits, whole numbers without decimals."""
    return tidy(float(f"{value:.3g}"))


def first_up(text: str) -> str:
    return text[:1].upper() + text[1:]
