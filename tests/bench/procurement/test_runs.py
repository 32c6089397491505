"""Runs given to `procure`: what is refused, kept apart, left out, and measured reply lengths."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench import open_run
from bench.procurement.cell import NumberClass
from bench.procurement.command import procure, study_of
from bench.procurement.inputs import parse_inputs
from bench.procurement.listing_beside import replies
from bench.procurement.measured import measured_points
from bench.procurement.projection import projector
from bench.procurement.replies import measured_replies, replies_of
from bench.procurement.told_limits import notices
from bench.procurement.work import released_work
from bench.store import Run
from tests.bench.procurement.campaign import Device, campaign, inputs
from tests.bench.procurement.conftest import PUBLISHED

RUN = PUBLISHED / "nvidia-h200-2026-11-26" / "fixed_work"
LOAD = {"requests_per_s": 2, "prompt_tokens": 1024, "reply_tokens": 1024, "steps_per_canvas": 16}


def one_run(name: str = "one", **point: object) -> Run:
    """A campaign on an H200; `point` replaces or adds columns of its point."""
    columns = {"connections": None, "kernels": "triton", "execution": "cuda_graph"}
    columns |= {"max_new_tokens": 2048, "max_denoising_steps": 48, "early_stop": True}
    columns |= {"commit_mode": "separate", "vocabulary": "exact", "min_belief": 0.0}
    made = campaign(Device(), 0, processes=3, prompts=30, **(columns | point))
    return replace(made, path=Path(name))


def inputs_file(folder: Path) -> Path:
    path = folder / "inputs.yaml"
    path.write_text(
        "currency: USD\noffers: {one: {device: h100, label: H100, price_per_hour: 3}}\n"
        "utilisation: 0.5\nload: {requests_per_s: 1, reply_tokens: 400, steps_per_canvas: 16}\n",
        encoding="utf-8",
    )
    return path


def test_a_folder_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    again = RUN / ".." / RUN.name
    with pytest.raises(ValueError, match="is given twice; give each run once") as told:
        procure(inputs_file(tmp_path), [RUN, again], tmp_path / "out", as_json=False)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"vocabulary": "fp8"}, "vocabulary=fp8"),
        ({"min_belief": 1e-4}, "sampler.min_belief=0.0001"),
    ],
)
def test_work_that_is_not_the_models_own_is_refused(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=f"{named}, which is not the model's exact work") as told:
        measured_points(one_run(**changes))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("unknown", [None, float("nan"), pd.NA])
def test_rows_that_are_older_than_these_settings_are_exact(unknown: object) -> None:
    found, _ = measured_points(one_run(vocabulary=unknown, min_belief=unknown))
    assert len(found) == 1


def test_a_way_measured_in_two_runs_stays_two_rows_that_name_each_other() -> None:
    runs = [one_run("one"), one_run("two", commit_mode="fused"), one_run("three", batch_size=2)]
    study = study_of(inputs(load=LOAD), runs)
    notes = {
        judged.way.point.source: judged.way.point.notes
        for judged in study.judged
        if judged.way.point.kind is NumberClass.MEASURED
    }
    assert notes["one p"] == ("the same way was measured in two p; not pooled",)
    assert notes["two p"] == (
        "commits are fused with the next canvas's first step",
        "the same way was measured in one p; not pooled",
    )
    assert notes["three p"] == ()
    told = [each for each in notices(study) if each.title == "Ways measured more than once"]
    assert len(told) == 1
    assert told[0].serious
    # Two points, each with two offers of the device.
    assert told[0].text.startswith("4 rows are")
    points = tuple(
        replace(judged, way=replace(judged.way, point=replace(judged.way.point, notes=())))
        for judged in study.judged
    )
    alone = replace(study, judged=points)
    assert not [each for each in notices(alone) if each.title == "Ways measured more than once"]


def test_a_run_of_a_device_that_is_not_offered_is_named_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.procurement.command.PICTURES", ())
        assert procure(inputs_file(tmp_path), [RUN], tmp_path / "out", as_json=False) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"Left out: run {RUN}: its device h200 is not offered (4 points)" in said


def test_a_measured_reply_length_takes_the_place_of_a_projected_one() -> None:
    """Five processes a sibling in fp8, one in bf16; 1,024 tokens in and out, 16 forced steps."""
    offers = {
        "h200": {"device": "h200", "price_per_hour": 4},
        "h100": {"device": "h100", "price_per_hour": 3},
    }
    base = {"currency": "USD", "offers": offers, "utilisation": 0.5}
    run = open_run(RUN)
    table = replies(study_of(parse_inputs(base | {"load": LOAD}), [run])).frame()
    rows = table.set_index(["device", "precision"])
    assert len(rows) == 4
    fp8, bf16 = rows.loc[("H200 SXM", "fp8")], rows.loc[("H200 SXM", "bf16")]
    assert (fp8["tokens_class"], bf16["tokens_class"]) == ("measured", "measured")
    assert (fp8["prompt_tokens"], fp8["steps"]) == (1024, 16)
    assert fp8["tokens"] == 65
    assert 60 < fp8["tokens_low"] <= 65 <= fp8["tokens_high"] < 70
    assert pd.isna(bf16["tokens_low"])
    assert rows.loc[("H100 SXM", "fp8"), "tokens_class"] == "projected"

    # Of other work it stands beside the load's own projection, which says another length.
    by, measured = projector(released_work), measured_replies(run)
    other = parse_inputs(base | {"load": LOAD | {"steps_per_canvas": 32}})
    both = [
        each
        for each in replies_of(other, by, measured)
        if (each.device, each.precision) == ("h200", "fp8")
    ]
    assert [each.length.tokens.kind for each in both] == ["measured", "projected"]
    assert [each.steps for each in both] == [16, 32]
    lengths = [each.length.tokens.value or 0 for each in both]
    assert lengths[1] > 1.5 * lengths[0]
    # An offer that is not of the run's device gets none of it.
    h100 = parse_inputs({**base, "offers": {"h100": offers["h100"]}, "load": LOAD})
    assert {each.device for each in replies_of(h100, by, measured)} == {"h100"}


def test_a_measured_reply_length_says_where_commits_are_fused() -> None:
    run = open_run(RUN)
    fused = run.points["decoding"].eq("diffusion") & run.points["precision"].eq("fp8")
    run.points.loc[fused, "commit_mode"] = "fused"
    given = parse_inputs(
        {
            "currency": "USD",
            "offers": {"h200": {"device": "h200", "price_per_hour": 4}},
            "utilisation": 0.5,
        }
    )
    found = replies(study_of(given, [run])).frame().set_index("precision")["tokens_source"]
    assert found.to_dict() == {"fp8": f"{RUN}, commits fused", "bf16": str(RUN)}
