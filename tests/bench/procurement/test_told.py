"""What the page says of the worked example and of studies like it: nothing beyond its numbers."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.procurement.command import procure
from bench.procurement.distribution import parse, words
from bench.procurement.inputs import Inputs, parse_inputs
from bench.procurement.laws import Draws
from bench.procurement.listing import tables, ways
from bench.procurement.listing_beside import inputs_table, published
from bench.procurement.pictures import _joules, _lines, _published
from bench.procurement.projected_crossings import curves_of
from bench.procurement.projection import Projector
from bench.procurement.study import Study, finalists_of, studied
from bench.procurement.told import summary
from bench.procurement.told_limits import without_effect
from bench.procurement.ways import at_steps, fit_on
from bench.procurement.work import memory_shape
from tests.bench.procurement.conftest import EXAMPLE

DRAWS = Draws(count=500)


def inputs(**changes: object) -> Inputs:
    """One rented and one bought H100; `changes` replace whole keys of the file."""
    bought = {"device": "h100", "purchase_price": 25000, "amortisation_years": 4}
    document: dict[str, object] = {
        "currency": "EUR",
        "offers": {
            "rented": {"device": "h100", "price_per_hour": 3},
            "bought": bought | {"host_power_w": 300, "power_w": 100},
        },
        "power_price_per_kwh": 0.2,
        "pue": 1.2,
        "utilisation": 0.5,
        "load": {"requests_per_s": 4, "reply_tokens": 400, "steps_per_canvas": 16},
    }
    return parse_inputs(document | changes)


@pytest.fixture(scope="module")
def small(by: Projector) -> Study:
    return studied(inputs(), [], [], by, lambda _: None, draws=DRAWS)


def test_a_stated_power_stands_for_a_projected_one(by: Projector, small: Study) -> None:
    rented, bought = (
        next(j for j in small.judged if j.way.offer.name == name) for name in ("rented", "bought")
    )
    assert rented.way.point.label == bought.way.point.label
    rate = bought.way.point.system_tok_per_s.value
    assert rate is not None
    assert bought.cells["joules_per_token"].value == pytest.approx(100 / rate)
    projected = rented.cells["joules_per_token"].value
    assert projected is not None
    assert projected > 2 * 100 / rate
    assert bought.cells["joules_per_token"].kind == "assumed"
    moved = at_steps(small.inputs, by, bought.way, 20).point
    assert moved.power_w.value is moved.joules_per_token.value is None


def test_the_energy_figure_has_every_point_that_the_table_has(small: Study) -> None:
    own = [j for j in small.judged if j.way.offer.name == "bought"]
    lines = _lines(own, _joules)
    drawn = sorted(cell.value or 0 for line in lines for cell in line.cells)
    assert drawn == sorted(j.cells["joules_per_token"].value or 0 for j in own)
    assert min(drawn) > 0


def test_inputs_without_effect_are_named(by: Projector, small: Study) -> None:
    assert without_effect(small) == []
    offers = {"rented": {"device": "h100", "price_per_hour": 3}}
    load = {"concurrency": 4, "reply_tokens": 400, "steps_per_canvas": 16}
    found = replace(small, inputs=inputs(offers=offers, load=load))
    named = {sentence.partition(":")[0] for sentence in without_effect(found)}
    assert named == {"Utilisation", "Power price", "PUE"}
    # Indeed: with a concurrency alone another utilisation is the same fleet at the same price.
    fleets = []
    for share in (0.2, 0.9):
        given = inputs(offers=offers, load=load, utilisation=share)
        best = studied(given, [], [], by, lambda _: None, draws=DRAWS).best
        assert best is not None
        assert best.fleet is not None
        fleets.append((best.fleet.devices.value, best.fleet.cost_per_month.value))
    assert fleets[0] == fleets[1]


def test_no_crossover_is_of_a_batch_that_does_not_fit(example: Study, by: Projector) -> None:
    curves = curves_of(example.inputs, by, memory_shape)
    assert any(curve.batch_sizes[-1] < 64 for curve in curves)
    assert any(curve.batch_sizes[-1] == 64 for curve in curves)
    models = {"diffusion": "diffusiongemma-26b-a4b", "autoregressive": "gemma-4-26b-a4b"}
    some = next(judged.way.point for judged in example.judged)
    for curve in curves:
        for size in curve.batch_sizes:
            point = replace(
                some,
                precision=curve.precision,
                batch_size=size,
                prompt_tokens=curve.prompt_tokens or 0,
                reply_tokens=curve.reply_tokens,
            )
            fit = fit_on(curve.device, point, memory_shape(models[curve.decoding]))
            assert fit is not None
            assert fit.fits, (curve.device, curve.precision, size)


def test_figures_of_a_drafter_say_so_and_are_no_point_of_the_plot(example: Study) -> None:
    frame = published(example).frame()
    drafted = frame[frame["value"].isin([389, 429])]
    assert len(drafted) == 2
    assert drafted["drafter"].str.contains("mtp").all()
    assert set(frame[frame["value"].isin([197, 213])]["drafter"]) == {"none"}
    assert "drafted by" in [column.name for column in published(example).on_page]
    own = [j for j in example.judged if j.way.offer.device == "h200"]
    shown = {cell.value for line in _published(example, own) for cell in line.cells}
    assert {213, 1288} <= shown
    assert 429 not in shown


def test_the_inputs_hold_lengths_and_limits_as_numbers(example: Study) -> None:
    frame = inputs_table(example.inputs).frame().set_index("input")
    assert frame["value"].notna().all()
    assert frame.loc["reply, mean", "value"] == pytest.approx(463, rel=0.01)
    assert "median 350, 95 % up to 1,200" in frame.loc["reply, mean", "source"]
    assert frame.loc["prompt, mean", "value"] == pytest.approx(1176, rel=0.01)
    assert frame.loc["limit end to end", "value"] == 10
    assert frame.loc["least accuracy", "value"] == 0.8
    bare = inputs_table(parse_inputs(_without("load", "latency"))).frame().set_index("input")
    assert list(bare.loc[["prompt, mean", "reply, mean"], "value"]) == [1024, 1024]
    # They stand on the sheet that is signed, too.
    basis = summary(example).basis
    assert "12 requests a second, replies of 463 tokens on average (lognormal, median 350" in basis


def _without(*keys: str) -> dict[str, object]:
    document = {
        "currency": "USD",
        "offers": {"one": {"device": "h100", "price_per_hour": 3}},
        "utilisation": 0.5,
    }
    return {key: value for key, value in document.items() if key not in keys}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (400, "all alike"),
        ([4, 8, 8, 16], "one of 4, 8, 8, 16"),
        ({"lognormal": {"median": 350, "p95": 1500}}, "lognormal, median 350, 95 % up to 1,500"),
        ({"quantiles": {"p10": 60, "p95": 1200}}, "10 % up to 60, 95 % up to 1,200"),
        (list(range(1, 21)), "one of 20 values, 1 to 20"),
    ],
)
def test_a_distribution_says_how_it_was_stated(given: object, said: str) -> None:
    assert words(parse(given)) == said


def test_of_two_stated_loads_the_one_that_decides_is_told(by: Projector) -> None:
    load = {"requests_per_s": 0.1, "reply_tokens": 400, "steps_per_canvas": 16}
    found = studied(
        inputs(load=load | {"concurrency": 500}), [], [], by, lambda _: None, draws=DRAWS
    )
    said = " ".join(summary(found).certainty)
    assert "the stated concurrency, whose 95th percentile has a slot each, decides how many" in said
    assert "the requests a second alone would take no more" in said
    ranked = next(table for table in tables(found) if table.name == "ranking").frame()
    assert set(ranked["decided_by"]) == {"concurrency"}


def test_a_way_that_is_cheaper_and_unsafe_says_so_among_every_way(example: Study) -> None:
    table = ways(example)
    assert "serves" in [column.name for column in table.on_page]
    frame = table.frame()
    cheapest = example.finalists[0].judged.way
    row = frame[
        frame["offer"].eq(cheapest.offer.label)
        & frame["batch_size"].eq(cheapest.point.batch_size)
        & frame["decoding"].eq(cheapest.point.decoding)
        & frame["precision"].eq(cheapest.point.precision)
    ].iloc[0]
    assert row["is_allowed"]
    assert row["share_served"] == pytest.approx(example.finalists[0].share_served)
    assert row["share_served"] < 0.95


def test_reasons_lose_their_figures_whatever_those_look_like(by: Projector) -> None:
    given = inputs(
        load={"requests_per_s": 4, "reply_tokens": 900_000, "steps_per_canvas": 16},
        latency={"end_to_end_s": 0.5},
    )
    found = studied(given, [], [], by, lambda _: None, draws=DRAWS)
    assert found.why_none.endswith("keeps what was asked: end to end")
    assert not any("e+" in reason for judged in found.judged for reason in judged.reasons)


def test_ways_that_cost_the_same_say_so_and_the_surer_one_is_chosen(small: Study) -> None:
    best = small.best
    assert best is not None
    assert best.fleet is not None
    half = replace(best.fleet, device_draws=best.fleet.device_draws.copy())
    half.device_draws[:10] = np.inf
    other = replace(
        best.judged,
        fleet=half,
        way=replace(best.judged.way, offer=replace(best.judged.way.offer, name="z", label="Z")),
    )
    twins = tuple(
        replace(best, judged=judged, share_cheapest=0.5) for judged in (best.judged, other)
    )
    said = summary(replace(small, finalists=twins)).certainty[0]
    assert "costs the same; one of the 2 is the cheapest in 100 %" in said
    assert "this one keeps the limits more often" in said
    # Of equal costs the surer comes first, then the measured one.
    surer = replace(other, times=replace(other.times, share_feasible=1.0))
    less = replace(best.judged, times=replace(best.judged.times, share_feasible=0.97))
    assert finalists_of([less, surer])[0] is surer


def test_of_fleets_at_one_price_the_surer_is_recommended(by: Projector) -> None:
    offers = {"h100": {"device": "h100", "price_per_hour": 3.2}}
    load = {"requests_per_s": 6, "reply_tokens": 300, "prompt_tokens": 900, "steps_per_canvas": 14}
    given = inputs(offers=offers, load=load, utilisation=0.6, latency={"end_to_end_s": 20})
    found = studied(given, [], [], by, lambda _: None, draws=DRAWS)
    first, second = found.finalists[:2]
    assert first.judged.cost == second.judged.cost
    assert first.share_served > second.share_served
    assert found.best is first
    assert "costs the same" in summary(found).certainty[0]


def test_no_table_of_the_page_shows_a_name_of_the_code(small: Study, example: Study) -> None:
    for study in (small, example):
        for table in (*tables(study), inputs_table(study.inputs)):
            shown = [(c.text, c.note) for row in table.shown for c in row]
            said = " ".join(part for pair in shown for part in pair) + table.left_out
            assert not re.findall(r"\b\w+_(?:s|w|wh|tok|hour|token|power)\b", said), table.name


def test_an_accuracy_that_was_asked_for_is_not_called_unasked(example: Study) -> None:
    assert example.inputs.quality.accuracy_floor
    said = summary(example).changes[-1]
    assert said == (
        "Answers of which fewer than 80.0 % are right: asked, and set aside by quality.speed_only."
    )


def test_the_first_sheet_names_every_offer_by_its_best_safe_way(example: Study) -> None:
    leaders = summary(example).ranking
    assert leaders is not None
    frame = leaders.frame()
    assert set(frame["offer"]) == {offer.label for offer in example.inputs.offers}
    cheapest = example.finalists[0].judged.way.offer.label
    for offer, own in frame.groupby("offer"):
        safe = [f for f in example.finalists if f.judged.way.offer.label == offer and f.is_safe]
        assert own["share_served"].max() >= 0.95 or not safe or offer == cheapest


def test_an_accuracy_that_cannot_be_answered_says_what_to_do(by: Projector) -> None:
    given = inputs(quality={"accuracy_floor": 0.9})
    found = studied(given, [], [], by, lambda _: None, draws=DRAWS)
    said = " ".join(summary(found).changes)
    assert "--runs" in said
    assert "quality.speed_only: true" in said


def test_the_terminal_and_the_signed_sheet_carry_the_warnings(
    example: Study, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.procurement.command.PICTURES", ())
        patch.setattr("bench.procurement.command.study_of", lambda *_: example)
        procure(EXAMPLE / "inputs.yaml", [], tmp_path, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines[:-1])) <= 100
    assert "Before signing: Nothing here was measured. Answers were not judged." in lines
    page = (tmp_path / "report.html").read_text("utf-8")
    assert page.index("Before signing:") < page.index("Prepared by")
    assert "Nothing here was measured. Answers were not judged" in page
    assert ".: " not in page
