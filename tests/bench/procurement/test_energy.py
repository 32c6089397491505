"""Energy of tokens, of the device and of its site, and tokens a watt and a rack unit."""

from dataclasses import replace

import pytest

from bench.procurement.energy import energy_cells
from bench.procurement.laws import Draws
from bench.procurement.measured import measured_points
from tests.bench.procurement.campaign import Device, campaign, inputs
from tests.bench.procurement.points import cell, point

DRAWS = Draws(count=2000)


def test_energy_is_that_of_a_calculation_by_hand() -> None:
    given = inputs()
    rented, bought = given.offers

    found = energy_cells(given, bought, point(), DRAWS)

    assert found["joules_per_token"].value == pytest.approx(0.6)
    assert found["tok_per_s_per_w"].value == pytest.approx(1 / 0.6)
    assert found["tok_per_s_per_rack_unit"].value == pytest.approx(500)
    # Always 350 W, 100 W in the idle half of the hours; tokens come in the other half.
    site = 1.3 * (0.6 + (350 + 100 * 0.5) / (1000 * 0.5))
    assert found["site_joules_per_token"].value == pytest.approx(site)
    assert energy_cells(given, rented, point(), DRAWS)["site_joules_per_token"].value is None


def test_power_over_rate_stands_in_where_no_energy_was_measured() -> None:
    given = inputs()
    offer = replace(given.offers[0], power_w=cell(700.0))

    measured = energy_cells(given, offer, point(joules_per_token=cell(None)), DRAWS)
    stated = energy_cells(
        given, offer, point(joules_per_token=cell(None), power_w=cell(None)), DRAWS
    )

    assert measured["joules_per_token"].value == pytest.approx(0.6)
    assert measured["joules_per_token"].definition == "the device's power under load over its rate"
    assert stated["joules_per_token"].value == pytest.approx(0.7)


def test_energy_and_rate_of_one_run_vary_together() -> None:
    given = inputs()
    device = Device(process_sd=0.05, power_sd=0.001)
    points, _ = measured_points(campaign(device, 3, processes=6, prompts=40))
    found = energy_cells(given, given.offers[0], points[0], DRAWS)

    # At a steady power, J a token times tok/s is that power: its spread is the power's alone.
    joules, rate = points[0].joules_per_token.law, points[0].system_tok_per_s.law
    assert joules
    assert rate
    watts = joules.draw(DRAWS, "") * rate.draw(DRAWS, "")
    assert watts.std() / watts.mean() < 0.2 * joules.draw(DRAWS, "").std() / 0.6
    energy = found["joules_per_token"]
    assert energy.low
    assert energy.high
    assert energy.low < device.joules_per_token < energy.high


def test_an_unknown_energy_keeps_the_reason_of_its_window() -> None:
    run = campaign(Device(), 3, processes=3, prompts=9, energy=False)
    points, _ = measured_points(run)

    assert points[0].joules_per_token.value is None
    assert points[0].joules_per_token.why_unknown == "no counter"
    given = inputs()
    assert energy_cells(given, given.offers[0], points[0], DRAWS)["joules_per_token"].value is None
