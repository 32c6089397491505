"""The inputs of a buyer: what is read, and one clear line for every mistake."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from bench.procurement import inputs as module
from bench.procurement.cell import NumberClass
from bench.procurement.distribution import at, evenly, mean, parse
from bench.procurement.inputs import Inputs, parse_inputs, read_inputs
from bench.procurement.laws import Triangular, Uniform
from tests.bench.procurement.campaign import document


def with_offer(**keys: Any) -> dict[str, Any]:
    offer = {"device": "h200", "price_per_hour": 3.0} | keys
    kept = {key: value for key, value in offer.items() if value is not None}
    return document(offers={"a": kept})


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    assert module.__doc__
    lines = [line[4:] for line in module.__doc__.splitlines() if line.startswith("    ")]
    path = tmp_path / "inputs.yaml"
    path.write_text("\n".join(lines))

    found = read_inputs(path)

    rented, bought = found.offers
    assert (found.currency, rented.name, rented.is_rented, bought.is_rented) == (
        "USD",
        "h200-rented",
        True,
        False,
    )
    price = rented.price_per_hour
    assert price
    assert (price.value, price.low, price.high) == (3.0, 2.5, 3.8)
    assert (price.kind, price.source, price.unit) == (NumberClass.ASSUMED, "three quotes", "USD/h")
    assert price.law == Triangular(2.5, 3.0, 3.8)
    power = found.power_price_per_kwh
    assert power
    assert power.law == Uniform(0.1, 0.2)
    assert power.value == pytest.approx(0.15)
    assert found.load
    assert found.load.prompt_tokens
    assert found.load.concurrency
    assert found.load.steps_per_canvas
    assert found.load.steps_per_canvas.value == 16
    assert found.latency.canvas_gap_s == 0.5
    assert found.quality.accuracy_floor == 0.85


def test_steps_a_canvas_keep_range_class_and_source_and_are_unknown_where_unstated() -> None:
    load = {"requests_per_s": 1, "reply_tokens": 100}
    stated = {"low": 12, "mode": 14, "high": 20, "class": "published", "source": "a paper"}

    with_steps = parse_inputs(document(load=load | {"steps_per_canvas": stated})).load
    without = parse_inputs(document(load=load)).load

    assert with_steps
    assert without
    assert without.steps_per_canvas is None
    steps = with_steps.steps_per_canvas
    assert steps
    assert (steps.low, steps.value, steps.high, steps.unit) == (12, 14, 20, "steps")
    assert (steps.kind, steps.source) == (NumberClass.PUBLISHED, "a paper")
    assert steps.law == Triangular(12, 14, 20)


def test_a_class_and_a_source_stay_with_their_number() -> None:
    found = parse_inputs(
        with_offer(
            price_per_hour={"value": 2.99, "class": "published", "source": "<b>list</b> of May"}
        )
    )

    price = found.offers[0].price_per_hour
    assert price
    assert (price.kind, price.source) == (NumberClass.PUBLISHED, "<b>list</b> of May")


def test_an_offer_of_its_own_utilisation_does_not_take_the_files() -> None:
    found = parse_inputs(
        document(offers={"a": {**with_offer()["offers"]["a"], "utilisation": 0.9}})
    )

    assert found.offers[0].utilisation.value == 0.9
    assert found.offers[0].has_own_utilisation


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (document(offers=None), "inputs: offers is missing; name at least one device"),
        (document(currency=None), "inputs: currency is missing"),
        (document(curency="USD"), "inputs: curency is unknown; valid: title, currency, offers"),
        (with_offer(price_per_hour=None), "offers.a needs price_per_hour (rented) or purchase_pri"),
        (with_offer(price_per_hour=-1), "offers.a.price_per_hour is -1; it must be above 0"),
        (with_offer(price_per_hour=0), "offers.a.price_per_hour is 0; it must be above 0"),
        (with_offer(price_per_hour="3"), "offers.a.price_per_hour is '3'; it must be a number"),
        (with_offer(price_per_hour=True), "offers.a.price_per_hour is True; it must be a number"),
        (with_offer(price_per_hour=float("nan")), "price_per_hour is nan; it must be a number"),
        (with_offer(price_per_hour={"low": 3, "high": 2}), "low 3, mode 2.5, high 2; they must no"),
        (with_offer(price_per_hour={"low": -3, "high": 2}), "price_per_hour.low is -3; it must be"),
        (with_offer(price_per_hour={"low": 3}), "price_per_hour has low; valid: a number, {value"),
        (
            with_offer(price_per_hour={"value": 3, "class": "sure"}),
            "price_per_hour.class is 'sure'",
        ),
        (
            with_offer(price_per_hour={"value": 3, "class": "published"}),
            "price_per_hour.source is missing; a published number needs its source",
        ),
        (with_offer(purchase_price=9, amortisation_years=3), "(bought); both are given"),
        (
            with_offer(price_per_hour=None, purchase_price=9, host_power_w=1),
            "offers.a.amortisation_years is missing",
        ),
        (
            with_offer(price_per_hour=None, purchase_price=9, amortisation_years=3),
            "offers.a.host_power_w is missing",
        ),
        (with_offer(amortisation_years=3), "amortisation_years belongs to a purchase_price"),
        (with_offer(currency="EUR"), "offers.a.currency is 'EUR' but the file's currency is 'USD'"),
        (with_offer(device="h300"), "offers.a.device: device 'h300' is not listed; valid: h100"),
        (with_offer(device=None), "offers.a.device is missing; name a listed device"),
        (with_offer(utilisation=1.2), "offers.a.utilisation is 1.2; it must be above 0 and at mo"),
        (with_offer() | {"utilisation": None}, "offers.a.utilisation is missing"),
        (document(pue=0.9), "inputs: pue is 0.9; it must be 1 or more"),
        (document(pue=None), "inputs: pue is missing; offers.bought is bought and pays power"),
        (document(power_price_per_kwh=None), "power_price_per_kwh is missing"),
        (document(load={"reply_tokens": 9}), "load.requests_per_s is missing; valid: it, concur"),
        (document(load={"requests_per_s": 1}), "load.reply_tokens is missing"),
        (document(load={"requests_per_s": 1, "reply_tokens": [3, -1]}), "a list must hold number"),
        (
            document(load={"concurrency": 2, "reply_tokens": {"quantiles": {"p50": 9, "p90": 99}}}),
            "load.reply_tokens has quantiles p50, p90; they must reach from p50 or lower to p95",
        ),
        (
            document(load={"concurrency": 2, "reply_tokens": {"quantiles": {"p50": 9, "p95": 8}}}),
            "they must be above 0 and must not fall",
        ),
        (
            document(load={"concurrency": 2, "reply_tokens": {"lognormal": {"median": 9}}}),
            "load.reply_tokens has lognormal {'median': 9}; it must be {median: X, p95: Y}",
        ),
        (
            document(load={"concurrency": 2, "reply_tokens": 9, "steps_per_canvas": 0.5}),
            "load.steps_per_canvas is 0.5; it must be 1 or more",
        ),
        (document(latency={"first_canvas_s": 0}), "latency.first_canvas_s is 0; it must be above"),
        (document(quality={"accuracy_floor": 85}), "quality.accuracy_floor is 85; it must be abo"),
        (document(quality={"speed_only": "yes"}), "quality.speed_only is 'yes'; valid: true, fal"),
        ([1], "inputs is [1]; it must be a mapping of names"),
        (document(offers={"a": None}), "offers.a is empty; valid: device, reported_as"),
    ],
)
def test_every_mistake_is_one_line_with_its_key(given: Any, line: str) -> None:
    if isinstance(given, dict):
        given = {key: value for key, value in given.items() if value is not None}
    with pytest.raises(ValueError, match=r"^inputs") as caught:
        parse_inputs(given)

    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_yaml_or_says_a_key_twice_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "inputs.yaml"
    for text, line in (
        ("a: [", "is no YAML"),
        ("currency: USD\ncurrency: EUR\n", "key 'currency' stands twice, line 2"),
        ("offers: {a: {device: h200}, a: {device: h100}}", "key 'a' stands twice, line 1"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"inputs\.yaml") as caught:
            read_inputs(path)
        assert line in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be read"):
        read_inputs(tmp_path / "none.yaml")


def test_what_is_written_as_yaml_is_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "inputs.yaml"
    path.write_text(yaml.safe_dump(document(), sort_keys=False))

    assert read_inputs(path) == parse_inputs(document())
    assert isinstance(read_inputs(path), Inputs)


def test_distributions_give_back_what_they_were_given_by() -> None:
    lognormal = parse({"lognormal": {"median": 300, "p95": 1200}})
    quantiles = parse({"quantiles": {"p10": 60, "p50": 300, "p95": 1200}})
    listed = parse([4, 8, 8, 16])

    for given in (lognormal, quantiles):
        assert at(given, 0.5) == pytest.approx(300)
        assert at(given, 0.95) == pytest.approx(1200)
    assert at(quantiles, 0.3) == pytest.approx((60 * 300) ** 0.5)
    assert at(quantiles, 0.99) == pytest.approx(1200)
    assert mean(listed) == 9
    assert at(listed, 0.95) == 16
    sigma = np.log(4) / 1.6448536
    assert mean(lognormal) == pytest.approx(300 * np.exp(sigma**2 / 2), rel=0.01)
    assert evenly(parse(7), 3).tolist() == [7, 7, 7]


def test_offers_that_a_report_could_not_tell_apart_are_refused() -> None:
    offers = {
        "a": {"device": "h200", "label": "H200", "price_per_hour": 3},
        "b": {"device": "h100", "label": "H200", "price_per_hour": 2},
    }
    document = {"currency": "USD", "offers": offers, "utilisation": 0.5}
    with pytest.raises(ValueError, match=r"offers\.b\.label is 'H200', as that of a"):
        parse_inputs(document)
