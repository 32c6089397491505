"""Where commits are fused, everything that shows or compares numbers says so."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench import open_run
from bench.build import check_point
from bench.claims.decomposition import claim_floors, decompose
from bench.claims.files import read_claim
from bench.claims.judge import judge
from bench.claims.verdict import Outcome
from bench.comparison import as_json, compare
from bench.comparison.environment import config_differences, fingerprint
from bench.comparison.show import point_lines
from bench.compose import compose_points, restore_point
from bench.golden.table import golden_points
from bench.history.entry import entry_of
from bench.later import without_later
from bench.parquet import read_table, write_table
from bench.plan import clean_slate
from bench.procurement.measured import _notes
from bench.profile.names import PHASES
from bench.profile.record import _context
from bench.report.fused import fused_table
from bench.report.page import _html
from bench.report.view import View
from bench.stats import Status
from bench.tables import COLUMNS, SCHEMA_VERSION
from tests.bench.claims.simulated import labels, simulated
from tests.bench.comparison.made import BASE, TIMING, make_run, speeds

NEW = (
    *("commit_mode", "vocabulary", "min_belief", "weight_passes", "fused_forwards"),
    *("fused_ms", "fused_ms_lo", "fused_ms_hi", "fused_op_floor_ms", "fused_op_floor_share"),
    "fused_distinct_experts_per_layer",
)
"""What rows of schema 6 did not tell."""
FUSED = replace(TIMING, fused_s=0.012)


def older(folder: Path) -> Path:
    """The run as version 6 wrote it."""
    for table in COLUMNS:
        path = folder / f"{table}.parquet"
        if path.exists():
            own = pd.read_parquet(path).drop(columns=list(NEW), errors="ignore")
            own.assign(schema_version=6).to_parquet(path)
    told = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(told | {"schema_version": 6}))
    return folder


def test_a_run_of_schema_6_reads_as_it_did(tmp_path: Path) -> None:
    today = make_run(tmp_path / "today", factors=speeds(1))
    row = open_run(today).points.drop(columns=list(NEW))
    read = open_run(older(make_run(tmp_path / "older", factors=speeds(1)))).points
    assert read["schema_version"].tolist() == [SCHEMA_VERSION]
    assert read[list(NEW)].isna().all(axis=None)
    pd.testing.assert_frame_equal(read.drop(columns=list(NEW)), row)
    found = compare(tmp_path / "older", today)
    assert found.points[0].notes == ()
    assert {judged.verdict.status for judged in found.points[0].judged} == {Status.EQUIVALENT}


@pytest.mark.parametrize("age", ["today", "older"])
def test_a_comparison_of_separate_and_fused_commits_says_so_first(tmp_path: Path, age: str) -> None:
    three = replace(BASE, answer_tokens=[90])
    slow = replace(TIMING, commit_s=0.02)
    before = make_run(tmp_path / "before", factors=speeds(1), timing=slow, config=three)
    if age == "older":
        older(before)
    after = make_run(tmp_path / "after", factors=speeds(2), timing=FUSED, fused=True, config=three)
    found = compare(before, after)
    (point,) = found.points
    assert point_lines(point)[0].startswith(
        "note: commits differ: separate in the baseline, fused in the candidate"
    )
    told = [] if age == "today" else [f"schema: 6 -> {SCHEMA_VERSION}"]
    assert [str(difference) for difference in found.environment] == told
    judged = {each.metric.name: each for each in point.judged}
    for name, way, values in (
        ("commit_ms", "separate", (20, None)),
        ("fused_ms", "fused", (None, 12)),
    ):
        own = judged[name]
        assert own.verdict.reason == f"only commit={way} has this forward"
        for value, expected in zip((own.baseline, own.candidate), values, strict=True):
            assert value == (None if expected is None else pytest.approx(expected, rel=0.01))
    # They decide nothing; what both have does: a canvas takes 2 + 10 T ms where it took 20 + 10 T.
    assert found.status is Status.IMPROVEMENT
    assert judged["steps_per_canvas"].verdict.status is Status.EQUIVALENT
    causes = {cause.name for cause in point.causes}
    assert {"commit_forwards", "fused_forwards", "denoise_forwards"} == causes
    words = " ".join(cause.text for cause in point.causes)
    assert "fused commit-and-denoise forwards from 0 to" in words
    assert "mostly steps fused with a commit" in words
    plain = as_json(found)["points"][0]
    assert plain["notes"][0].startswith("commits differ")
    assert plain["metrics"]["fused_ms"]["candidate"] == pytest.approx(12, rel=0.01)


def test_fused_runs_are_compared_by_their_fused_forwards(tmp_path: Path) -> None:
    before = make_run(tmp_path / "before", factors=speeds(1), timing=FUSED, fused=True)
    slow = replace(FUSED, fused_s=0.016)
    after = make_run(tmp_path / "after", factors=speeds(2), timing=slow, fused=True)
    found = compare(before, after)
    judged = {each.metric.name: each.verdict.status for each in found.points[0].judged}
    assert judged["fused_ms"] is Status.REGRESSION
    assert judged["step_ms"] is Status.EQUIVALENT
    assert "commit_ms" not in judged
    assert [cause.name for cause in found.points[0].causes] == ["fused_s"]
    assert (
        found.points[0].causes[0].text.startswith("seconds a fused commit-and-denoise forward +3")
    )
    assert found.points[0].notes == ()


def test_the_report_has_a_table_of_fused_commits_where_there_are_any(tmp_path: Path) -> None:
    floors = {"fused_op_floor_ms": 6.0, "fused_op_floor_share": 0.5}
    shown = {}
    for name, fused in (("separate", False), ("fused", True)):
        run = make_run(tmp_path / name, timing=FUSED, fused=fused, **(floors if fused else {}))
        shown[name] = View.of(open_run(run))
    assert fused_table(shown["separate"]) is None
    found = fused_table(shown["fused"])
    assert found is not None
    cells = {name: cell.text for (name, _), cell in zip(found.header, found.rows[0], strict=True)}
    (row,) = open_run(tmp_path / "fused").points.to_dict("records")
    assert cells == {
        "decoding": "diffusion",
        "precision": "bf16",
        "commits": "fused",
        "denoise step": "10.0",
        "commit": "n/a",
        "fused commit": "12.0",
        "op floor": "6.00",
        "share": "50.0",
        "weight passes": f"{row['weight_passes'] / row['num_canvases']:.2f}",
    }
    page = _html(shown["fused"], [])
    assert "A fused commit writes a canvas to the cache and is the first step of" in page
    assert "One forward that writes a finished canvas into the cache" in page


def test_a_history_and_a_golden_go_on_where_nothing_new_is_asked(tmp_path: Path) -> None:
    config = {"sampler": {"t_min": 0.4}, "precision": "bf16"}
    today = {"sampler": {"t_min": 0.4, "min_belief": 0.0}, "precision": "bf16"}
    today |= {"commit": "separate", "vocabulary": "exact"}
    facts = [
        fingerprint({"config": {"p": own}}, {"point_id": "p"} | row)
        for own, row in (
            (config, {"commit_mode": None}),
            (today, {"commit_mode": "separate", "vocabulary": "exact"}),
            (today | {"commit": "fused"}, {"commit_mode": "fused", "vocabulary": "exact"}),
        )
    ]
    assert facts[0] == facts[1]
    assert {n: v for n, v in facts[2].items() if facts[0].get(n) != v} == {"commit_mode": "fused"}
    assert config_differences(config, today) == ()
    (told,) = config_differences(config, today | {"commit": "fused"})
    assert str(told) == 'commit: "separate" -> "fused"'
    run = make_run(tmp_path / "run", fused=True, timing=FUSED, weights_sha256="ab")
    (golden,) = golden_points(open_run(run))
    assert golden.machine["commit_mode"] == "fused"
    assert golden.work["vocabulary"] is None
    figures = entry_of(run).points[0].figures
    assert figures["fused_ms"].value == pytest.approx(12)


def test_a_claim_lists_fused_commits_and_lets_the_verdict_stand() -> None:
    claim = read_claim("h200-fp8")
    points = {
        fused: simulated("diffusion", 1400.0, fused=fused).observed(**labels(claim))
        for fused in (False, True)
    }
    judged = judge(claim, [points[True]])
    assert judged.outcome is Outcome.REPRODUCED
    assert "by this engine (native, triton, cuda_graph, commits fused)" in judged.reasons[0]
    listed = {d.name: d for d in judged.conditions}
    assert listed["commit fused with a step"].state == "different"
    assert not listed["commit fused with a step"].blocks
    assert listed["commit after the last canvas"].actual == "skipped"
    found = {fused: decompose(claim, claim_floors(claim), p) for fused, p in points.items()}
    for fused, forwards in ((False, 17), (True, 16)):
        decomposed = found[fused]
        assert decomposed is not None
        assert decomposed.measured is not None
        assert decomposed.published.forwards == 17
        assert decomposed.measured.forwards == forwards
        floors = claim_floors(claim, points[fused])
        assert floors is not None
        assert floors.forwards == forwards
        share = floors.op_ms * forwards / decomposed.measured.block_ms
        assert decomposed.measured.op_floor_share == pytest.approx(share)
    # 16 forwards of one length where 17 were published are so much by their number.
    assert found[True] is not None
    assert found[False] is not None
    assert found[True].by_steps == pytest.approx(0.0606, abs=1e-4)
    assert found[False].by_steps == 0


def test_tokens_a_forward_are_bounded_alike_however_canvases_are_committed() -> None:
    many = {"steps": (3, 4, 6), "forced": False, "num_prompts": 12, "num_processes": 1}
    points = [simulated("diffusion", 1400.0, fused=fused, **many) for fused in (False, True)]
    separate, fused = (point.observed() for point in points)
    for metric in ("tokens_per_forward_all", "tokens_per_forward_denoise"):
        value, interval = fused.value(metric), fused.interval(metric)
        assert value == separate.value(metric)
        assert value is not None
        assert interval == separate.interval(metric)
        assert interval is not None
        assert interval[0] <= value <= interval[1]


def decoding_of(model: str) -> str:
    return "autoregressive" if "autoregressive" in model else "diffusion"


def test_commits_are_an_axis_of_diffusion_alone() -> None:
    points = compose_points(["precision=bf16", "commit=separate,fused"], decoding_of)
    assert [(p.point_id, p.config.commit.name) for p in points] == [
        ("diffusion-bf16-commit=separate", "separate"),
        ("autoregressive-bf16", "separate"),
        ("diffusion-bf16-commit=fused", "fused"),
    ]
    slates = {clean_slate(p.config) for p in points}
    assert len(slates) == 3
    with pytest.raises(ValueError, match="commit=fused has no effect: no point of this run is a d"):
        compose_points(["commit=fused", "model=tiny-autoregressive"], decoding_of)
    with pytest.raises(ValueError, match="commit: Invalid value 'both', expected one of \\[separ"):
        compose_points(["commit=both"], decoding_of)


@pytest.mark.parametrize("backend", ["transformers", "openai"])
def test_an_engine_of_others_commits_as_it_does(backend: str) -> None:
    more = ["backend.url=http://127.0.0.1:1", "backend.served_model=x"]
    given = ["precision=bf16", "model=tiny-diffusion", f"backend={backend}", "commit=fused"]
    (point,) = compose_points(given + more * (backend == "openai"), decoding_of)
    with pytest.raises(ValueError, match=f"commit=fused has no effect with backend={backend}"):
        check_point(point.config)


def test_a_buyer_is_told(tmp_path: Path) -> None:
    row: dict[str, Any] = {"weights": "x", "emulated": False, "validity": "valid"}
    assert _notes(row | {"commit_mode": "fused"}) == (
        "commits are fused with the next canvas's first step",
    )
    assert _notes(row | {"commit_mode": None}) == ()


def test_a_profile_knows_where_a_fused_forward_stands() -> None:
    """It begins before the canvas that it writes, as a commit does."""
    assert "fused" in PHASES
    assert _context(("fused", 2, 1), 10, 32) == _context(("commit", 2, 1), 10, 32) == 42
    assert _context(("denoise", 2, 2), 10, 32) == 74


def test_new_columns_survive_the_disk(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", fused=True, timing=FUSED, min_belief=0.25, vocabulary="fp8")
    points = open_run(run).points
    write_table(tmp_path / "again.parquet", points)
    again = read_table("points", tmp_path / "again.parquet")
    assert again[["min_belief", "vocabulary", "commit_mode"]].values.tolist() == [
        [0.25, "fp8", "fused"]
    ]
    assert again["fused_forwards"].tolist() == points["fused_forwards"].tolist()
    assert again["fused_forwards"].iloc[0] > 0


def test_a_point_of_a_stored_run_is_the_same_point_today() -> None:
    """Its configuration had no later options; their defaults change no hash, another value does."""
    (point,) = compose_points(["precision=bf16", "model=tiny-diffusion"], decoding_of)
    stored = without_later(point.resolved)
    assert "commit" in point.resolved
    assert "commit" not in stored
    assert restore_point(point.point_id, point.config_hash, stored).config == point.config
    with pytest.raises(ValueError, match="a changed configuration is another run"):
        restore_point(point.point_id, point.config_hash, stored | {"commit": "fused"})
