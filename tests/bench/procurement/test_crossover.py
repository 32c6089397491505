"""The crossover: exact where it is known, and limits that hold the truth of simulated campaigns."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.procurement import projection_table
from bench.procurement.cell import NumberClass
from bench.procurement.crossover import crossover, crossovers
from bench.procurement.curves import Curve, measured_curves
from bench.procurement.reply_length import Deliveries, measured_deliveries, reply_length
from bench.store import Run, open_run
from tests.bench.procurement.synthetic_device import SyntheticDevice, campaign, quiet

PUBLISHED = Path(__file__).parents[3] / "results" / "published"
SIZES = (1, 2, 4, 8, 16, 32, 64)


def curve(decoding: str, *processes: tuple[float, ...], **changed: object) -> Curve:
    sizes = SIZES[: len(processes[0])]
    found = Curve(
        decoding=decoding,
        metric="delivered_tok_per_s",
        kind=NumberClass.MEASURED,
        device="h200",
        precision="fp8",
        prompt_tokens=1024,
        reply_tokens=1024,
        steps=16.0 if decoding == "diffusion" else None,
        batch_sizes=sizes,
        values=processes,
    )
    return replace(found, **changed)  # type: ignore[arg-type]


def powers(at_one: float, exponent: float) -> tuple[float, ...]:
    return tuple(at_one * size**exponent for size in SIZES)


def test_curves_that_are_straight_on_log_axes_cross_where_they_do() -> None:
    """1000 b^0.2 and 100 b^0.9 meet at b = 10^(1 / 0.7), 26.8."""
    found = crossover(
        curve("diffusion", powers(1000, 0.2)), curve("autoregressive", powers(100, 0.9))
    )
    assert found.outcome == "crosses"
    assert found.batch_size.value == pytest.approx(10 ** (1 / 0.7), rel=1e-4)
    assert found.batch_size.low is found.batch_size.high is None
    assert found.batch_size.why_no_interval == "one process: no interval"
    assert found.no_crossing_share is None
    assert (found.range, found.crossings) == ((1, 64), 1)


@pytest.mark.parametrize(
    ("at_one", "outcome", "share"),
    [
        (10.0, "diffusion leads throughout", (0.0, 1.0)),
        (9e3, "autoregressive leads throughout", (1.0, 0.0)),
    ],
)
def test_none_in_range_is_an_answer(
    at_one: float, outcome: str, share: tuple[float, float]
) -> None:
    rows = [powers(1000 * f, 0.2) for f in (0.99, 1.0, 1.01)]
    others = [powers(at_one * f, 0.3) for f in (0.99, 1.0, 1.01)]
    found = crossover(curve("diffusion", *rows), curve("autoregressive", *others))
    assert found.outcome == outcome
    assert found.batch_size.value is None
    assert found.batch_size.why_unknown == f"none in 1 to 64: {outcome}"
    assert (found.below_share, found.above_share) == share
    assert found.no_crossing_share == 1.0
    assert found.is_open_below == (share[0] == 1)
    assert found.is_open_above == (share[1] == 1)


def test_a_crossing_near_the_end_leaves_the_limit_open_and_says_how_often() -> None:
    scatter = (0.94, 1.0, 1.06)
    rows = [powers(1000 * f, 0.2) for f in scatter]
    others = [powers(58 * f, 0.9) for f in scatter]  # meets at 58.4
    found = crossover(curve("diffusion", *rows), curve("autoregressive", *others))
    assert found.batch_size.value == pytest.approx((1000 / 58) ** (1 / 0.7), rel=1e-4)
    assert found.is_open_above
    assert found.batch_size.high is None
    assert found.batch_size.low is not None
    assert found.above_share is not None
    assert 0.1 < found.above_share < 0.6
    assert not found.is_open_below


def test_a_crossing_surely_beyond_the_range_has_no_limit_within() -> None:
    rows = [powers(1000 * f, 0.2) for f in (0.99, 1.0, 1.01)]
    others = [powers(20 * f, 0.9) for f in (0.99, 1.0, 1.01)]  # would meet at 267
    found = crossover(curve("diffusion", *rows), curve("autoregressive", *others))
    assert found.batch_size.low is found.batch_size.high is None
    assert found.is_open_above
    assert not found.is_open_below
    assert projection_table._crossing(found) == "diffusion leads throughout (beyond 64) | 100 %"


def test_less_energy_is_better() -> None:
    joules = {"metric": "joules_per_token"}
    found = crossover(
        curve("diffusion", powers(0.4, -0.1), **joules),
        curve("autoregressive", powers(1.0, -0.5), **joules),
    )
    assert found.outcome == "crosses"
    assert found.batch_size.value == pytest.approx((1 / 0.4) ** (1 / 0.4), rel=1e-4)
    assert "energy" in found.batch_size.definition


def test_between_measured_batches_no_crossing_is_invented() -> None:
    """A smooth curve through these would dip below one between 2 and 4; the points do not."""
    diffusion = curve("diffusion", (100, 100, 100, 100, 100, 100, 100))
    other = curve("autoregressive", (50, 99, 99.9, 60, 50, 40, 30))
    assert crossover(diffusion, other).outcome == "diffusion leads throughout"


def test_the_first_of_several_crossings_counts() -> None:
    diffusion = curve("diffusion", (100, 100, 100, 100, 100, 100, 100))
    other = curve("autoregressive", (50, 200, 50, 60, 200, 200, 300))
    found = crossover(diffusion, other)
    assert found.crossings == 3
    assert found.batch_size.value is not None
    assert 1 < found.batch_size.value < 2


def test_a_projection_has_limits_from_its_errors() -> None:
    spread = {"kind": NumberClass.PROJECTED, "log_sds": (0.1,) * 7}
    found = crossover(
        curve("diffusion", powers(1000, 0.2), **spread),
        curve("autoregressive", powers(100, 0.9), **spread),
    )
    assert found.batch_size.kind is NumberClass.PROJECTED
    # The lead's error is sqrt(2) x 0.1; over a slope of 0.7 and 1.96 of them either way.
    half = 1.96 * math.sqrt(2) * 0.1 / 0.7
    assert found.batch_size.low is not None
    assert found.batch_size.low == pytest.approx(10 ** (1 / 0.7) * math.exp(-half), rel=0.05)
    assert found.batch_size.high == pytest.approx(10 ** (1 / 0.7) * math.exp(half), rel=0.05)


def test_unlike_curves_are_refused_and_not_paired() -> None:
    one, other = curve("diffusion", powers(1, 1)), curve("autoregressive", powers(1, 1))
    with pytest.raises(ValueError, match="differ in precision: fp8 and bf16"):
        crossover(one, replace(other, precision="bf16"))
    with pytest.raises(ValueError, match="valid: diffusion, autoregressive"):
        crossover(other, one)
    with pytest.raises(ValueError, match="share 1 batch sizes"):
        crossover(one, replace(other, batch_sizes=(1,), values=((1.0,),)))
    bf16 = replace(one, precision="bf16")
    assert [c.precision for c in crossovers([one, bf16, other])] == ["fp8"]


def _run(batches: tuple[int, ...] = (1, 4)) -> Run:
    """A run's tables of both siblings, two processes a point; wall seconds are exact."""
    points, requests, windows = [], [], []
    for decoding in ("diffusion", "autoregressive"):
        for batch in batches:
            point_id = f"{decoding}-{batch}"
            is_diffusion = decoding == "diffusion"
            points.append(
                {"point_id": point_id, "decoding": decoding, "batch_size": batch}
                | {"model": decoding, "weights": "dummy", "precision": "fp8", "kernels": "triton"}
                | {"execution": "cuda_graph", "backend": "native", "device": "NVIDIA H200"}
                | {"workload": "fixed_work", "eos_policy": "ignore", "max_new_tokens": 512}
                | {"max_denoising_steps": 16 if is_diffusion else None, "connections": None}
                | {"early_stop": False if is_diffusion else None, "validity": "valid"}
                | {"commit_mode": "separate" if is_diffusion else None}
                | {"vocabulary": "exact", "min_belief": 0.0 if is_diffusion else None}
            )
            for process in (0, 1):
                wall_s = (1.0 if is_diffusion else 2.0) * (1 + 0.1 * process) * batch**0.5
                requests += [
                    {"point_id": point_id, "process_id": process, "batch_size": batch}
                    | {"delivered_tokens": 512, "first_delivery_tokens": 256, "wall_s": wall_s}
                    | {"prefill_s": 0.1, "first_canvas_s": 0.5, "last_delivery_s": wall_s}
                    | {"slots_committed": 512, "prompt_tokens": 1024}
                    for _ in range(batch)
                ]
                windows.append(
                    {"point_id": point_id, "process_id": process, "joules": 300.0 * wall_s}
                )
    tables = {"points": points, "requests": requests, "windows": windows}
    return Run(Path("run"), {}, {name: pd.DataFrame(rows) for name, rows in tables.items()})


def test_curves_come_from_a_runs_tables() -> None:
    found = {(c.decoding, c.metric): c for c in measured_curves(_run())}
    assert len(found) == 4
    diffusion = found["diffusion", "delivered_tok_per_s"]
    assert diffusion.device == "h200"
    assert (diffusion.prompt_tokens, diffusion.reply_tokens, diffusion.steps) == (1024, 512, 16)
    assert diffusion.batch_sizes == (1, 4)
    # A batch of four takes twice as long, so it delivers twice as much a second.
    expected = [[512 / 1.0, 4 * 512 / 2.0], [512 / 1.1, 4 * 512 / 2.2]]
    assert np.array(diffusion.values) == pytest.approx(np.array(expected))
    energy = found["autoregressive", "joules_per_token"]
    assert energy.values[0] == pytest.approx((300 * 2 / 512, 300 * 4 / 2048))
    assert energy.steps is None


def test_points_that_commit_otherwise_are_no_points_of_a_curve() -> None:
    run = _run()
    fused = run.points["decoding"].eq("diffusion") & run.points["batch_size"].eq(4)
    run.points.loc[fused, "commit_mode"] = "fused"
    assert {curve.decoding for curve in measured_curves(run)} == {"autoregressive"}
    both = _run()
    both.points["commit_mode"] = both.points["commit_mode"].replace("separate", "fused")
    sources = {curve.decoding: curve.source for curve in measured_curves(both)}
    assert sources == {"diffusion": "run, commits fused", "autoregressive": "run"}


def test_invalid_points_and_single_batches_make_no_curve() -> None:
    run = _run()
    run.points.loc[run.points["batch_size"] == 4, "validity"] = "invalid"
    assert measured_curves(run) == []
    without = _run()
    windows = without.table("windows")
    assert windows is not None
    windows["joules"] = None
    assert {c.metric for c in measured_curves(without)} == {"delivered_tok_per_s"}


def _coverage(processes: int, campaigns: int, metric: str) -> float:
    """Share of campaigns whose 95 % limits hold the true crossing."""
    device, held = SyntheticDevice(), 0
    truth = device.crossing(metric, 1, 64)  # type: ignore[arg-type]
    for seed in range(campaigns):
        curves = campaign(
            device,
            metric,  # type: ignore[arg-type]
            batch_sizes=SIZES,
            processes=processes,
            seed=seed,
        )
        found = crossover(*curves, seed=seed)
        low, high = found.batch_size.low, found.batch_size.high
        is_above = found.is_open_below or (low is not None and low <= truth)
        held += is_above and (found.is_open_above or (high is not None and truth <= high))
    return held / campaigns


def test_interpolation_finds_the_true_crossing_of_curved_curves() -> None:
    device = SyntheticDevice()
    for metric in ("delivered_tok_per_s", "joules_per_token"):
        still = campaign(quiet(device), metric, batch_sizes=SIZES, processes=2, seed=0)
        truth = device.crossing(metric, 1, 64)
        assert crossover(*still).batch_size.value == pytest.approx(truth, rel=0.01)


def test_the_limits_hold_the_truth() -> None:
    assert 0.89 <= _coverage(5, 100, "delivered_tok_per_s") <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["delivered_tok_per_s", "joules_per_token"])
@pytest.mark.parametrize("processes", [3, 5, 8])
def test_the_limits_hold_the_truth_in_a_thousand_campaigns(processes: int, metric: str) -> None:
    assert 0.93 <= _coverage(processes, 1000, metric) <= 0.97


def test_drawing_whole_processes_would_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def plain(groups: list[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
        drawn = [rng.integers(len(logs), size=(2000, len(logs))) for logs in groups]
        return [logs[rows].mean(axis=1) for logs, rows in zip(groups, drawn, strict=True)]

    monkeypatch.setattr("bench.procurement.crossover.redrawn_means", plain)
    assert _coverage(3, 100, "delivered_tok_per_s") < 0.9


KIND = {"kind": NumberClass.MEASURED, "source": "run"}


def _sooner(first: float, gap: float, token_first: float, token: float, length: int) -> bool:
    """Whether a reply is there sooner autoregressively, delivery by delivery."""
    canvases = -(-length // 256)
    return token_first + (length - 1) * token < first + (canvases - 1) * gap


def test_reply_lengths_are_those_of_a_simulation() -> None:
    rng = np.random.default_rng(1)
    for _ in range(40):
        first, gap, token_first = rng.uniform(0.02, 1.0, size=3)
        token = rng.uniform(0.0005, 0.006)
        found = reply_length(
            Deliveries((first,), (gap,), **KIND),  # type: ignore[arg-type]
            Deliveries((token_first,), (token,), **KIND),  # type: ignore[arg-type]
            canvas_length=256,
            up_to=1500,
        )
        expected = {n for n in range(1, 1501) if _sooner(first, gap, token_first, token, n)}
        windows = {n for low, high in found.windows for n in range(low, high + 1)}
        assert windows == expected
        up_to = next((n - 1 for n in range(1, 1502) if n not in expected), 1500)
        assert found.tokens.value == up_to
        assert found.tokens.why_no_interval


def test_reply_length_of_the_measured_h200() -> None:
    """Five processes a sibling: first canvas 197.5 ms, first token 40.1 ms, then 2.43 ms each."""
    run = open_run(PUBLISHED / "nvidia-h200-2026-11-26" / "fixed_work")
    ones = [measured_deliveries(run, f"{d}-fp8") for d in ("diffusion", "autoregressive")]
    assert ones[0] is not None
    assert ones[1] is not None
    assert len(ones[0].first_s) == len(ones[1].gap_s) == 5
    found = reply_length(ones[0], ones[1], canvas_length=256)
    assert found.tokens.kind is NumberClass.MEASURED
    assert found.tokens.value == pytest.approx(1 + (197.5 - 40.13) / 2.429, abs=1.0)
    assert found.tokens.low is not None
    assert found.tokens.high is not None
    assert 60 < found.tokens.low <= found.tokens.value <= found.tokens.high < 70
    assert found.windows[0] == (1, found.tokens.value)
    assert measured_curves(run) == []  # one batch size makes no curve


def test_a_reply_length_has_limits_from_its_processes() -> None:
    rng = np.random.default_rng(2)

    def several(value: float) -> tuple[float, ...]:
        return tuple(value * np.exp(rng.normal(0, 0.01, 5)))

    found = reply_length(
        Deliveries(several(0.2), several(0.17), **KIND),  # type: ignore[arg-type]
        Deliveries(several(0.04), several(0.0024), **KIND),  # type: ignore[arg-type]
        canvas_length=256,
    )
    low, value, high = found.tokens.low, found.tokens.value, found.tokens.high
    assert low is not None
    assert value is not None
    assert high is not None
    assert low < value < high < 1.1 * value
    assert value == pytest.approx(1 + 0.16 / 0.0024, rel=0.03)
    assert found.windows[0] == (1, value)
