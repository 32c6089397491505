"""What is chosen is what the tables say: counts exactly, and on a virtual clock times too."""

import time
from typing import Any

import numpy as np
import pytest

from bench.backends import Delivery, Forward
from bench.backends.simulated import (
    ChosenTiming,
    Knobs,
    SimulatedSession,
    SyntheticConfig,
    VirtualClock,
    make_recording,
)
from tests.bench.backends.driving import answers, measured, prompts_of

TIMING = ChosenTiming(prefill_s=0.5, denoise_s=0.25, commit_s=0.125, decode_s=0.0625, request_s=1.0)
CONFIG = SyntheticConfig(
    num_prompts=8, answer_tokens=[5, 12], canvas_length=8, steps=[2, 4, 6], accuracy=0.75
)


def virtual(config: SyntheticConfig, *args: Any, **kwargs: Any) -> tuple[SimulatedSession, Any]:
    seed = kwargs.pop("seed", 0)
    recording = make_recording(config, decoding=kwargs.pop("decoding", "diffusion"), seed=seed)
    return SimulatedSession(recording, *args, clock=VirtualClock(), **kwargs), recording


def test_a_diffusion_point_is_exactly_as_chosen() -> None:
    session, recording = virtual(CONFIG, TIMING)
    tables, point = measured(session, recording, repeats=2)
    # 4 answers of 5 tokens in 1 canvas, 4 of 12 in 2: 12 canvases, each of 2, 4, 6 steps 4 times.
    steps, commits, delivered = 4 * (2 + 4 + 6), 4, 4 * 5 + 4 * 12
    wall_s = 8 * (0.5 + 1.0) + steps * 0.25 + commits * 0.125
    first = tables["requests"][tables["requests"]["repeat"] == 0]
    ledger = first[["delivered_tokens", "after_eos_slots", "over_limit_slots", "row_ended_slots"]]
    assert ledger.sum(axis=1).tolist() == first["slots_committed"].tolist()
    assert first["delivered_tokens"].sum() == delivered
    assert first["slots_committed"].sum() == 12 * 8
    assert first["wall_s"].sum() == pytest.approx(wall_s, rel=1e-12)
    assert sorted(tables["canvases"]["steps"]) == sorted([2, 4, 6] * 8)
    expected = {
        "accuracy": 0.75,
        "num_canvases": 12,
        "steps_per_canvas_median": 4.0,
        "delivered_tok_per_s": delivered / wall_s,
        "generation_tok_per_s_excl_prefill": delivered / (wall_s - 8 * 0.5),
        "slot_tok_per_s": 12 * 8 / wall_s,
        "step_ms": 250.0,
        "commit_ms": 125.0,
        "prefill_ms": 500.0,
        "decode_ms": None,
        "tokens_per_forward_denoise": delivered / steps,
        "tokens_per_forward_all": delivered / (steps + commits + 8),
        "cap_rate": 0.0,
        "occupancy": 1.0,
        "revised_after_accept": 0.0,
        "revocations_per_token": 0.0,
        "empty_share": 0.0,
        "truncated_share": 0.0,
        "validity": "valid",
    }
    for name, value in expected.items():
        assert point[name] == (value if isinstance(value, str) else pytest.approx(value)), name


def test_an_autoregressive_point_is_exactly_as_chosen() -> None:
    session, recording = virtual(CONFIG, TIMING, decoding="autoregressive")
    tables, point = measured(session, recording)
    # The first token comes with the prefill: 4 answers of 5 tokens, 4 of 12.
    decoded = 4 * 4 + 4 * 11
    assert (tables["steps"]["phase"] == "decode").sum() == decoded
    assert tables["canvases"].empty
    assert point["delivered_tok_per_s"] == pytest.approx(68 / (8 * 1.5 + decoded * 0.0625))
    assert point["decode_tok_per_s"] == pytest.approx(16.0)
    assert point["decode_ms"] == pytest.approx(62.5)
    assert point["accuracy"] == 0.75
    assert point["validity"] == "valid"


def test_events_come_in_the_engines_order() -> None:
    session, recording = virtual(SyntheticConfig(answer_tokens=[12], canvas_length=8, steps=[2]))
    request = recording.requests[0]
    events = list(session.answer([request.prompt_ids], [request.request_id]))
    assert [e if isinstance(e, Forward) else e.canvas_index for e in events] == [
        Forward("prefill", 0, 1),
        Forward("denoise", 0, 1),
        Forward("denoise", 0, 2),
        0,
        Forward("commit", 1, 1),
        Forward("denoise", 1, 1),
        Forward("denoise", 1, 2),
        1,
    ]


def test_a_share_of_the_tokens_is_revised_after_acceptance() -> None:
    config = SyntheticConfig(num_prompts=4, answer_tokens=[10], steps=[5], revised_share=0.3)
    tables, point = measured(*virtual(config))
    assert tables["canvases"]["revised_after_accept"].tolist() == [3] * 4
    assert point["revised_after_accept"] == point["revised_direct_edit"] == pytest.approx(0.3)
    assert point["accuracy"] == 1.0
    # Edited by the last step, so wrong halfway and right at the end.
    assert point["net_correction"] == 1.0


def test_rows_of_a_batch_wait_for_the_slowest() -> None:
    config = SyntheticConfig(
        num_prompts=4, answer_tokens=[5, 12], canvas_length=8, steps=[1, 2, 3], accuracy=1.0
    )
    session, recording = virtual(config, TIMING)
    tables, point = measured(session, recording, batch_size=2)
    requests = recording.requests
    active = total = forwards = 0
    for pair in (requests[:2], requests[2:]):
        for block in range(max(len(r.canvases) for r in pair)):
            steps = [r.canvases[block].steps for r in pair if block < len(r.canvases)]
            active, total = active + sum(steps), total + 2 * max(steps)
            forwards += max(steps)
    commits = sum(max(len(r.canvases) for r in p) - 1 for p in (requests[:2], requests[2:]))
    assert active < total
    assert point["occupancy"] == pytest.approx(active / total)
    assert (tables["requests"]["waiting_row_steps"] + tables["requests"]["ended_row_steps"]).any()
    assert tables["requests"]["row_ended_slots"].any()
    # Both rows of a batch share its wall time.
    wall_s = 2 * (0.5 + 1.0) + forwards * 0.25 + commits * 0.125
    assert tables["requests"]["wall_s"].sum() / 2 == pytest.approx(wall_s)
    assert point["delivered_tok_per_s"] == pytest.approx(34 / wall_s)
    assert point["validity"] == "valid"


def test_same_seed_same_answers_other_seed_others() -> None:
    timing = ChosenTiming(denoise_s=0.1, distribution="lognormal", spread=0.2)

    def played(seed: int, process_id: int = 0) -> tuple[list[str], list[list[int]], list[float]]:
        knobs = Knobs(max_new_tokens=64, seed=seed, process_id=process_id)
        session, recording = virtual(CONFIG, timing, knobs=knobs, seed=seed)
        records = answers(session, prompts_of(recording), repeats=2)
        traces = [c.argmax.tolist() for r in records for c in r.canvases if c.argmax is not None]
        return [r.text for r in records], traces, [r.wall_s for r in records]

    texts, traces, walls = played(0)
    assert played(0) == (texts, traces, walls)
    assert walls[:8] != walls[8:]  # another repeat takes another time
    other = played(0, process_id=1)
    assert other[:2] == (texts, traces)
    assert other[2] != walls
    assert played(1)[0] != texts


def test_a_requests_time_does_not_depend_on_the_order() -> None:
    timing = ChosenTiming(denoise_s=0.1, distribution="lognormal", spread=0.2)
    session, recording = virtual(CONFIG, timing)
    prompts = prompts_of(recording)
    forth = {r.request_id: r.wall_s for r in answers(session, prompts)}
    session, _ = virtual(CONFIG, timing)
    back = {r.request_id: r.wall_s for r in answers(session, prompts[::-1])}
    assert forth == pytest.approx(back)


@pytest.mark.parametrize(
    ("distribution", "low", "median"), [("lognormal", 0, 1), ("heavy_tail", 1, 2**0.5)]
)
def test_times_spread_as_chosen(distribution: str, low: float, median: float) -> None:
    config = SyntheticConfig(num_prompts=50, steps=[40])
    timing = ChosenTiming(denoise_s=1.0, distribution=distribution, spread=0.5, process_factor=3.0)
    session, recording = virtual(config, timing)
    records = answers(session, prompts_of(recording))
    steps = [s.device_ms for r in records for s in r.steps if s.phase == "denoise"]
    factors = np.array(steps) / 3000
    assert factors.min() >= low * (1 - 1e-9)
    assert np.median(factors) == pytest.approx(median, rel=0.05)
    assert np.std(np.log(factors)) == pytest.approx(0.5, rel=0.1)


def test_steps_follow_the_knobs() -> None:
    def steps(**knobs: Any) -> tuple[list[int], set[str], float]:
        session, recording = virtual(CONFIG, knobs=Knobs(max_new_tokens=64, **knobs))
        records = answers(session, prompts_of(recording))
        own = [canvas for record in records for canvas in record.canvases]
        right = sum(bool(record.correct) for record in records) / len(records)
        return sorted(c.steps for c in own), {c.stop_reason for c in own}, right

    assert steps() == (sorted([2, 4, 6] * 4), {"converged"}, 0.75)
    cut, reasons, right = steps(max_denoising_steps=3)
    assert max(cut) == 3
    assert reasons == {"converged", "cap"}
    assert right < 0.75  # a canvas that is cut delivers what it has
    assert steps(max_denoising_steps=6) == steps()
    forced, reasons, right = steps(max_denoising_steps=9, early_stop=False)
    assert set(forced) == {9}
    assert (reasons, right) == ({"forced"}, 0.75)


def test_answers_are_cut_at_the_limit_and_prolonged_past_an_ignored_eos() -> None:
    session, recording = virtual(CONFIG, knobs=Knobs(max_new_tokens=6))
    tables, point = measured(session, recording)
    assert sorted(tables["requests"]["delivered_tokens"]) == [5] * 4 + [6] * 4
    assert sorted(tables["requests"]["over_limit_slots"]) == [0] * 4 + [2] * 4
    assert point["truncated_share"] == 0.5
    assert point["validity"] == "low_validity"
    knobs = Knobs(max_new_tokens=20, eos_policy="ignore")
    for decoding in ("diffusion", "autoregressive"):
        session, recording = virtual(CONFIG, knobs=knobs, decoding=decoding)
        records = answers(session, prompts_of(recording))
        assert {(r.delivered_tokens, r.finish_reason) for r in records} == {(20, "length")}


def test_a_trace_of_counts_has_no_positions() -> None:
    knobs = Knobs(max_new_tokens=64, trace="counts")
    session, recording = virtual(CONFIG, knobs=knobs)
    tables, point = measured(session, recording)
    assert tables["positions"].empty
    assert tables["canvases"]["flips"].isna().all()
    assert tables["steps"].query("phase == 'denoise'")["accepted_slots"].notna().all()
    assert point["steps_per_canvas_median"] == 4.0
    assert "argmax_flip_rate" not in point


def test_the_trace_has_a_batchs_shape() -> None:
    session, recording = virtual(CONFIG)
    pair = recording.requests[:2]
    events = session.answer([r.prompt_ids for r in pair], [r.request_id for r in pair])
    trace = next(e for e in events if isinstance(e, Delivery)).trace
    num_steps = max(r.canvases[0].steps for r in pair)
    assert trace is not None
    for array in (trace.candidate, trace.accepted, trace.argmax, trace.entropy_nat):
        assert array is not None
        assert array.shape == (num_steps, 2, 8)
    assert trace.accepted_slots.shape == trace.mean_entropy_nat.shape == (num_steps, 2)
    assert trace.accepted is not None
    assert (trace.accepted.sum(-1) == trace.accepted_slots).all()


def test_a_real_clock_really_waits() -> None:
    recording = make_recording(SyntheticConfig(num_prompts=1, steps=[4]))
    session = SimulatedSession(recording, ChosenTiming(prefill_s=0.02, denoise_s=0.01))
    begin = time.perf_counter()
    (record,) = answers(session, prompts_of(recording))
    assert 0.06 <= record.wall_s <= time.perf_counter() - begin
    assert record.prefill_s >= 0.02


def test_prompts_of_a_workload_are_answered_in_their_own_words() -> None:
    asked = prompts_of(make_recording(CONFIG, seed=3))
    recording = make_recording(SyntheticConfig(accuracy=1.0), prompts=asked)
    records = answers(SimulatedSession(recording, clock=VirtualClock()), asked)
    assert [record.text for record in records] == [prompt.answer for prompt in asked]
    assert all(record.correct for record in records)


def test_unknown_prompts_are_refused() -> None:
    session, _ = virtual(CONFIG)
    with pytest.raises(ValueError, match="is not in the recording, which has 8 of"):
        session.encode("what?")
    with pytest.raises(ValueError, match=r"prompt 0 \(2 tokens\) is not in the recording"):
        session.check([[5, 5]])


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0; it must be >= 1"),
        ({"eos_policy": "go"}, "eos_policy is 'go'; valid: stop, ignore"),
        ({"early_stop": False}, "max_denoising_steps must say how many"),
    ],
)
def test_knobs_out_of_range_are_named(knobs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Knobs(**({"max_new_tokens": 8} | knobs))
