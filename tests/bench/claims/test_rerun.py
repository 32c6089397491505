"""An independent rerun of the published commands, judged from its raw times by our definitions."""

import pytest

from bench.claims.decomposition import claim_floors, decompose
from bench.claims.definitions import definition_matrix, spread
from bench.claims.files import read_claim
from bench.claims.judge import judge
from bench.claims.observed import Observed
from bench.claims.oddities import oddities
from bench.claims.verdict import Outcome
from bench.metrics import request_times
from tests.bench.claims.rerun import Rerun, raw, rerun


@pytest.fixture(scope="module")
def found() -> Rerun:
    return rerun()


@pytest.fixture(scope="module")
def point(found: Rerun) -> Observed:
    return found.observed()


def test_our_definitions_give_the_published_summary(found: Rerun, point: Observed) -> None:
    published = raw()["published_summary"]
    times = request_times(found.requests)
    rates = times["decode_tokens"] / times["decode_s"]
    per_tpot = (times["inverse_tpot_tokens"] / times["decode_s"]).median()
    for ours, theirs in (
        (point.value("decode_tok_per_s_median"), published["generation_tok_s"]["median"]),
        (rates.mean(), published["generation_tok_s"]["mean"]),
        (point.value("delivered_tok_per_s"), published["output_throughput_tok_s"]),
        (per_tpot, 1e3 / published["median_tpot_ms"]),
    ):
        assert ours == pytest.approx(theirs, rel=1e-3)
    assert point.value("decode_tok_per_s_median") == pytest.approx(1134.96, abs=0.01)
    assert rates.mean() == pytest.approx(1147.0, abs=0.05)
    assert per_tpot == pytest.approx(1512, abs=0.5)


def test_it_gets_a_verdict_with_interval_and_condition_diff(point: Observed) -> None:
    judged = judge(read_claim("h100-fp8"), [point])
    assert judged.outcome is Outcome.REPRODUCED
    assert judged.interval is not None
    assert 1008 < judged.interval[0] < judged.value < judged.interval[1] < 1160
    states = {d.name: (d.state, d.blocking) for d in judged.conditions}
    for name in ("device", "precision", "batch_size", "prompt_tokens", "max_new_tokens", "metric"):
        assert states[name] == ("same", True)
    assert states["steps"] == states["eos_policy"] == states["drafter"] == ("same", True)
    assert states["engine and version"] == ("different", False)
    assert states["driver"] == states["distinct experts a layer and step"] == ("unknown", False)


def test_the_definition_decides_by_more_than_the_tolerance(point: Observed) -> None:
    matrix = definition_matrix(judge(read_claim("h100-fp8"), [point]))
    by_name = {d.metric: d for d in matrix}
    assert matrix[0].metric == "decode_tok_per_s_median"
    assert [d.metric for d in matrix if d.is_claims] == ["decode_tok_per_s_median"]
    assert [d.metric for d in matrix if d.is_closest] == ["delivered_tok_per_s"]
    assert by_name["inverse_tpot_tok_per_s"].ratio == pytest.approx(1.509, abs=1e-3)
    assert by_name["generation_tok_per_s_excl_prefill"].value is None
    assert spread(matrix) == pytest.approx(1521.09 / 977.75, rel=1e-4)


def test_its_forward_is_the_one_computed_by_hand(point: Observed) -> None:
    claim = read_claim("h100-fp8")
    floors = claim_floors(claim)
    parts = decompose(claim, floors, point)
    assert parts is not None
    assert parts.measured is not None
    assert parts.published.forward_ms == pytest.approx(14.94, abs=0.005)
    assert parts.measured.forward_ms == pytest.approx(13.27, abs=0.005)
    assert parts.measured.host_ms is None
    assert parts.by_steps == 0
    assert parts.by_forward == pytest.approx(parts.log_ratio)


def test_the_cold_start_and_the_short_canvas_are_named(point: Observed) -> None:
    assert oddities(point) == [
        "request 0 waited 8.13 s for its first text, 27.6 times the median: a cold start",
        "canvas 1 (from 0) of request 46 took 67.6 ms, 0.3 of the median: it stopped early",
    ]


def test_a_late_start_later_on_is_no_cold_start_and_many_are_counted(point: Observed) -> None:
    late = point.requests.copy()
    late.loc[late.index[50:], "first_canvas_s"] = 9.0
    late.loc[late.index[:50], "first_canvas_s"] = 0.2
    found = oddities(Observed.of(dict(point.row), late.iloc[:60], point.canvases, point.steps))
    assert len(found) == 11
    assert found[0].startswith("request 50 waited 9 s")
    assert found[0].endswith("something held it up")
    many = late.iloc[[*range(50), *range(50, 70)]]
    found = oddities(Observed.of(dict(point.row), many, point.canvases, point.steps))
    assert len(found) == 13
    assert found[-1] == "and 9 more like these"


def test_without_its_early_stop_policy_a_short_canvas_is_nothing_odd(point: Observed) -> None:
    row = dict(point.row) | {"early_stop": True}
    stopping = Observed.of(row, point.requests, point.canvases, point.steps)
    assert oddities(stopping) == []
    assert judge(read_claim("h100-fp8"), [stopping]).reasons == (
        "steps: published forced 16, here up to 16",
    )
