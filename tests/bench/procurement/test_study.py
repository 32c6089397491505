"""Ways, ranking and tornado of a study: what is measured stays, errors are shared as stated."""

from dataclasses import replace

import numpy as np
import pytest

from bench.procurement.cell import Cell, NumberClass
from bench.procurement.inputs import Inputs, parse_inputs
from bench.procurement.laws import Draws
from bench.procurement.projection import Projector, Setting
from bench.procurement.study import Judged, Study, finalists_of, studied
from bench.procurement.swings import cost_of, swings
from bench.procurement.told_limits import notices
from bench.procurement.ways import (
    at_speed,
    at_steps,
    projected_point,
    projected_ways,
    without_steps,
)

DRAWS = Draws(count=1_000)
STEPS = Cell(16, 12, 24, NumberClass.PUBLISHED, "steps", "steps a canvas")


def inputs(**changes: object) -> Inputs:
    """Two offers and a load; `changes` replace whole keys of the file."""
    document: dict[str, object] = {
        "currency": "USD",
        "offers": {
            "h200": {"device": "h200", "price_per_hour": {"low": 3, "mode": 4, "high": 5}},
            "h100": {"device": "h100", "price_per_hour": {"low": 2, "mode": 3, "high": 4}},
        },
        "utilisation": 0.5,
        "load": {
            "requests_per_s": 4,
            "reply_tokens": 400,
            "steps_per_canvas": {"low": 12, "mode": 16, "high": 24},
        },
    }
    return parse_inputs(document | changes)


@pytest.fixture(scope="module")
def study(by: Projector) -> Study:
    return studied(inputs(), [], [], by, lambda _: None, draws=DRAWS)


def point(by: Projector, device: str, decoding: str, steps: Cell | None = None) -> object:
    setting = Setting(device=device, decoding=decoding, precision="fp8", batch_size=4, steps=16)
    return projected_point(by, setting, steps)


def rates(by: Projector, device: str, decoding: str, steps: Cell | None = None) -> np.ndarray:
    law = point(by, device, decoding, steps).system_tok_per_s.law  # type: ignore[attr-defined]
    return np.asarray(law.draw(DRAWS, ""))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(np.log(a), np.log(b))[0, 1])


def test_a_devices_projections_err_together_and_two_devices_independently(by: Projector) -> None:
    own = rates(by, "h200", "diffusion")
    assert correlation(own, rates(by, "h200", "autoregressive")) > 0.95
    assert abs(correlation(own, rates(by, "h100", "diffusion"))) < 0.1


def test_steps_a_canvas_widen_a_diffusion_projection_and_leave_the_sibling(by: Projector) -> None:
    exact = replace(STEPS, low=None, high=None)
    assert (
        np.log(rates(by, "h200", "diffusion", STEPS)).std()
        > 1.02 * np.log(rates(by, "h200", "diffusion", exact)).std()
    )
    assert (
        rates(by, "h200", "autoregressive", STEPS) == rates(by, "h200", "autoregressive", exact)
    ).all()


def test_more_steps_take_as_much_longer_as_another_projection_says(by: Projector) -> None:
    law = point(by, "h200", "diffusion", STEPS).first_canvas_s.law  # type: ignore[attr-defined]
    setting = Setting(device="h200", decoding="diffusion", precision="fp8", batch_size=4, steps=24)
    further = by.project(setting).point.first_canvas_s.value
    assert further is not None
    assert law.value * (1 + law.slope * 8) == pytest.approx(further, rel=0.01)


def test_the_best_is_the_cheapest_allowed_way(study: Study) -> None:
    best = study.best
    assert best is not None
    allowed = [judged for judged in study.judged if judged.is_allowed]
    assert best.judged.cost == min(judged.cost for judged in allowed)
    keys = [(f.judged.way.offer.name, f.judged.way.point.decoding) for f in study.finalists]
    assert len(keys) == len(set(keys)) == 4
    assert sum(f.share_cheapest or 0 for f in study.finalists) == pytest.approx(1)


def test_the_best_of_an_offer_is_its_cheapest_safe_way_and_the_cheapest_of_all_stays(
    study: Study,
) -> None:
    """Shares are made up; costs are those of the study's ways."""
    way, *_ = study.judged

    def judged(offer: str, cost: float, share: float, *, is_allowed: bool = True) -> Judged:
        assert way.times is not None
        assert way.fleet is not None
        times = replace(way.times, share_feasible=share)
        month = replace(way.fleet.cost_per_month, value=cost)
        fleet = replace(way.fleet, cost_per_month=month)
        own = replace(way.way, offer=replace(way.way.offer, name=offer))
        return replace(way, way=own, times=times, fleet=fleet, is_allowed=is_allowed)

    refused = judged("a", 1, 1, is_allowed=False)
    risky, safe, dearer = judged("a", 2, 0.9), judged("a", 4, 0.95), judged("a", 5, 1)
    hopeless, worse = judged("b", 3, 0.5), judged("b", 3, 0.4)
    found = finalists_of([dearer, worse, safe, refused, hopeless, risky])
    assert [(each.cost, each.share_kept) for each in found] == [(2, 0.9), (3, 0.5), (4, 0.95)]


def test_beyond_a_switch_another_way_is_the_cheapest(by: Projector, study: Study) -> None:
    ways = [finalist.judged.way for finalist in study.finalists]
    counts = [finalist.fleet.devices.value or 0 for finalist in study.finalists if finalist.fleet]
    first = ways[0]
    (speed,) = [s for s in study.swings if s.bar.key == f"{first.point.source}/times"]
    at = speed.bar.switches_at
    assert at is not None
    assert at > 1
    others = min(
        cost_of(study.inputs, way, count) for way, count in zip(ways[1:], counts[1:], strict=True)
    )
    assert cost_of(study.inputs, at_speed(first, 1.001 * at), counts[0]) >= others
    assert cost_of(study.inputs, at_speed(first, 1 + 0.9 * (at - 1)), counts[0]) <= others
    assert speed.becomes
    assert speed.becomes != first.short


def test_the_steps_bar_costs_what_a_projection_at_its_ends_costs(
    by: Projector, study: Study
) -> None:
    ways = [finalist.judged.way for finalist in study.finalists]
    found = swings(study.inputs, by, ways, [1.0] * len(ways))
    (steps,) = [s for s in found if s.bar.key == "load.steps_per_canvas"]
    first = ways[0]
    assert (steps.bar.low, steps.bar.high) == (12, 24)
    moved = at_steps(study.inputs, by, first, 24)
    assert steps.bar.cost_high == cost_of(study.inputs, moved)
    assert without_steps(first).point.first_canvas_s.high < first.point.first_canvas_s.high  # type: ignore[operator]


def test_diffusion_is_not_projected_without_steps(by: Projector) -> None:
    given = inputs(load={"requests_per_s": 4, "reply_tokens": 400})
    found = projected_ways(given, by, lambda _: None, [])
    assert {way.point.decoding for way in found} == {"autoregressive"}
    study = studied(given, [], [], by, lambda _: None, draws=DRAWS)
    assert any("load.steps_per_canvas is not stated" in each.text for each in notices(study))


def test_a_quality_floor_that_nothing_is_known_to_reach_leaves_no_answer(by: Projector) -> None:
    offers = {"h200": {"device": "h200", "price_per_hour": 4}}
    given = inputs(quality={"accuracy_floor": 0.9}, offers=offers)
    found = studied(given, [], [], by, lambda _: None, draws=DRAWS)
    assert found.best is None
    assert "accuracy" in found.why_none
    assert {judged.is_allowed for judged in found.judged} == {None}


def test_without_a_load_ways_are_ranked_by_the_price_of_tokens(by: Projector) -> None:
    given = replace(inputs(), load=None)
    found = studied(given, [], [], by, lambda _: None, draws=DRAWS)
    assert found.best is not None
    assert found.best.fleet is None
    prices = [judged.cells["cost_per_mtok"].value for judged in found.judged]
    assert found.best.judged.cells["cost_per_mtok"].value == min(p for p in prices if p)
