"""Shipped claims judged by simulated points that were fed what was published; then each condition
perturbed, and every way from random weights to a verdict on contents tried."""

import itertools
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from bench.claims.baselines import baselines, published_sibling
from bench.claims.claim import Claim
from bench.claims.decomposition import claim_floors, decompose, sibling_floors
from bench.claims.definitions import definition_matrix
from bench.claims.files import read_claim, shipped_claims, shipped_names
from bench.claims.judge import Judgement, judge, ratio_of
from bench.claims.observed import Observed
from bench.claims.verdict import Outcome
from bench.later import EXACT
from bench.metrics import request_times
from bench.stats import quantile_interval
from bench.tables import COLUMNS
from tests.bench.claims.simulated import labels, simulated

SPEED = "decode_tok_per_s_median"
CONTENT = ("card-1100", "card-tokens-per-forward", "steps-per-canvas")
TALKING = {"steps": (13, 14, 15, 16), "forced": False, "num_prompts": 12, "num_processes": 2}


def as_published(claim: Claim, decoding: str, tok_per_s: float, **more: Any) -> Observed:
    """A point that decodes at a rate and looks like one of ours under the claim's conditions."""
    return simulated(decoding, tok_per_s, **more).observed(**labels(claim, decoding))


def drafting(point: Observed, drafter: str | None) -> Observed:
    """The point as an engine with a drafter would have measured it."""
    assert drafter is not None
    return replace(point, conditions=dict(point.conditions) | {"drafter": drafter})


def points_for(claim: Claim) -> list[Observed]:
    """What was published under the claim's conditions, numerator and denominator."""
    if claim.name in CONTENT:
        return [as_published(claim, "diffusion", 1110.0, **TALKING)]
    rate = claim.value
    below: list[Observed] = []
    if claim.over is not None:
        assert claim.over.published is not None
        rate = read_claim(f"{claim.conditions.device}-fp8").value
        sibling = as_published(claim, "autoregressive", claim.over.published)
        below = [drafting(sibling, claim.over.drafter)]
    point = as_published(claim, claim.conditions.decoding, rate)
    return [drafting(point, claim.conditions.drafter), *below]


@pytest.mark.parametrize("name", shipped_names())
def test_what_was_published_comes_out_by_the_claims_own_definition(name: str) -> None:
    claim = read_claim(name)
    judged = judge(claim, points_for(claim))
    expected = Outcome.REPRODUCED
    if claim.relation == "at_least" and name not in CONTENT:
        expected = Outcome.WITHIN_TOLERANCE  # the interval lies on both sides of the figure
    assert judged.outcome is expected, judged.reasons
    assert "by this engine (native, triton, cuda_graph)" in judged.reasons[0]
    matrix = definition_matrix(judged)
    assert {d.metric for d in matrix} == set(claim.family)
    assert [d.metric for d in matrix if d.is_claims] == [claim.metric]
    assert all(d.value is not None for d in matrix)
    if claim.is_speed and name not in CONTENT:
        assert matrix[0].ratio == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", [n for n in shipped_names() if "mtp" in n])
def test_without_a_drafter_a_drafted_claim_is_not_comparable(name: str) -> None:
    claim = read_claim(name)
    rates = {"diffusion": 1288.0, "autoregressive": 429.0}
    ours = [as_published(claim, decoding, rate) for decoding, rate in rates.items()]
    judged = judge(claim, ours)
    assert judged.outcome is Outcome.NOT_COMPARABLE
    assert "drafter" in judged.reasons[0]
    assert "mtp 4 drafts, synthetic 80 % acceptance" in judged.reasons[0]


H200 = read_claim("h200-fp8")


def test_twice_as_fast_is_reproduced_and_ratios_are_judged_on_their_own() -> None:
    fast = as_published(H200, "diffusion", 2 * 1288.0)
    sibling = as_published(H200, "autoregressive", 213.0)
    assert judge(H200, [fast, sibling]).outcome is Outcome.REPRODUCED
    assert judge(read_claim("h200-ar-fp8"), [fast, sibling]).outcome is Outcome.WITHIN_TOLERANCE
    ratio = judge(read_claim("h200-over-ar"), [fast, sibling])
    assert ratio.outcome is Outcome.NOT_REPRODUCED
    assert ratio.value == pytest.approx(2 * 1288 / 213, rel=0.01)
    both = [fast, as_published(H200, "autoregressive", 429.0)]
    assert judge(read_claim("h200-over-ar"), both).outcome is Outcome.REPRODUCED


def test_too_slow_is_not_reproduced() -> None:
    judged = judge(H200, [as_published(H200, "diffusion", 1008.0)])
    assert judged.outcome is Outcome.NOT_REPRODUCED
    assert "below 1,288 tok/s less 5 %" in judged.reasons[0]


def perturbed(**labelled: Any) -> Judgement:
    fixed = simulated("diffusion", 1400.0)
    return judge(H200, [fixed.observed(**labels(H200) | labelled)])


@pytest.mark.parametrize(
    ("name", "labelled", "actual"),
    [
        ("device", {"device": "NVIDIA H100 80GB HBM3"}, "h100"),
        ("device", {"device": "NVIDIA H100 80GB HBM3,NVIDIA H200"}, "NVIDIA H100 80GB HBM3,NVIDIA"),
        ("device", {"device": "NVIDIA H200 MIG 1g.18gb"}, "NVIDIA H200 MIG 1g.18gb"),
        ("device", {"device": None}, "unknown"),
        ("model", {"model": "mini-diffusion"}, "mini-diffusion"),
        ("precision", {"precision": "bf16"}, "bf16"),
        ("batch_size", {"batch_size": 4}, "4"),
        ("max_new_tokens", {"max_new_tokens": 512}, "512"),
        ("eos_policy", {"eos_policy": "stop"}, "stop"),
        ("steps", {"early_stop": True}, "up to 16"),
        ("steps", {"max_denoising_steps": 12}, "forced 12"),
        ("steps", {"max_denoising_steps": None}, "unknown"),
        ("metric", {SPEED: None}, "unknown"),
        ("min_belief", {"min_belief": 0.001}, "0.001"),
        ("vocabulary", {"vocabulary": "fp8"}, "fp8"),
    ],
)
def test_each_blocking_condition_alone_takes_the_verdict(
    name: str, labelled: dict[str, Any], actual: str
) -> None:
    assert perturbed().outcome is Outcome.REPRODUCED
    judged = perturbed(**labelled)
    assert judged.outcome is Outcome.NOT_COMPARABLE
    assert len(judged.reasons) == 1
    assert judged.reasons[0].startswith(f"{name}: published ")
    assert f"here {actual}" in judged.reasons[0]
    assert [d.name for d in judged.conditions if d.blocks] == [name]


def test_what_makes_work_inexact_is_known_of_every_point() -> None:
    assert {key.rpartition(".")[2] for key in EXACT} <= set(COLUMNS["points"])


def test_prompts_of_another_length_take_the_verdict() -> None:
    short = simulated("diffusion", 1400.0, prompt_tokens=512)
    judged = judge(H200, [short.observed(**labels(H200))])
    assert judged.outcome is Outcome.NOT_COMPARABLE
    assert judged.reasons == ("prompt_tokens: published 1024, here 512",)


def test_a_drafter_that_is_not_known_takes_the_verdict() -> None:
    claim = read_claim("h200-ar-fp8")
    point = simulated("autoregressive", 429.0)
    assert judge(claim, [point.observed(**labels(claim))]).outcome is Outcome.REPRODUCED
    foreign = point.observed(**labels(claim) | {"backend": "elsewhere"})
    assert judge(claim, [foreign]).reasons == ("drafter: published none, here unknown",)
    drafted = drafting(foreign, "mtp 4 drafts")
    assert judge(claim, [drafted]).reasons == ("drafter: published none, here mtp 4 drafts",)


def test_disclosed_conditions_are_listed_and_let_the_verdict_stand() -> None:
    judged = perturbed(weights="dummy", driver="1.2.3")
    assert judged.outcome is Outcome.REPRODUCED
    listed = {d.name: d for d in judged.conditions if not d.blocking}
    assert listed["weights"].actual == "dummy"
    assert listed["driver"].actual == "1.2.3"
    assert listed["driver"].state == "unknown"
    assert listed["engine and version"].state == "different"
    assert listed["commit after the last canvas"].actual == "skipped"
    assert listed["commit fused with a step"].state == "same"


def test_an_invalid_point_and_a_simulation_give_no_verdict() -> None:
    broken = perturbed(validity="invalid", validity_reason="entropy_not_finite")
    assert broken.reasons == ("the point is invalid: entropy_not_finite",)
    own = simulated("diffusion", 1400.0)
    for name in ("h200-fp8", "steps-per-canvas", "card-tokens-per-forward"):
        shown = labels(H200) | {"backend": "simulated"}
        judged = judge(read_claim(name), [own.observed(**shown)])
        assert judged.outcome is Outcome.NOT_COMPARABLE
        assert "no model ran: the point is a simulation" in judged.reasons


def test_too_few_requests_are_insufficient() -> None:
    few = simulated("diffusion", 1400.0, num_prompts=3, num_processes=3)
    judged = judge(H200, [few.observed(**labels(H200))])
    assert judged.outcome is Outcome.INSUFFICIENT
    assert judged.reasons == ("n = 9; the claim needs at least 10",)
    assert judged.value is not None


def test_a_short_denominator_is_insufficient_as_well() -> None:
    claim = read_claim("h200-over-ar")
    many = as_published(claim, "diffusion", 1288.0)
    few = as_published(claim, "autoregressive", 213.0, num_prompts=2, num_processes=2)
    judged = judge(claim, [many, few])
    assert judged.outcome is Outcome.INSUFFICIENT
    assert judged.reasons == ("n = 4; the claim needs at least 10",)


def test_repeats_of_the_same_prompts_are_no_more_contents() -> None:
    claim = read_claim("steps-per-canvas")
    few = as_published(claim, "diffusion", 1110.0, **TALKING | {"num_prompts": 6})
    assert few.row["num_requests"] == 12
    assert judge(claim, [few]).reasons == ("n = 6; the claim needs at least 10",)


def test_a_wide_interval_decides_nothing() -> None:
    noisy = simulated("diffusion", 1250.0, process_spread=0.15)
    judged = judge(H200, [noisy.observed(**labels(H200))])
    assert judged.outcome is Outcome.INSUFFICIENT
    assert "decides nothing" in judged.reasons[0]


def test_between_processes_the_median_has_an_interval_of_process_medians() -> None:
    noisy = simulated("diffusion", 1250.0, process_spread=0.15).observed(**labels(H200))
    found = noisy.interval(SPEED)
    assert found is not None
    times = request_times(noisy.requests)
    pooled = quantile_interval((times["decode_tokens"] / times["decode_s"]).to_numpy(), 0.5)
    assert pooled is not None
    assert found[1] / found[0] > pooled[1] / pooled[0]
    assert found == pytest.approx((noisy.row[f"{SPEED}_lo"], noisy.row[f"{SPEED}_hi"]))
    alone = simulated("diffusion", 1250.0, num_prompts=10, num_processes=1).observed()
    assert alone.interval(SPEED) == (alone.row[f"{SPEED}_lo"], alone.row[f"{SPEED}_hi"])


def test_a_ratio_is_taken_within_the_processes_that_measured_both() -> None:
    claim = read_claim("h200-over-ar")
    shared = {"process_spread": 0.15}  # what slows a process down slows both points down
    points = [
        as_published(claim, "diffusion", 1288.0, **shared),
        as_published(claim, "autoregressive", 213.0, **shared),
    ]
    top, bottom = points
    assert judge(claim, points).outcome is Outcome.REPRODUCED
    assert judge(read_claim("h200-ar-fp8"), points).outcome is Outcome.INSUFFICIENT
    apart = ratio_of(1288.0, top.interval(SPEED), 213.0, bottom.interval(SPEED))
    together = judge(claim, points).interval
    assert apart is not None
    assert together is not None
    assert together[1] / together[0] < 1.01 < apart[1] / apart[0]


def test_the_point_under_the_claims_conditions_is_judged() -> None:
    fitting = simulated("diffusion", 1400.0).observed(**labels(H200) | {"point_id": "fits"})
    other = simulated("diffusion", 1400.0).observed(
        **labels(H200) | {"point_id": "bf16", "precision": "bf16", "num_requests": 999}
    )
    broken = simulated("diffusion", 1400.0).observed(
        **labels(H200) | {"point_id": "broken", "validity": "invalid", "num_requests": 999}
    )
    sibling = as_published(H200, "autoregressive", 213.0)
    twin = simulated("diffusion", 1400.0).observed(**labels(H200) | {"point_id": "twin"})
    for order in itertools.permutations([fitting, other, broken, sibling]):
        judged = judge(H200, order)
        assert judged.point is fitting
        assert judged.alike == ()
    assert judge(H200, [fitting, twin]).alike == ("twin",)


def test_a_run_without_a_point_gives_no_verdict() -> None:
    judged = judge(H200, [])
    assert judged.outcome is Outcome.NOT_COMPARABLE
    assert judged.reasons == ("the run has no finished point",)


def test_the_released_weights_folder_is_the_published_model() -> None:
    assert perturbed(model="diffusiongemma-26B-A4B-it-FP8-dynamic").outcome is Outcome.REPRODUCED
    assert perturbed(model="diffusiongemma-26bx").outcome is Outcome.NOT_COMPARABLE


DUMMY_RUNS = [
    {"device": device, "precision": precision, "eos_policy": eos, "early_stop": early, "steps": cap}
    for device, precision, eos, early, cap in itertools.product(
        ("NVIDIA H100 80GB HBM3", "NVIDIA H200"),
        ("fp8", "bf16"),
        ("ignore", "stop"),
        (True, False),
        (14, 16, 48),
    )
]


@pytest.mark.parametrize("name", CONTENT)
def test_no_path_leads_from_random_weights_to_a_verdict_on_contents(name: str) -> None:
    """Every shipped content-dependent claim, every way to run random weights: even where the row
    wrongly kept the figures that the harness takes out of it."""
    claim = read_claim(name)
    talking = simulated("diffusion", 1110.0, **TALKING)
    assert judge(claim, [talking.observed(**labels(claim))]).outcome is Outcome.REPRODUCED
    for run in DUMMY_RUNS:
        knobs = {key: value for key, value in run.items() if key != "steps"}
        knobs |= {"max_denoising_steps": run["steps"], "weights": "dummy"}
        judged = judge(claim, [talking.observed(**labels(claim) | knobs)])
        assert judged.outcome is Outcome.NOT_COMPARABLE
        assert (
            "weights are random, and the claim depends on what they would write" in judged.reasons
        )


def test_every_content_dependent_claim_was_enumerated() -> None:
    assert {claim.name for claim in shipped_claims() if claim.depends_on_content} == set(CONTENT)


def test_a_ratio_of_contents_needs_real_weights_on_both_sides() -> None:
    base = read_claim("h200-over-ar")
    open_ended = replace(base, conditions=replace(base.conditions, eos_policy=None))
    assert open_ended.depends_on_content
    top = as_published(base, "diffusion", 1288.0)
    below = simulated("autoregressive", 213.0)
    shown = labels(base, "autoregressive")
    assert judge(open_ended, [top, below.observed(**shown)]).outcome is Outcome.REPRODUCED
    judged = judge(open_ended, [top, below.observed(**shown | {"weights": "dummy"})])
    assert judged.outcome is Outcome.NOT_COMPARABLE


def test_floors_are_those_of_the_published_arithmetic() -> None:
    for device, streaming_ms, forward_ms in (("h100", 8.22, 14.94), ("h200", 5.73, 11.69)):
        claim = read_claim(f"{device}-fp8")
        floors = claim_floors(claim)
        assert floors is not None
        assert floors.forwards == 17
        assert floors.streaming_ms == pytest.approx(streaming_ms, rel=0.01)  # of a denoise forward
        assert floors.streaming_ms < floors.op_ms < floors.forward_ms(claim.value)
        assert floors.forward_ms(claim.value) == pytest.approx(forward_ms, abs=0.005)
        assert floors.rate(floors.forward_ms(claim.value)) == pytest.approx(claim.value)
    assert claim_floors(read_claim("h200-mtp-fp8")) is None
    assert claim_floors(read_claim("card-1100")) is None


def test_a_difference_is_placed_in_steps_and_in_the_time_of_a_forward() -> None:
    floors = claim_floors(H200)
    slower = as_published(H200, "diffusion", 1008.0)
    same_work = decompose(H200, floors, slower)
    assert same_work is not None
    assert same_work.by_steps == 0
    assert same_work.by_forward == pytest.approx(same_work.log_ratio)
    assert same_work.host_share == pytest.approx(0, abs=0.01)
    more = simulated("diffusion", 1288 * 17 / 34, steps=(33,)).observed(**labels(H200))
    more_steps = decompose(H200, floors, more)
    assert more_steps is not None
    assert more_steps.measured is not None
    assert more_steps.by_steps == pytest.approx(more_steps.log_ratio, abs=0.01)
    assert more_steps.by_forward == pytest.approx(0, abs=0.01)
    assert more_steps.measured.op_floor_share is None  # the floor is one of 17 forwards


def test_baselines_divide_by_the_published_the_measured_and_the_equal_share() -> None:
    points = [as_published(H200, "diffusion", 1288.0), as_published(H200, "autoregressive", 389.0)]
    floors, sibling = claim_floors(H200), sibling_floors(H200)
    assert floors is not None
    assert sibling is not None
    published = published_sibling(H200, shipped_claims())
    assert published == 213
    found = {b.kind: b for b in baselines(judge(H200, points), points, published, floors, sibling)}
    assert found["published"].ratio == pytest.approx(1288 / 213, rel=0.01)
    assert found["measured"].ratio == pytest.approx(1288 / 389, rel=0.01)
    share = floors.op_ms / floors.forward_ms(1288.0)
    assert found["projected"].floor_share == pytest.approx(share, rel=0.01)
    assert found["projected"].tok_per_s == pytest.approx(1e3 * share / sibling.op_ms, rel=0.01)
    assert baselines(judge(H200, points[:1]), points[:1], None, None, None) == []
    over = read_claim("h200-over-ar")
    assert baselines(judge(over, points), points, published, floors, sibling) == []


def test_tokens_a_forward_are_bounded_by_prompt() -> None:
    claim = read_claim("card-tokens-per-forward")
    point = as_published(claim, "diffusion", 1110.0, **TALKING)
    for metric in ("tokens_per_forward_denoise", "tokens_per_forward_all"):
        value, interval = point.value(metric), point.interval(metric)
        assert value is not None
        assert interval is not None
        assert interval[0] <= value <= interval[1]
    assert point.value("tokens_per_forward_denoise") == pytest.approx(256 / 14.5, rel=0.02)


def test_a_run_without_its_forwards_has_no_interval_of_what_counts_them() -> None:
    point = as_published(read_claim("h100-fp8"), "diffusion", 1000.0, **TALKING)
    metric = "tokens_per_forward_all"
    assert point.value(metric) is not None
    assert point.interval(metric) is not None
    assert replace(point, steps=pd.DataFrame()).interval(metric) is None
