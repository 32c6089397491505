"""A replayed run gives its own figures again, from its tables alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from bench.backends import Forward
from bench.backends.simulated import (
    ChosenTiming,
    Knobs,
    Recording,
    SimulatedConfig,
    SimulatedSession,
    SyntheticConfig,
    VirtualClock,
    make_recording,
    read_recording,
    simulated_session,
)
from bench.backends.simulated.faults import NonFiniteEntropy
from bench.backends.simulated.recording import Pace, RecordedRepair
from tests.bench.backends.driving import (
    POINT,
    Tables,
    answers,
    measured,
    prompts_of,
    write_run,
)
from tests.bench.backends.test_simulated_traces import random_trace

CONFIG = SyntheticConfig(
    num_prompts=9, answer_tokens=[5, 12], canvas_length=8, steps=[2, 4, 7], accuracy=0.8
)


@dataclass(frozen=True, kw_only=True, slots=True)
class SlowHost(ChosenTiming):
    """Every delivery takes the host a time of its own."""

    def delivery_s(self, block: int, paces: Sequence[Pace]) -> float:
        return 0.03 * (block + 1)


TIMING = SlowHost(
    prefill_s=0.5,
    denoise_s=0.25,
    commit_s=0.125,
    decode_s=0.0625,
    request_s=0.3,
    distribution="lognormal",
    spread=0.3,
)
INVENTED = {f"{name}_parse" for name in ("right_to_wrong", "wrong_to_right", "lock_in_rate")}
"""What depends on texts on the way, which are recorded for a few canvases only."""


def restless(recording: Recording) -> Recording:
    """The recording with canvases that revoke, return and edit; they still end as they did."""
    requests = []
    for request in recording.requests:
        canvases = []
        for index, canvas in enumerate(request.canvases):
            seed = 100 * request.request_id + index
            accepted, runs = random_trace(seed, canvas.steps, len(canvas.slots))
            wrong = np.vectorize(lambda run: recording.vocabulary.wrong(int(run)))(runs)
            argmax = np.where(runs == runs[-1], canvas.argmax[-1], wrong).astype(np.int32)
            canvases.append(
                replace(
                    canvas,
                    accepted=accepted,
                    accepted_slots=accepted.sum(axis=1),
                    argmax=argmax,
                    candidate=argmax,
                )
            )
        repair = RecordedRepair(left=1, lost=1, steps=3) if request.request_id % 2 else None
        requests.append(replace(request, canvases=tuple(canvases), repair=repair))
    experts = {0: [(Forward("prefill", 0, 1), [8, 8]), (Forward("denoise", 0, 1), [3, 4])]}
    return replace(recording, requests=tuple(requests), experts=experts)


def differing(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    assert one.keys() == two.keys()
    return {
        name: (value, two[name])
        for name, value in one.items()
        if value != (two[name] if isinstance(value, str | None) else pytest.approx(two[name]))
    }


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_diffusion_run_replays_to_its_own_point(tmp_path: Path, batch_size: int) -> None:
    source = restless(make_recording(CONFIG))
    session = SimulatedSession(source, TIMING, clock=VirtualClock())
    tables, point = measured(session, source, batch_size=batch_size, repeats=2)
    assert point["revised_direct_edit"] > 0
    assert point["revised_revoke_rewrite"] > 0
    assert point["return_rate"] > 0
    assert point["repaired_share"] < 1
    assert point["distinct_experts_per_layer"] == 3.5
    run = write_run(tmp_path / "run", session, tables, batch_size=batch_size)
    recording = read_recording(run)
    replayed = SimulatedSession(recording, clock=VirtualClock())
    again, found = measured(replayed, recording, batch_size=batch_size, repeats=2)
    assert set(differing(point, found)) <= INVENTED
    for name in ("requests", "canvases", "steps"):
        shown = [c for c in again[name] if not c.startswith(("correct_", "unchanged_"))]
        for column in shown:
            values, own = again[name][column], tables[name][column]
            if values.dtype == "float64":
                assert np.allclose(values, own, rtol=1e-9, equal_nan=True), column
            else:
                assert values.equals(own), column
    shown = ["step", "position", "accepted", "entropy_nat", "content"]
    assert again["positions"][shown].equals(tables["positions"][shown])
    assert again["repairs"].equals(tables["repairs"])
    assert again["experts"].equals(tables["experts"])


def test_an_autoregressive_run_replays_to_its_own_point(tmp_path: Path) -> None:
    source = make_recording(CONFIG, decoding="autoregressive")
    session = SimulatedSession(source, TIMING, clock=VirtualClock())
    tables, point = measured(session, source, batch_size=2, repeats=2)
    recording = read_recording(write_run(tmp_path / "run", session, tables))
    replayed = SimulatedSession(recording, clock=VirtualClock())
    again, found = measured(replayed, recording, batch_size=2, repeats=2)
    assert differing(point, found) == {}
    for column in ("text", "delivered_tokens", "prompt_tokens", "finish_reason"):
        assert again["requests"][column].equals(tables["requests"][column]), column


def test_a_run_without_positions_replays_without(tmp_path: Path) -> None:
    source = make_recording(CONFIG)
    knobs = Knobs(max_new_tokens=7, trace="counts")
    session = SimulatedSession(source, TIMING, knobs=knobs, clock=VirtualClock())
    tables, point = measured(session, source)
    recording = read_recording(write_run(tmp_path / "run", session, tables))
    replayed = SimulatedSession(recording, clock=VirtualClock())
    again, found = measured(replayed, recording)
    assert replayed.knobs == knobs
    assert differing(point, found) == {}
    assert again["requests"]["over_limit_slots"].equals(tables["requests"]["over_limit_slots"])
    assert again["positions"].empty


def test_a_fault_that_was_recorded_is_found_again(tmp_path: Path) -> None:
    source = make_recording(CONFIG)
    knobs = Knobs(max_new_tokens=64, trace="counts")
    faults = (NonFiniteEntropy(request_id=3),)
    session = SimulatedSession(source, TIMING, faults, knobs=knobs, clock=VirtualClock())
    tables, _ = measured(session, source)
    recording = read_recording(write_run(tmp_path / "run", session, tables))
    _, found = measured(SimulatedSession(recording, clock=VirtualClock()), recording)
    assert found["validity_reason"] == "entropy_not_finite"


class OneByOne(NamedTuple):
    """A run of two prompts in batches of one."""

    run: Path
    tables: Tables
    recording: Recording


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> OneByOne:
    source = make_recording(SyntheticConfig(num_prompts=2, steps=[2, 3]))
    session = SimulatedSession(source, TIMING, clock=VirtualClock())
    tables, _ = measured(session, source)
    run = write_run(tmp_path_factory.mktemp("runs") / "run", session, tables)
    return OneByOne(run, tables, read_recording(run, POINT))


def test_a_steps_time_is_that_of_the_slowest_row(one_by_one: OneByOne) -> None:
    """Recorded one by one, answered together: what no batch has shown is put together."""
    _, tables, recording = one_by_one
    session = SimulatedSession(recording, clock=VirtualClock())
    records = answers(session, prompts_of(recording), batch_size=2)
    slowest = tables["steps"].groupby(["phase", "canvas_index", "step"])["device_ms"].max()
    found = {(s.phase, s.canvas_index, s.step): s.device_ms for r in records for s in r.steps}
    assert found == pytest.approx(slowest.to_dict())


def test_every_process_takes_its_own_times(one_by_one: OneByOne) -> None:
    recording = one_by_one.recording
    (own,) = recording.requests[0].paces[0]
    twice = replace(own, forward_s={key: 2 * s for key, s in own.forward_s.items()})
    request = replace(recording.requests[0], paces={0: [own], 3: [own, twice]})
    changed = replace(recording, requests=(request,))

    def prefills_s(process_id: int) -> list[float]:
        knobs = Knobs(max_new_tokens=64, process_id=process_id)
        session = SimulatedSession(changed, knobs=knobs, clock=VirtualClock())
        records = answers(session, prompts_of(changed), repeats=3)
        return [record.prefill_s / own.forward_s["prefill", 0, 1] for record in records]

    assert prefills_s(0) == pytest.approx([1, 1, 1])
    assert prefills_s(1) == pytest.approx([1, 2, 1])


def test_a_run_is_replayed_by_configuration(one_by_one: OneByOne) -> None:
    run, tables, recording = one_by_one
    config = SimulatedConfig(run=str(run), clock="virtual")
    session = simulated_session(config, point_id=POINT)
    records = answers(session, prompts_of(recording))
    assert [r.wall_s for r in records] == pytest.approx(tables["requests"]["wall_s"].tolist())
    with pytest.raises(ValueError, match="is diffusion; autoregressive was asked for"):
        simulated_session(config, decoding="autoregressive")


def test_unknown_runs_and_points_are_named(one_by_one: OneByOne) -> None:
    run = one_by_one.run
    with pytest.raises(ValueError, match=f"has no point 'other'; valid: {POINT}"):
        read_recording(run, "other")
    with pytest.raises(ValueError, match="is not a folder"):
        read_recording(run / "none")
