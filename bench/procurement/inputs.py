"""What a buyer states: prices, power, load, and what is good enough. One typed YAML file.

    currency: USD
    offers:
      h200-rented:                       # any name; it stands in the report
        device: h200                     # as `canvasbench roofline` calls it
        price_per_hour: {low: 2.5, mode: 3.0, high: 3.8, source: "three quotes"}
      h200-bought:
        device: h200
        purchase_price: 32000
        amortisation_years: {low: 3, mode: 4, high: 5}
        host_power_w: 350                # the host's share a device, always drawn
        rack_units: 1.0
    power_price_per_kwh: {low: 0.10, high: 0.20}
    pue: 1.3
    utilisation: {low: 0.4, mode: 0.6, high: 0.8}
    load:
      requests_per_s: 2.0                # or concurrency; of both the larger fleet counts
      reply_tokens: {quantiles: {p10: 60, p50: 300, p95: 1200}}
      prompt_tokens: {lognormal: {median: 800, p95: 4000}}
      concurrency: [4, 8, 8, 16]
      steps_per_canvas: {low: 10, mode: 16, high: 30}   # what diffusion is projected with
    latency: {first_canvas_s: 1.5, canvas_gap_s: 0.5, end_to_end_s: 20}  # for 95 % of requests
    quality: {accuracy_floor: 0.85}

Without a load, limits are judged of a request in a full batch that waits for nobody, at the prompt
and reply that its way was measured with, or 1,024 tokens each where it is projected.

Content decides how many denoise steps a canvas needs, and they decide the speed of diffusion, so
that nothing stands for `steps_per_canvas` where it is not stated: diffusion then is not projected,
and the report says so. A canvas's commit is not one of its steps. What a run measured stands as it
was measured, at the steps that its own content needed.

A number is X, {value: X}, {low: X, high: Y} or {low: X, mode: Y, high: Z}, with `class` (assumed
unless stated) and `source`. Without a mode every value of the range is as likely as another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.devices import device
from bench.procurement.cell import Cell
from bench.procurement.distribution import Distribution, parse
from bench.procurement.entries import ABOVE_ZERO, AT_LEAST_ONE, NOT_NEGATIVE, SHARE, Entries
from bench.report.cells import visible
from bench.yaml_files import read_yaml

_KEYS = (
    "title",
    "currency",
    "offers",
    "power_price_per_kwh",
    "pue",
    "utilisation",
    "load",
    "latency",
    "quality",
)
_OFFER_KEYS = (
    "device",
    "reported_as",
    "label",
    "currency",
    "price_per_hour",
    "purchase_price",
    "amortisation_years",
    "host_power_w",
    "idle_power_w",
    "power_w",
    "rack_units",
    "utilisation",
)
_LOAD_KEYS = ("requests_per_s", "concurrency", "reply_tokens", "prompt_tokens", "steps_per_canvas")
_LATENCY_KEYS = ("first_canvas_s", "canvas_gap_s", "end_to_end_s")
_QUALITY_KEYS = ("accuracy_floor", "speed_only")


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One device at one price: rented by the hour, power included, or bought.

    Attributes:
        name: the key of the file.
        device: a name in `bench.devices`; None where only `reported_as` is given.
        reported_as: the name that a run's own device has; None: any that `bench.devices` knows.
        price_per_hour: of a rented device; None where it is bought.
        purchase_price, amortisation_years: None where it is rented.
        host_power_w: the host's share a device, drawn in every hour; idle_power_w: of a device that
            has nothing to do; power_w: under load, used where no energy was measured, and then
            instead of the projected power.
        utilisation: share of the paid hours in which the device delivers at its measured rate;
            has_own_utilisation: stated for this offer, not for the whole file.
    """

    name: str
    label: str
    device: str | None
    reported_as: str | None
    price_per_hour: Cell | None
    purchase_price: Cell | None
    amortisation_years: Cell | None
    host_power_w: Cell | None
    idle_power_w: Cell | None
    power_w: Cell | None
    rack_units: Cell | None
    utilisation: Cell
    has_own_utilisation: bool = False

    @property
    def is_rented(self) -> bool:
        return self.price_per_hour is not None

    def covers(self, device: str) -> bool:
        """Whether an operating point's device is the one offered."""
        return device in (self.device, self.reported_as)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is asked of the fleet.

    Attributes:
        requests_per_s: mean arrivals of an open load; None where only `concurrency` is given.
        concurrency: requests in flight at once, over time; None where only a rate is given.
        reply_tokens: delivered tokens a request.
        prompt_tokens: None where unstated; a point's own prompts then stand.
        steps_per_canvas: denoise steps that the load's content needs; None where unstated, and
            diffusion is then not projected.
    """

    requests_per_s: Cell | None
    concurrency: Distribution | None
    reply_tokens: Distribution
    prompt_tokens: Distribution | None
    steps_per_canvas: Cell | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Limits that 95 % of requests must keep, seconds; None is no limit."""

    first_canvas_s: float | None
    canvas_gap_s: float | None
    end_to_end_s: float | None

    @property
    def is_stated(self) -> bool:
        return (self.first_canvas_s, self.canvas_gap_s, self.end_to_end_s) != (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What answers must reach.

    Attributes:
        accuracy_floor: share of answers that must be right; None for no floor.
        speed_only: runs without answers (random weights) may be used; the report says so.
    """

    accuracy_floor: float | None
    speed_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The file, checked. `power_price_per_kwh` and `pue` are None only where nothing is bought."""

    title: str
    currency: str
    offers: tuple[Offer, ...]
    power_price_per_kwh: Cell | None
    pue: Cell | None
    load: Load | None
    latency: Latency
    quality: Quality


def read_inputs(path: Path) -> Inputs:
    """A file of inputs.

    Raises:
        ValueError: one line for the first mistake: its key, its value and what is valid.
    """
    return parse_inputs(read_yaml(path, "inputs"), f"inputs {path}")


def parse_inputs(document: object, where: str = "inputs") -> Inputs:
    """Inputs as a document; `where` begins every message.

    Raises:
        ValueError: as `read_inputs`.
    """
    top = Entries.of(where, "", document, _KEYS)
    currency = top.text("currency")
    if not currency:
        raise ValueError(f"{top.at('currency')} is missing; it names the unit of every price: USD")
    offers = top.inner("offers", None)
    if offers is None or not offers.given:
        raise ValueError(f"{top.at('offers')} is missing; name at least one device with its price")
    utilisation = _utilisation(top)
    found = tuple(_offer(offers, name, currency, utilisation) for name in offers.given)
    _refuse_twins(offers, found)
    bought = next((offer.name for offer in found if not offer.is_rented), None)
    power_price = top.number(
        "power_price_per_kwh",
        ABOVE_ZERO,
        unit=f"{currency}/kWh",
        definition="price of electric power",
    )
    pue = top.number("pue", AT_LEAST_ONE, unit="", definition="power of the site over that of IT")
    for key, given in (("power_price_per_kwh", power_price), ("pue", pue)):
        if bought is not None and given is None:
            raise ValueError(f"{top.at(key)} is missing; offers.{bought} is bought and pays power")
    return Inputs(
        title=top.text("title"),
        currency=currency,
        offers=found,
        power_price_per_kwh=power_price,
        pue=pue,
        load=_load(top),
        latency=_latency(top),
        quality=_quality(top),
    )


def _utilisation(entries: Entries) -> Cell | None:
    return entries.number(
        "utilisation",
        SHARE,
        unit="",
        definition="share of the paid hours in which the device delivers at its measured rate",
    )


def _refuse_twins(offers: Entries, found: Sequence[Offer]) -> None:
    """Refuses offers that a report could not tell apart."""
    first: dict[str, str] = {}
    for offer in found:
        other = first.setdefault(offer.label, offer.name)
        if other != offer.name:
            raise ValueError(
                f"{offers.at(offer.name)}.label is {offer.label!r}, as that of {other}; give each"
                " offer a label of its own"
            )


def _offer(offers: Entries, name: str, currency: str, utilisation: Cell | None) -> Offer:
    own = offers.inner(name, _OFFER_KEYS)
    if own is None:
        raise ValueError(f"{offers.at(name)} is empty; valid: {', '.join(_OFFER_KEYS)}")
    stated = own.text("currency", currency)
    if stated != currency:
        raise ValueError(
            f"{own.at('currency')} is {stated!r} but the file's currency is {currency!r}; convert"
            " the price, nothing here knows exchange rates"
        )
    listed, reported = own.text("device"), own.text("reported_as")
    if listed:
        try:
            device(listed)
        except ValueError as error:
            raise ValueError(f"{own.at('device')}: {error}") from None
    elif not reported:
        raise ValueError(
            f"{own.at('device')} is missing; name a listed device, or in reported_as what a run"
            " calls its device"
        )
    own_utilisation = _utilisation(own)
    used = own_utilisation or utilisation
    if used is None:
        raise ValueError(
            f"{own.at('utilisation')} is missing; state it here or for the whole file: above 0 and"
            " at most 1"
        )
    price = own.number(
        "price_per_hour", ABOVE_ZERO, unit=f"{currency}/h", definition="rent, power included"
    )
    bought = own.number(
        "purchase_price", ABOVE_ZERO, unit=currency, definition="price with its share of the host"
    )
    if (price is None) == (bought is None):
        states = "neither is" if price is None else "both are"
        raise ValueError(
            f"{own.where}: {own.path} needs price_per_hour (rented) or purchase_price (bought);"
            f" {states} given"
        )
    years = None
    if bought is not None:
        years = own.required(
            "amortisation_years",
            ABOVE_ZERO,
            unit="years",
            definition="over which the price is spread",
            why="a purchase_price is spread over it",
        )
    elif own.given.get("amortisation_years") is not None:
        raise ValueError(f"{own.at('amortisation_years')} belongs to a purchase_price")
    powers = {
        key: own.number(key, NOT_NEGATIVE, unit="W", definition=definition)
        for key, definition in (
            ("host_power_w", "the host's share a device"),
            ("idle_power_w", "a device with nothing to do"),
            ("power_w", "a device under load"),
        )
    }
    if bought is not None and powers["host_power_w"] is None:
        raise ValueError(
            f"{own.at('host_power_w')} is missing; a bought device pays its host's power"
        )
    return Offer(
        name=name,
        label=own.text("label") or visible(name, keep=" "),
        device=listed or None,
        reported_as=reported or None,
        price_per_hour=price,
        purchase_price=bought,
        amortisation_years=years,
        **powers,
        rack_units=own.number(
            "rack_units", ABOVE_ZERO, unit="U", definition="rack units a device takes"
        ),
        utilisation=used,
        has_own_utilisation=own_utilisation is not None,
    )


def _load(top: Entries) -> Load | None:
    own = top.inner("load", _LOAD_KEYS)
    if own is None:
        return None
    rate = own.number(
        "requests_per_s", ABOVE_ZERO, unit="1/s", definition="mean arrivals of requests"
    )
    concurrency, reply = _distribution(own, "concurrency"), _distribution(own, "reply_tokens")
    if rate is None and concurrency is None:
        raise ValueError(f"{own.at('requests_per_s')} is missing; valid: it, concurrency, or both")
    if reply is None:
        raise ValueError(f"{own.at('reply_tokens')} is missing; a load needs its reply lengths")
    return Load(
        requests_per_s=rate,
        concurrency=concurrency,
        reply_tokens=reply,
        prompt_tokens=_distribution(own, "prompt_tokens"),
        steps_per_canvas=own.number(
            "steps_per_canvas",
            AT_LEAST_ONE,
            unit="steps",
            definition="denoise steps a canvas of the load's content",
        ),
    )


def _distribution(entries: Entries, key: str) -> Distribution | None:
    given = entries.given.get(key)
    if given is None:
        return None
    try:
        return parse(given)
    except ValueError as error:
        raise ValueError(f"{entries.at(key)} {error}") from None


def _latency(top: Entries) -> Latency:
    own = top.inner("latency", _LATENCY_KEYS)
    if own is None:
        return Latency(first_canvas_s=None, canvas_gap_s=None, end_to_end_s=None)
    return Latency(**{key: own.plain(key, ABOVE_ZERO) for key in _LATENCY_KEYS})


def _quality(top: Entries) -> Quality:
    own = top.inner("quality", _QUALITY_KEYS)
    if own is None:
        return Quality(accuracy_floor=None, speed_only=False)
    return Quality(
        accuracy_floor=own.plain("accuracy_floor", SHARE), speed_only=own.flag("speed_only")
    )
