"""The tornado: what moves the price most, and where another option becomes the cheapest."""

from dataclasses import replace

import pytest

from bench.procurement.costs import cost_cells
from bench.procurement.laws import Draws
from bench.procurement.sensitivity import Option, tornado
from tests.bench.procurement.campaign import inputs
from tests.bench.procurement.points import cell, point


def options(**other: object) -> list[Option]:
    given = inputs(**other)
    return [Option(offer.name, given, offer, point()) for offer in given.offers]


def test_bars_are_the_price_at_the_ends_and_the_longest_comes_first() -> None:
    given = inputs(
        offers={
            "a": {"device": "h200", "price_per_hour": {"low": 2, "mode": 3, "high": 5}},
        },
        utilisation={"low": 0.4, "mode": 0.5, "high": 0.6},
    )
    offer = given.offers[0]
    rate = cell(1000.0, 950.0, 1050.0)
    bars = tornado([Option("a", given, offer, point(system_tok_per_s=rate))])

    assert [bar.key for bar in bars] == ["offers.a.price_per_hour", "utilisation", "run/rate"]
    price = bars[0]
    assert (price.low, price.value, price.high) == (2, 3, 5)
    assert price.cost_low == pytest.approx(2 / 1.8)
    assert price.cost_high == pytest.approx(5 / 1.8)
    assert (price.is_assumed_change, price.switches_at) == (False, None)
    assert bars[2].cost_low == pytest.approx(3 / (0.95 * 1.8))


def test_a_number_without_limits_moves_by_a_tenth_within_its_bounds() -> None:
    found = {bar.key: bar for bar in tornado(options(utilisation=0.95, pue=1.05))}

    assert (found["utilisation"].low, found["utilisation"].high) == (pytest.approx(0.855), 1.0)
    assert found["utilisation"].is_assumed_change
    assert found["pue"].low == 1.0


def test_the_value_at_which_the_cheapest_changes_is_found() -> None:
    offers = {
        "first": {"device": "h200", "price_per_hour": {"low": 2.0, "mode": 2.5, "high": 4.0}},
        "second": {"device": "h200", "price_per_hour": 3.0},
    }
    bars = {bar.key: bar for bar in tornado(options(offers=offers))}

    moved = bars["offers.first.price_per_hour"]
    assert moved.switches_at == pytest.approx(3.0, abs=0.02)
    assert bars["utilisation"].switches_at is None  # both pay for it alike
    assert "offers.second.price_per_hour" not in bars  # a tenth cheaper it still is dearer


def test_with_a_load_the_bars_are_of_the_month() -> None:
    load = {"requests_per_s": {"low": 5, "mode": 10, "high": 40}, "reply_tokens": 1024}
    bars = {bar.key: bar for bar in tornado(options(load=load))}

    rate = bars["load.requests_per_s"]
    assert rate.cost_high > 3 * rate.cost_low


def test_devices_that_are_there_in_any_case_cost_as_much_and_more_come_where_needed() -> None:
    load = {"requests_per_s": {"low": 5, "mode": 10, "high": 40}, "reply_tokens": 1024}
    given = inputs(load=load)
    option = Option("rented", given, given.offers[0], point(), devices=20)
    rate = {bar.key: bar for bar in tornado([option])}["load.requests_per_s"]

    # 5 a second take 7 devices and 40 take 50.
    assert rate.cost_low == pytest.approx(20 * 3.0 * 730.5)
    assert rate.cost_high == pytest.approx(50 * 3.0 * 730.5)


def test_where_nothing_can_serve_there_is_no_tornado() -> None:
    load = {"requests_per_s": 1, "reply_tokens": 1024}
    assert tornado(options(load=load, latency={"first_canvas_s": 0.5})) == []
    assert tornado([]) == []


def test_an_option_that_falls_out_of_reach_is_a_switch() -> None:
    load = {"requests_per_s": 1, "reply_tokens": 1024}
    given = inputs(load=load, latency={"first_canvas_s": 1.05})
    first = cell(1.0, 0.9, 1.1)
    only = Option("only", given, given.offers[0], point(first_canvas_s=first))

    bars = {bar.key: bar for bar in tornado([only])}

    wait = bars["run/first_canvas_p95_s"]
    assert wait.swing == float("inf")
    assert wait.switches_at == pytest.approx(1.05, abs=0.005)


def test_the_costs_are_those_of_the_report() -> None:
    given = inputs()
    option = Option("rented", given, given.offers[0], point())
    bar = {bar.key: bar for bar in tornado([option])}["offers.rented.price_per_hour"]
    dearer = replace(given.offers[0], price_per_hour=cell(bar.high))

    found = cost_cells(given, dearer, point(), Draws(count=10))["cost_per_mtok"]

    assert found.value == pytest.approx(bar.cost_high)
