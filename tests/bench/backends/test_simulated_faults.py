"""Every fault does what it says, and the harness finds what it should find."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.backends.simulated import (
    ChosenTiming,
    Knobs,
    SimulatedConfig,
    SimulatedSession,
    SyntheticConfig,
    VirtualClock,
    make_recording,
    simulated_session,
)
from bench.backends.simulated.config import FAULTS, FaultConfig, TimingConfig
from bench.backends.simulated.faults import (
    Crash,
    EmptyAnswers,
    Fault,
    ForeignProcess,
    Hang,
    InertKnob,
    NonFiniteEntropy,
    SlowShare,
    SlowSteps,
    Throttle,
    TruncatedAnswers,
    UnbalancedLedger,
)
from bench.telemetry import Sample, ThrottleReason
from tests.bench.backends.driving import answers, measured, prompts_of

CONFIG = SyntheticConfig(num_prompts=10, answer_tokens=[8], steps=[3])
TIMING = ChosenTiming(prefill_s=1.0, denoise_s=1.0, decode_s=1.0)


def faulty(*faults: Fault, decoding: str = "diffusion", **knobs: Any) -> tuple[Any, Any]:
    recording = make_recording(CONFIG, decoding=decoding)
    given = Knobs(**({"max_new_tokens": 64} | knobs))
    return SimulatedSession(recording, TIMING, faults, knobs=given, clock=VirtualClock()), recording


def walls(*faults: Fault, **knobs: Any) -> list[float]:
    session, recording = faulty(*faults, **knobs)
    return [record.wall_s for record in answers(session, prompts_of(recording))]


@pytest.mark.parametrize(
    ("faults", "validity", "reason"),
    [
        ((), "valid", None),
        ((NonFiniteEntropy(request_id=4),), "invalid", "entropy_not_finite"),
        ((UnbalancedLedger(request_id=4),), "invalid", "ledger_does_not_sum"),
        (
            (UnbalancedLedger(request_id=4), NonFiniteEntropy(request_id=4)),
            "invalid",
            "ledger_does_not_sum, entropy_not_finite",
        ),
        ((EmptyAnswers(share=0.2),), "low_validity", "20% of answers empty"),
        ((TruncatedAnswers(share=0.1),), "low_validity", "10% of answers truncated"),
    ],
)
def test_the_harness_finds_it(faults: tuple[Fault, ...], validity: str, reason: str | None) -> None:
    _, point = measured(*faulty(*faults, trace="counts"))
    assert (point["validity"], point["validity_reason"]) == (validity, reason)


def test_broken_logits_touch_one_request_alone() -> None:
    session, recording = faulty(NonFiniteEntropy(request_id=4))
    for record in answers(session, prompts_of(recording)):
        broken = [step.mean_entropy_nat != step.mean_entropy_nat for step in record.steps]
        assert any(broken) == (record.request_id == 4)


@pytest.mark.parametrize("decoding", ["diffusion", "autoregressive"])
def test_lost_answers_count_as_wrong_and_the_ledger_still_sums(decoding: str) -> None:
    faults = EmptyAnswers(share=0.3), TruncatedAnswers(share=0.2)
    for fault, tokens, number in zip(faults, (1, 4), (3, 2), strict=True):
        session, recording = faulty(fault, decoding=decoding)
        records = answers(session, prompts_of(recording))
        lost = [record for record in records if record.delivered_tokens == tokens]
        assert len(lost) == number
        assert sum(bool(record.correct) for record in records) == 10 - number
        assert not any(record.correct for record in lost)
        for canvas in (canvas for record in records for canvas in record.canvases):
            assert len(canvas.tokens) + canvas.after_eos + canvas.over_limit == len(canvas.slots)


def test_the_seed_decides_which_answers_are_lost() -> None:
    def lost(seed: int) -> set[int]:
        session, recording = faulty(EmptyAnswers(share=0.5), seed=seed)
        records = answers(session, prompts_of(recording))
        return {record.request_id for record in records if not record.text}

    assert lost(0) == lost(0) != lost(1)


def test_steps_slow_down_from_a_request_on() -> None:
    assert walls() == pytest.approx([4.0] * 10)
    assert walls(SlowSteps(factor=2.0, request=6)) == pytest.approx([4.0] * 6 + [7.0] * 4)
    assert walls(SlowSteps(factor=2.0, step=3)) == pytest.approx([5.0] * 10)
    # Autoregressively 8 tokens take 7 steps; those from the 6th on are slow.
    slow = walls(SlowSteps(factor=2.0, step=6), decoding="autoregressive")
    assert slow == pytest.approx([1.0 + 7.0 + 2.0] * 10)


def test_faults_compose() -> None:
    both = walls(SlowSteps(factor=2.0), SlowSteps(factor=3.0))
    assert both == pytest.approx([1.0 + 3 * 6.0] * 10)


def test_a_share_of_steps_is_slow() -> None:
    taken = walls(SlowShare(share=0.4, factor=11.0))
    slow = (sum(taken) - 40.0) / 10.0
    assert slow == pytest.approx(round(slow))
    assert 4 <= slow <= 20  # of 30, 12 expected
    assert walls(SlowShare(share=1.0, factor=11.0)) == pytest.approx([34.0] * 10)


def test_throttling_ramps_up_and_leaves_marks() -> None:
    fault = Throttle(factor=3.0, request=2, num_requests=4)
    session, recording = faulty(fault)
    records = answers(session, prompts_of(recording))
    factors = [1.0, 1.0, 1.5, 2.0, 2.5, *[3.0] * 5]
    assert [record.wall_s for record in records] == pytest.approx([4 * f for f in factors])
    assert [mark.factor for mark in session.marks[::4]] == factors[2:]
    assert session.marks[0].begin_s == pytest.approx(8.0)
    assert session.marks[-1].end_s == pytest.approx(session.clock())


def test_the_virtual_clock_has_telemetry_of_its_own() -> None:
    """Of the window's batches alone: those of the warm-up came before it."""
    session, recording = faulty(ForeignProcess(factor=2.0, request=6), Throttle(2.0, request=8))
    prompts = prompts_of(recording)
    answers(session, prompts[:4])
    begin_s = time.perf_counter()
    answers(session, prompts[4:])
    seen = session.observed([], (begin_s, time.perf_counter()))
    assert seen.gpu
    assert seen.window_s == pytest.approx((16.0, 16.0 + 2 * 4.0 + 2 * 8.0 + 2 * 16.0))
    for sample in seen.samples[:-1]:
        assert sample.foreign_processes == (sample.at_s >= 24.0)
        throttled = sample.throttle_reasons == ThrottleReason.HW_THERMAL_SLOWDOWN
        assert throttled == (sample.at_s >= 40.0)


def test_on_the_real_clock_faults_are_put_into_real_samples() -> None:
    recording, given = make_recording(CONFIG), [Sample(at_s=time.perf_counter(), swap_used_bytes=7)]
    window_s = given[0].at_s - 1.0, given[0].at_s + 1.0
    untouched = SimulatedSession(recording).observed(given, window_s)
    assert (untouched.samples, untouched.window_s, untouched.gpu) == (given, window_s, False)
    session = SimulatedSession(recording, faults=[ForeignProcess()])
    answers(session, prompts_of(recording)[:1])
    mark = session.marks[-1]
    given.append(Sample(at_s=(mark.begin_s + mark.end_s) / 2, swap_used_bytes=8))
    seen = session.observed(given, window_s)
    assert (seen.window_s, seen.gpu) == (window_s, True)
    assert [(s.foreign_processes, s.swap_used_bytes) for s in seen.samples] == [(0, 7), (1, 8)]


@pytest.mark.parametrize("knob", ["max_denoising_steps", "early_stop"])
def test_an_inert_knob_has_no_effect_and_is_found(knob: str) -> None:
    asked = {"max_denoising_steps": 2}
    if knob == "early_stop":
        asked |= {"max_denoising_steps": 9, "early_stop": False}

    def steps(*faults: Fault) -> set[int]:
        session, recording = faulty(*faults, **asked)
        records = answers(session, prompts_of(recording))
        return {canvas.steps for record in records for canvas in record.canvases}

    assert steps() == {asked["max_denoising_steps"]}
    assert steps(InertKnob(knob)) == {3}
    _, point = measured(*faulty(InertKnob(knob), trace="counts", **asked))
    assert point["validity_reason"] == f"{knob}_without_effect"


@pytest.mark.parametrize(("how", "error"), [("error", RuntimeError), ("memory", MemoryError)])
@pytest.mark.parametrize("index", [0, 2])
def test_a_crash_comes_at_its_request(how: str, error: type[Exception], index: int) -> None:
    session, recording = faulty(Crash(request=5, index=index, how=how))
    prompts = prompts_of(recording)
    assert len(answers(session, prompts[:5])) == 5
    ids = [r.prompt_ids for r in recording.requests]
    events = session.answer([ids[5]], [5])
    for _ in range(index):
        next(events)
    with pytest.raises(error, match="at request 5"):
        next(events)


def test_a_crash_takes_the_batch_that_holds_its_request() -> None:
    session, recording = faulty(Crash(request=5))
    prompts = prompts_of(recording)
    answers(session, prompts[:4], batch_size=4)
    with pytest.raises(RuntimeError):
        answers(session, prompts[4:8], batch_size=4)


@pytest.mark.parametrize(("how", "expected"), [("exit", 70), ("kill", -signal.SIGKILL)])
def test_a_crash_can_take_the_process_along(how: str, expected: int) -> None:
    session, recording = faulty(Crash(request=1, how=how))
    child = os.fork()
    if not child:
        answers(session, prompts_of(recording))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == expected


def test_a_crash_with_a_marker_comes_once(tmp_path: Path) -> None:
    crash = Crash(request=1, marker=str(tmp_path / "crashed"))
    for expected in (1, 10):
        session, recording = faulty(crash)
        done = 0
        try:
            for prompt in prompts_of(recording):
                answers(session, [prompt])
                done += 1
        except RuntimeError:
            pass
        assert done == expected


def test_a_hang_stands_still_on_any_clock() -> None:
    session, recording = faulty(Hang(request=1, seconds=0.05))
    begin = time.perf_counter()
    records = answers(session, prompts_of(recording))
    assert time.perf_counter() - begin >= 0.05
    assert [record.wall_s for record in records] == pytest.approx([4.0] * 10)


EVERY = [
    FaultConfig(kind="slow_steps", factor=2.0, request=1, step=2),
    FaultConfig(kind="slow_share", share=0.1, factor=2.0),
    FaultConfig(kind="throttle", factor=2.0, num_requests=3, reason="hw_power_brake"),
    FaultConfig(kind="foreign_process", factor=1.5, request=1),
    FaultConfig(kind="non_finite_entropy", request_id=1),
    FaultConfig(kind="unbalanced_ledger", request_id=1, slots=2),
    FaultConfig(kind="inert_knob", knob="early_stop"),
    FaultConfig(kind="empty_answers", share=0.1),
    FaultConfig(kind="truncated_answers", share=0.1),
    FaultConfig(kind="crash", request=1, index=1, how="kill"),
    FaultConfig(kind="hang", request=1, seconds=60.0),
]


def test_every_fault_can_be_configured() -> None:
    assert [type(config.fault()) for config in EVERY] == list(FAULTS.values())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FaultConfig(kind="flood"), "fault 'flood' is unknown; valid: slow_steps"),
        (
            FaultConfig(kind="hang", request=1),
            "given request; its parameters: request, seconds",
        ),
        (
            FaultConfig(kind="hang", share=0.1),
            "given share; its parameters: request, seconds",
        ),
        (FaultConfig(kind="empty_answers", share=2.0), "share is 2.0; it must be from 0 to 1"),
        (FaultConfig(kind="crash", request=0, how="softly"), "valid: error, memory, exit, kill"),
        (FaultConfig(kind="inert_knob", knob="seed"), "valid: max_denoising_steps, early_stop"),
        (FaultConfig(kind="throttle", factor=2.0, reason="sun"), "valid: gpu_idle, .*board_limit"),
    ],
)
def test_a_wrong_fault_is_named(config: FaultConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.fault()


def test_the_configuration_is_typed_and_survives_omegaconf() -> None:
    schema = OmegaConf.structured(SimulatedConfig)
    given = OmegaConf.create(
        {
            "clock": "virtual",
            "synthetic": {"num_prompts": 3, "steps": [5]},
            "timing": {"source": "chosen", "step_ms": 20.0},
            "faults": [{"kind": "slow_steps", "factor": 2.0}],
        }
    )
    config = OmegaConf.to_object(OmegaConf.merge(schema, given))
    assert isinstance(config, SimulatedConfig)
    session = simulated_session(config)
    records = answers(session, prompts_of(make_recording(config.synthetic)))
    assert isinstance(session.clock, VirtualClock)
    assert [record.canvases[0].steps for record in records] == [5, 5, 5]
    assert records[0].steps[1].device_ms == pytest.approx(40.0)
    for wrong in ({"colck": "real"}, {"faults": [{"kind": "hang", "minutes": 1}]}):
        with pytest.raises(OmegaConfBaseException):
            OmegaConf.merge(schema, OmegaConf.create(wrong))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: SimulatedConfig(clock="sun"), "clock is 'sun'; valid: real, virtual"),
        (lambda: TimingConfig(source="guessed"), "valid: recorded, chosen"),
        (lambda: ChosenTiming(distribution="flat"), "valid: constant, lognormal, heavy_tail"),
        (lambda: ChosenTiming(commit_s=-1.0), "commit_s is -1.0; it must be >= 0"),
        (lambda: SyntheticConfig(steps=[50]), r"from 1 to max_denoising_steps \(48\)"),
        (lambda: SyntheticConfig(accuracy=1.5), "synthetic.accuracy is 1.5"),
        (lambda: SyntheticConfig(commit_ms=-1.0), "synthetic.commit_ms is -1.0; it must be >= 0"),
        (lambda: make_recording(CONFIG, decoding="both"), "valid: diffusion, autoregressive"),
    ],
)
def test_values_out_of_range_are_named(made: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made()


def test_a_fault_may_belong_to_one_point_and_process() -> None:
    fault = FaultConfig(kind="slow_steps", factor=2.0, point="slow", process_id=2)
    config = SimulatedConfig(synthetic=CONFIG, faults=[fault], clock="virtual")

    def wall_s(point_id: str, process_id: int) -> float:
        knobs = Knobs(max_new_tokens=64, process_id=process_id)
        session = simulated_session(config, point_id=point_id, knobs=knobs)
        return answers(session, prompts_of(make_recording(CONFIG))[:1])[0].wall_s

    assert wall_s("fast", 2) == wall_s("slow", 0) == pytest.approx(0.04)
    assert wall_s("slow", 2) == pytest.approx(0.07)


def test_processes_differ_by_their_own_factor() -> None:
    timing = TimingConfig(source="chosen", process_spread=0.1)
    config = SimulatedConfig(synthetic=CONFIG, timing=timing, clock="virtual")

    def wall_s(process_id: int) -> float:
        session = simulated_session(config, knobs=Knobs(max_new_tokens=64, process_id=process_id))
        return answers(session, prompts_of(make_recording(CONFIG))[:1])[0].wall_s

    times = [wall_s(process_id) for process_id in range(5)]
    assert len(set(times)) == 5
    assert times == [wall_s(process_id) for process_id in range(5)]
