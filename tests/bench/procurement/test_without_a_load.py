"""Latency limits without a load: judged of a request in a full batch, and claimed as no more."""

import pytest

from bench.procurement.inputs import Inputs, parse_inputs
from bench.procurement.laws import Draws
from bench.procurement.listing import ways
from bench.procurement.projection import Projector
from bench.procurement.study import Study, studied
from bench.procurement.told import summary
from bench.procurement.told_limits import notices

DRAWS = Draws(count=500)


def inputs(**latency: float) -> Inputs:
    """One offer and no load: the sibling alone is projected."""
    offers = {"h100": {"device": "h100", "label": "H100", "price_per_hour": 3.2}}
    document = {"currency": "USD", "offers": offers, "utilisation": 0.6, "latency": latency}
    return parse_inputs(document)


def study(by: Projector, **latency: float) -> Study:
    return studied(inputs(**latency), [], [], by, lambda _: None, draws=DRAWS)


@pytest.mark.parametrize(
    ("name", "limit_s", "said"),
    [
        ("end_to_end_s", 0.001, "end to end"),
        ("first_canvas_s", 0.001, "first delivery"),
        ("canvas_gap_s", 0.0001, "gap"),
    ],
)
def test_a_limit_that_no_way_keeps_leaves_no_answer(
    by: Projector, name: str, limit_s: float, said: str
) -> None:
    found = study(by, **{name: limit_s})
    assert found.best is None
    assert {judged.is_allowed for judged in found.judged} == {False}
    assert found.why_none == f"none of {len(found.judged)} ways keeps what was asked: {said}"
    (change,) = summary(found).changes
    assert f"over {limit_s:g}" in change or "over 0.00100" in change
    assert "the quickest takes" in change


def test_a_way_is_allowed_where_its_own_request_keeps_the_limit(by: Projector) -> None:
    free = study(by)
    times = sorted(j.times.end_to_end_p95_s.value or 0 for j in free.judged)
    limit_s = times[len(times) // 2] * 1.01
    found = study(by, end_to_end_s=limit_s)
    for judged in found.judged:
        value = judged.times.end_to_end_p95_s.value
        assert value == pytest.approx(judged.way.point.end_to_end_s.value, rel=0.02)
        assert judged.times.end_to_end_p95_s.kind is judged.way.point.end_to_end_s.kind
        assert judged.is_allowed == (value is not None and value <= limit_s)
    assert {judged.is_allowed for judged in found.judged} == {True, False}
    best, unlimited = found.best, free.best
    assert best is not None
    assert unlimited is not None
    assert best.is_safe
    assert best.judged.cost > unlimited.judged.cost


def test_what_is_claimed_is_of_one_request_that_waits_for_nobody(by: Projector) -> None:
    found = study(by, end_to_end_s=60)
    lead = " ".join(summary(found).lead)
    assert "No load is stated: of a request in a full batch, with a reply of 1,024 tokens" in lead
    assert "for 95 % of requests" not in lead
    assert "Diffusion was not projected" in [n.title for n in notices(found) if n.serious]
    assert "No load is stated" in [n.title for n in notices(found) if n.serious]
    assert "No load is stated" not in [n.title for n in notices(study(by))]
    shown = [column.key for column in ways(found).on_page]
    assert {"share_served", "end_to_end_p95_s"} <= set(shown)


def test_a_limit_is_kept_in_a_share_of_draws_and_the_choice_rests_on_it(by: Projector) -> None:
    free = study(by)
    assert free.best is not None
    at_s = free.best.judged.times.end_to_end_p95_s.value
    assert at_s is not None
    tight = study(by, end_to_end_s=1.001 * at_s)
    cheapest = tight.finalists[0]
    assert cheapest.judged.way.key == free.best.judged.way.key
    assert 0.2 < cheapest.share_served < 0.8
    assert tight.best is not None
    assert tight.best.is_safe
    assert tight.best is not cheapest
    assert any("misses the limits in" in sentence for sentence in summary(tight).lead)


def test_slower_than_the_limit_is_no_choice_any_more(by: Projector) -> None:
    free = study(by)
    assert free.best is not None
    at_s = free.best.judged.times.end_to_end_p95_s.value
    assert at_s is not None
    found = study(by, end_to_end_s=1.2 * at_s)
    assert found.best is not None
    source = found.best.judged.way.point.source
    bars = [s.bar for s in found.swings if s.bar.key == f"{source}/times"]
    own_s = found.best.judged.times.end_to_end_p95_s.value
    assert own_s is not None
    # At the slow end of its projection it would break the limit, which no price makes up for.
    assert bars[0].high * own_s > 1.2 * at_s
    assert bars[0].cost_high == float("inf")
