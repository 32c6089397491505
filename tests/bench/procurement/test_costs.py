"""Prices of tokens and of right answers: by hand, by class, and what is refused."""

from dataclasses import replace

import pytest

from bench.procurement.cell import NumberClass
from bench.procurement.command import check_comparable, check_quality
from bench.procurement.costs import cost_cells
from bench.procurement.inputs import Quality
from bench.procurement.laws import Draws
from bench.procurement.measured import measured_points
from bench.store import open_run
from tests.bench.procurement.campaign import Device, campaign, inputs
from tests.bench.procurement.points import cell, point

DRAWS = Draws(count=2000)
H200 = "results/published/nvidia-h200-2026-11-26/fixed_work"


def test_prices_are_those_of_a_calculation_by_hand() -> None:
    given = inputs()
    rented, bought = given.offers

    # 3.00 an hour, 1,000 tok/s in half of the hours.
    assert cost_cells(given, rented, point(), DRAWS)["cost_per_mtok"].value == pytest.approx(
        3.0 / (1000 * 3600 * 0.5) * 1e6
    )
    # 32,000 over four years, 350 W always and 100 W idle half of the time, 0.6 J a token.
    hourly = 32000 / (4 * 8766) + (0.35 + 0.1 * 0.5) * 1.3 * 0.2
    energy = 0.6 * 1.3 * 0.2 / 3.6e6 * 1e6
    found = cost_cells(given, bought, point(), DRAWS)
    assert found["cost_per_mtok"].value == pytest.approx(hourly / 1.8 + energy)
    assert found["cost_per_correct_answer"].value == pytest.approx(
        (hourly / 1.8 + energy) / 1e6 * 500
    )


def test_without_idle_power_idle_hours_cost_nothing_and_power_stands_in_for_energy() -> None:
    given = inputs()
    bought = replace(given.offers[1], idle_power_w=None)
    measured_power = point(joules_per_token=cell(None))

    hourly = 32000 / (4 * 8766) + 0.35 * 1.3 * 0.2
    found = cost_cells(given, bought, measured_power, DRAWS)["cost_per_mtok"]
    assert found.value == pytest.approx(hourly / 1.8 + 0.6 * 1.3 * 0.2 / 3.6)

    unknown = point(joules_per_token=cell(None), power_w=cell(None))
    assert cost_cells(given, bought, unknown, DRAWS)["cost_per_mtok"].value is None


def test_a_number_is_of_the_weakest_class_that_went_into_it() -> None:
    published = {"value": 3.0, "class": "published", "source": "price list"}
    used = {"value": 0.5, "class": "measured", "source": "our meter"}
    given = inputs(
        offers={"a": {"device": "h200", "price_per_hour": published, "utilisation": used}}
    )
    found = cost_cells(given, given.offers[0], point(), DRAWS)["cost_per_mtok"]
    assert found.kind is NumberClass.PUBLISHED

    projected = replace(cell(1000.0), kind=NumberClass.PROJECTED)
    at = point(system_tok_per_s=projected)
    assert cost_cells(given, given.offers[0], at, DRAWS)["cost_per_mtok"].kind == "projected"
    given = inputs()
    assert cost_cells(given, given.offers[0], point(), DRAWS)["cost_per_mtok"].kind == "assumed"


def test_the_range_of_a_price_is_the_range_of_the_cost() -> None:
    prices = {"low": 2, "mode": 3, "high": 4}
    given = inputs(offers={"a": {"device": "h200", "price_per_hour": prices}})

    found = cost_cells(given, given.offers[0], point(), Draws())["cost_per_mtok"]

    # Quantiles of a triangle between 2 and 4: sqrt(0.025 x 2 x 1) from its ends.
    spread = 0.05**0.5
    limits = ((2 + spread) / 1.8, (4 - spread) / 1.8)
    assert (found.low, found.high) == pytest.approx(limits, rel=0.01)


def test_a_price_of_one_process_has_no_interval_and_says_why() -> None:
    given = inputs()
    points, _ = measured_points(campaign(Device(), 1, processes=1, prompts=30))

    found = cost_cells(given, given.offers[0], points[0], DRAWS)["cost_per_mtok"]

    assert (found.low, found.high) == (None, None)
    assert found.why_no_interval == "one process (tokens a second)"


def test_random_weights_have_a_speed_and_no_right_answer() -> None:
    given = inputs()
    points, _ = measured_points(campaign(Device(), 1, processes=3, prompts=9, weights="dummy"))

    found = cost_cells(given, given.offers[0], points[0], DRAWS)

    assert found["cost_per_mtok"].value is not None
    assert found["cost_per_correct_answer"].value is None
    check_quality(points, Quality(accuracy_floor=0.8, speed_only=True))
    check_quality(points, Quality(accuracy_floor=None, speed_only=False))
    with pytest.raises(ValueError, match=r"campaign-1 p has random weights.*accuracy_floor 0\.8"):
        check_quality(points, Quality(accuracy_floor=0.8, speed_only=False))


def test_rates_of_other_definitions_and_other_work_are_refused() -> None:
    check_comparable([point(), point(work="text with eos_policy=stop")])
    with pytest.raises(ValueError, match="rate is 'decode_tok_per_s' and 'delivered_tok_per_s'"):
        check_comparable([point(), point(definition="decode_tok_per_s")])
    with pytest.raises(ValueError, match="work was 'fixed_work' and 'text'"):
        check_comparable([point(work="text"), point(work="fixed_work")])
    projected = point(work="fixed_work", kind=NumberClass.PROJECTED)
    check_comparable([point(work="text"), projected])


def test_rehearsals_and_simulations_are_refused_and_invalid_points_left_out() -> None:
    rehearsal = campaign(Device(), 1, processes=2, prompts=9)
    rehearsal.info["config"] = {"p": {"rehearsal": True}}
    with pytest.raises(ValueError, match="campaign-1 is a rehearsal"):
        measured_points(rehearsal)
    with pytest.raises(ValueError, match="campaign-1 is a simulation"):
        measured_points(campaign(Device(), 1, processes=2, prompts=9, backend="simulated"))
    with pytest.raises(ValueError, match=r"no usable point: campaign-1 p: throttled"):
        measured_points(
            campaign(
                Device(),
                1,
                processes=2,
                prompts=9,
                validity="invalid",
                validity_reason="throttled",
            )
        )


def test_a_served_load_has_the_rate_of_all_its_connections_and_is_not_mixed_with_batches() -> None:
    run = campaign(Device(), 1, processes=3, prompts=9, backend="openai", connections=4)
    served, _ = measured_points(run)
    requests, windows = run.requests, run.table("windows")
    assert requests is not None
    assert windows is not None

    assert (served[0].batch_size, served[0].label) == (4, "diffusion fp8, 4 connections")
    rates = requests.groupby("process_id")["delivered_tokens"].sum() / windows["window_s"]
    assert served[0].system_tok_per_s.value == pytest.approx(rates.prod() ** (1 / 3))
    batch, _ = measured_points(campaign(Device(), 2, processes=3, prompts=9))
    with pytest.raises(ValueError, match="rate is 'delivered_tok_per_s' and 'system_tok_per_s'"):
        check_comparable([*served, *batch])
    open_load = campaign(Device(), 1, processes=3, prompts=9, backend="openai", connections=None)
    with pytest.raises(ValueError, match="an open load has no batch"):
        measured_points(open_load)


def test_a_published_run_gives_what_its_report_says() -> None:
    run = open_run(H200)
    points, left_out = measured_points(run)

    assert (len(points), left_out) == (4, [])
    rows = run.points.set_index(["decoding", "precision"])
    for found in points:
        row = rows.loc[(found.decoding, found.precision)]
        assert found.device == "h200"
        rate = found.system_tok_per_s
        assert rate.value == pytest.approx(row["delivered_tok_per_s"], rel=1e-4)
        if row["num_processes"] > 1:
            assert (rate.low, rate.high) == pytest.approx(
                (row["delivered_tok_per_s_lo"], row["delivered_tok_per_s_hi"])
            )
        else:
            assert rate.low is None
        assert found.accuracy.value is None
        assert "random weights" in found.accuracy.why_unknown
        expected = 256 if found.decoding == "diffusion" else 1
        assert found.tokens_per_delivery == expected
        assert found.op_floor_tok_per_s is not None
        assert rate.value < found.op_floor_tok_per_s
