"""`canvasbench procure`: the worked example, exit codes, refusals, JSON, hostile inputs."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from bench import cli, open_run
from bench.procurement.command import NOT_ANSWERED, plain, procure, study_of
from bench.procurement.fleet import SAFE_SHARE
from bench.procurement.inputs import read_inputs
from bench.procurement.listing import ranking, tables
from bench.procurement.listing_beside import inputs_table
from bench.procurement.pictures import PICTURES
from bench.procurement.study import Study
from bench.procurement.tables import write_tables
from bench.procurement.told import answer, summary
from bench.procurement.told_limits import notices
from tests.bench.procurement.conftest import EXAMPLE, PUBLISHED
from tests.bench.procurement.synthetic import HOSTILE
from tests.bench.procurement.test_page import Outline

RUN = PUBLISHED / "nvidia-h200-2026-11-26" / "fixed_work"
SMALL = """
title: {title}
currency: USD
offers:
  one: {{device: h200, label: {label}, price_per_hour: {price}}}
utilisation: 0.5
load:
  requests_per_s: 1
  reply_tokens: 400
  steps_per_canvas: 16
latency: {latency}
quality: {quality}
"""


def small(folder: Path, **changes: str) -> Path:
    """Inputs with one offer, written into `folder`."""
    given = {"title": "small", "label": "H200", "price": "4", "latency": "{}", "quality": "{}"}
    path = folder / "inputs.yaml"
    path.write_text(SMALL.format(**given | changes), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _small_pictures() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.report.figures.DPI", 40)
        yield


def test_the_worked_example_is_what_the_code_says(example: Study, tmp_path: Path) -> None:
    write_tables([*tables(example), inputs_table(example.inputs)], tmp_path)
    kept = sorted((EXAMPLE / "tables").glob("*.csv"))
    assert {path.name for path in kept} == {path.name for path in tmp_path.glob("*.csv")}
    for path in kept:
        then, now = pd.read_csv(path), pd.read_csv(tmp_path / path.name)
        assert list(then.columns) == list(now.columns)
        for name in then.columns:
            if then[name].dtype.kind == "f":
                close = np.isclose(then[name], now[name], rtol=1e-3, equal_nan=True)
                assert close.all(), f"{path.name} {name}: {then[name][~close]} {now[name][~close]}"
            else:
                assert list(then[name].fillna("")) == list(now[name].fillna("")), path.name


def test_the_worked_example_measures_nothing_and_says_so(example: Study) -> None:
    assert {str(judged.way.point.kind) for judged in example.judged} == {"projected"}
    said = summary(example)
    assert "measure it before buying" in " ".join(said.certainty).lower()
    assert "projected" in said.basis
    for table in tables(example):
        kinds = [c for c in table.frame().columns if c.endswith("_class")]
        assert all("measured" not in set(table.frame()[c].dropna()) for c in kinds)


def test_the_answer_stands_on_the_first_sheet(example: Study) -> None:
    best = example.best
    assert best is not None
    assert best.judged.way.offer.label in summary(example).answer
    assert sum(each.share_cheapest or 0 for each in example.finalists) <= 1 + 1e-9
    assert any("becomes the choice" in sentence for sentence in summary(example).changes)


def test_a_cheaper_way_that_often_fails_is_named_and_not_recommended(example: Study) -> None:
    cheapest, best = example.finalists[0], example.best
    assert best is not None
    assert cheapest.judged.cost < best.judged.cost
    assert (cheapest.share_served or 0) < SAFE_SHARE <= (best.share_served or 0)
    safe = [each for each in example.judged if each.is_allowed and each.share_kept >= SAFE_SHARE]
    assert best.judged.cost == min(each.cost for each in safe)

    said = summary(example)
    sentence = said.lead[1]
    assert sentence.startswith(cheapest.judged.way.name)
    assert f"{100 * (1 - cheapest.judged.cost / best.judged.cost):.2g} % cheaper" in sentence
    assert f"misses the limits in {100 * (1 - (cheapest.share_served or 0)):.3g} %" in sentence
    assert said.ranking is not None
    for table in (said.ranking, ranking(example)):
        assert table.chosen_row is not None
        row = table.frame().iloc[table.chosen_row]
        assert row["offer"] == best.judged.way.offer.label
        assert list(table.frame()["is_recommended"]).count(True) == 1
        assert row["is_recommended"]
    # What would change the answer is told of ways that may be chosen: each is safe.
    may_be_chosen = {f.judged.way.short for f in example.finalists if f.is_safe}
    assert {swing.becomes for swing in example.swings} - {""} <= may_be_chosen


def test_a_ways_share_is_that_of_its_fleet(example: Study) -> None:
    assert any(not each.is_safe for each in example.finalists)
    for each in example.finalists:
        fleet, share_kept = each.fleet, each.judged.share_kept
        assert fleet is not None
        devices = fleet.devices.value
        assert devices is not None
        # Enough in 95 % of the draws in which any number is; one device fewer is not.
        of = 1.0 if share_kept >= SAFE_SHARE else share_kept
        assert each.share_served == (fleet.device_draws <= devices).mean() >= SAFE_SHARE * of
        assert fleet.share_enough(devices - 1) < SAFE_SHARE * of
        assert each.is_safe == (share_kept >= SAFE_SHARE)
        assert (each.share_cheapest is not None) == each.is_safe


def test_where_no_way_is_safe_the_cheapest_is_named_with_a_warning(example: Study) -> None:
    risky = tuple(each for each in example.finalists if not each.is_safe)
    assert len(risky) > 1
    study = replace(example, finalists=risky)
    assert study.best is risky[0]
    said = summary(study)
    assert said.lead[1].startswith("No way serves the load within its limits in 95 % of draws")
    assert any(n.serious and n.title == "Nothing is safe to buy" for n in notices(study))
    assert not any(n.title == "Nothing is safe to buy" for n in notices(example))


def test_the_headline_buys_the_fleet_that_is_enough_in_95_percent_of_draws(
    example: Study,
) -> None:
    best = example.best
    assert best is not None
    fleet = best.fleet
    assert fleet is not None
    devices, fewer = fleet.devices.value, fleet.needed.value
    assert devices is not None
    assert fewer is not None
    enough = (fleet.device_draws <= fewer).mean()
    assert fewer < devices
    assert enough < 0.8
    said = summary(example)
    label = best.judged.way.offer.label
    assert said.answer.startswith(
        f"Rent {devices:.0f} \N{MULTIPLICATION SIGN} {label} ({fewer:.0f} are enough in "
        f"{100 * enough:.3g} % of draws)"
    )
    # Its price stands in the lead, in the figures, in both tables, and in the tornado.
    price = best.judged.way.offer.price_per_hour
    assert price is not None
    month = devices * (price.value or 0) * 730.5
    assert fleet.cost_per_month.value == pytest.approx(month)
    assert f"{float(f'{month:.3g}'):,.0f} USD a month" in said.lead[0]
    assert said.figures[0].number.text == f"{float(f'{month:.3g}'):,.0f}"
    assert said.ranking is not None
    row = said.ranking.frame().iloc[said.ranking.chosen_row or 0]
    assert (row["devices"], row["cost_per_month"]) == (devices, pytest.approx(month))
    every = next(table for table in tables(example) if table.name == "ways").frame()
    own = every[every["offer"].eq(label) & every["run_as"].eq(row["run_as"])]
    assert list(own["devices"]) == [devices]
    assert list(own["fleet_cost_per_mtok"]) == [fleet.cost_per_mtok.value]
    bar = next(s.bar for s in example.swings if s.bar.key == "offers.h100.price_per_hour")
    assert bar.cost_low == pytest.approx(month * bar.low / bar.value)


def test_what_the_fleet_hangs_on_is_told(example: Study) -> None:
    best = example.best
    assert best is not None
    assert best.fleet is not None
    by_name = {each.name: each for each in best.fleet.hinges}
    requests = by_name["load.requests_per_s"]
    assert 8 < requests.low < requests.high < 20
    assert requests.devices_low < (best.fleet.devices.value or 0) < requests.devices_high
    assert by_name["utilisation"].devices_low >= by_name["utilisation"].devices_high
    said = " ".join(summary(example).changes)
    assert f"Requests a second below {requests.low:.3g}: {requests.devices_low:.0f} dev" in said


def test_every_number_of_the_json_is_a_number_or_null(example: Study) -> None:
    found = json.loads(json.dumps(plain(example), allow_nan=False))
    assert found["tables"]["ranking"][0]["cost_per_month"] > 0
    assert len(found["tables"]["ways"]) == len(example.judged)


def test_a_run_is_measured_and_its_batches_are_not_projected(tmp_path: Path) -> None:
    study = study_of(read_inputs(small(tmp_path)), [open_run(RUN)])
    points = [judged.way.point for judged in study.judged]
    measured = [point for point in points if point.kind == "measured"]
    assert {(p.decoding, p.precision) for p in measured} == {
        (decoding, precision)
        for decoding in ("diffusion", "autoregressive")
        for precision in ("fp8", "bf16")
    }
    assert {point.batch_size for point in measured} == {1}
    assert not [p for p in points if p.kind == "projected" and p.batch_size == 1]
    assert [p for p in points if p.kind == "projected" and p.batch_size == 2]


def test_random_weights_are_refused_for_quality(tmp_path: Path) -> None:
    path = small(tmp_path, quality="{accuracy_floor: 0.8}")
    with pytest.raises(ValueError, match="random weights"):
        procure(path, [RUN], tmp_path / "out", as_json=False)


def test_nothing_to_answer_is_exit_code_3_with_reasons(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small(tmp_path, latency="{end_to_end_s: 0.001}")
    # The other figures are of every way, answered or not.
    pictures = [each for each in PICTURES if each.name in ("cost", "memory", "sensitivity")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.procurement.command.PICTURES", pictures)
        assert procure(path, [], tmp_path / "out", as_json=True) == NOT_ANSWERED
    found = json.loads(capsys.readouterr().out)
    assert found["exit_code"] == NOT_ANSWERED
    assert found["answer"] == "Nothing can be answered"
    assert "end to end" in found["lead"][0]
    assert "Nothing can be answered" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"price": "-4"}, "price_per_hour"),
        ({"price": "{low: 5, mode: 4, high: 6}"}, "price_per_hour"),
        ({"latency": "{end_to_end: 3}"}, "end_to_end_s"),
        ({"price": "1.0e+300"}, "price_per_hour is 1e+300; it must be at most 1e+12"),
    ],
)
def test_bad_inputs_are_exit_code_2_in_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    named: str,
) -> None:
    arguments = ["canvasbench", "procure", str(small(tmp_path, **changes)), "--out", "never"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", arguments)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert named in said


def test_a_label_cannot_steer_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = small(tmp_path, label=r'"\e[31m\u202egnp \u05d0 \U0001f4a3"')
    drawn = [each for each in PICTURES if each.name in ("cost", "throughput")]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, of glyphs that its font has not
        patch.setattr("bench.procurement.command.PICTURES", drawn)
        assert procure(path, [], tmp_path / "out", as_json=False) == 0
    said = capsys.readouterr().out
    assert "\N{SYMBOL FOR ESCAPE}[31m\\u202egnp \\u05d0" in said
    assert not {"\x1b", "\u202e", "\u05d0"} & set(said)
    assert not {"\x1b", "\u202e"} & set((tmp_path / "out" / "report.html").read_text("utf-8"))


def test_one_request_is_no_several(example: Study) -> None:
    best = example.best
    assert best is not None
    way = best.judged.way
    alone = replace(way, point=replace(way.point, batch_size=1))
    assert answer(best).endswith("8 requests at once")
    assert answer(replace(best, judged=replace(best.judged, way=alone))).endswith(
        ", 1 request at once"
    )


def test_the_verb_takes_several_runs_after_one_option(tmp_path: Path) -> None:
    given: list[object] = []

    def seen(inputs: Path, runs: list[Path], out: Path, *, as_json: bool) -> int:
        given.extend([inputs, runs, out, as_json])
        return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.procurement.command.procure", seen)
        arguments = ["procure", "inputs.yaml", "--runs", "a", "b", "--out", "there", "--json"]
        done = CliRunner().invoke(cli.app, arguments)
    assert done.exit_code == 0
    assert given == [Path("inputs.yaml"), [Path("a"), Path("b")], Path("there"), True]


def test_a_report_of_hostile_inputs_is_whole_and_they_stay_text(tmp_path: Path) -> None:
    hostile = [json.dumps(text.replace("\0", "")) for text in HOSTILE]
    path = small(tmp_path, title=hostile[0], label=hostile[1])
    out = tmp_path / "<b>out"
    assert procure(path, [], out, as_json=False) == 0
    outline = Outline((out / "report.html").read_text(encoding="utf-8"))
    assert outline.tags.count("script") == 1
    assert "b" not in outline.tags
    assert [name for name, _ in outline.attributes if name.startswith("on")] == []
    sources = [value for name, value in outline.attributes if name == "src"]
    assert all(source.startswith("data:image/png") for source in sources)
    assert HOSTILE[0] in "".join(outline.words)
    # The same report holds every section and file.
    names = {file.stem for file in (out / "plots").glob("*.png")}
    assert names == {"cost", "throughput", "energy", "memory", "sensitivity", "crossover"}
    ids = [value for name, value in outline.attributes if name == "id"]
    assert names | {"inputs", "definitions", "provenance", "answer"} <= set(ids)
    assert len(ids) == len(set(ids))
    for name in ("ways", "ranking", "inputs"):
        stored = pd.read_parquet(out / "tables" / f"{name}.parquet")
        assert len(stored) == len(pd.read_csv(out / "tables" / f"{name}.csv")) > 0
