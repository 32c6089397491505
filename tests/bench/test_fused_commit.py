"""Commits fused with the next canvas's first step: a phase in time, a step and a commit in counts.

Figures are those of events with known times, worked out by hand.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.backends import Delivery, Forward, RowBlock
from bench.backends.simulated import (
    ChosenTiming,
    Knobs,
    SimulatedConfig,
    SimulatedSession,
    SyntheticConfig,
    VirtualClock,
    make_recording,
    read_recording,
    simulated_session,
)
from bench.later import BEFORE, without_later
from bench.metrics import audit
from bench.replay.clock import canvas_step_ends_s
from bench.requests import run_batch
from bench.roofline import floor_columns
from bench.runtime import run_time
from bench.stats import RunTime, attribute, leading_causes
from bench.workloads import Prompt
from model import preset
from model.precision import Precision
from model.work import forward_work
from tests.bench.backends.driving import (
    Tables,
    answers,
    measured,
    point_of,
    prompts_of,
    tables_of,
    write_run,
)
from tests.bench.scripted import EOS, ScriptedSession
from tests.bench.test_roofline import PROBE, ROW, WORK

FIRST = [10, 11, 12, 13, 14, 15, 16, 17]
LAST = [18, EOS, 0, 0, 0, 0, 0, 0]
TIMING = ChosenTiming(prefill_s=0.020, denoise_s=0.010, commit_s=0.008, fused_s=0.013)
EIGHT = SyntheticConfig(num_prompts=6, answer_tokens=[24], canvas_length=8, steps=[3])
"""Three canvases an answer, three steps each."""


class Fused(ScriptedSession):
    """Row 0 ends in the first canvas; row 1 needs a second one, of two steps."""

    def events(self, num_rows: int) -> Iterator[Forward | Delivery]:
        ended = RowBlock([10, EOS], [10, EOS, *[0] * 6], 6, 0, 0, 1, "converged", "eos")
        going = RowBlock(FIRST, FIRST, 0, 0, 0, 3, "cap", None)
        over = RowBlock([], FIRST, 0, 0, 8, 0, None, None)
        last = RowBlock([18, EOS], LAST, 6, 0, 0, 2, "converged", "eos")
        yield Forward("prefill", 0, 1)
        for step in (1, 2, 3):
            yield Forward("denoise", 0, step)
        yield Delivery(0, [ended, going], self._trace(FIRST, 3, 2))
        yield Forward("fused", 1, 1)
        yield Forward("denoise", 1, 2)
        yield Delivery(1, [over, last], self._trace(FIRST, 2, 2))


def test_a_fused_forward_is_a_step_of_its_canvas_and_a_phase_of_its_own() -> None:
    prompts = [Prompt(i, "letters", "xyz", None) for i in (0, 1)]
    first, second = run_batch(Fused([]), prompts, process_id=0, repeat=0)
    # One second an event: prefill, 3 steps, delivery, fused, step 2, delivery.
    assert second.deliveries == [(5.0, 8), (8.0, 2)]
    told = [(s.phase, s.canvas_index, s.step, s.device_ms, s.accepted_slots) for s in second.steps]
    assert told == [
        ("prefill", 0, 1, 1000.0, None),
        *(("denoise", 0, step, 1000.0, 3) for step in (1, 2, 3)),
        ("fused", 1, 1, 1000.0, 3),
        ("denoise", 1, 2, 1000.0, 3),
    ]
    assert [canvas.steps for canvas in second.canvases] == [3, 2]
    assert second.canvases[1].argmax is not None
    assert len(second.canvases[1].argmax) == 2
    counts = [(r.active_row_steps, r.waiting_row_steps, r.ended_row_steps) for r in (first, second)]
    assert counts == [(1, 2, 2), (5, 0, 0)]


@cache
def simulated(
    *, fused: bool, timing: ChosenTiming = TIMING, steps: tuple[int, ...] = (3,), batch: int = 1
) -> tuple[Tables, dict[str, Any]]:
    """Tables and point; nobody may change them."""
    recording = make_recording(replace(EIGHT, steps=list(steps)))
    knobs = Knobs(max_new_tokens=recording.max_new_tokens, fused_commit=fused)
    session = SimulatedSession(recording, timing, knobs=knobs, clock=VirtualClock())
    return measured(session, recording, batch_size=batch)


@pytest.mark.parametrize("fused", [False, True])
def test_every_number_of_a_point_is_as_computed_by_hand(fused: bool) -> None:
    """An answer: 20 + 3 x 10 ms, and twice a canvas of 8 + 3 x 10 ms, or of 13 + 2 x 10 ms."""
    tables, point = simulated(fused=fused)
    canvas_s, wall_s = (0.033, 0.116) if fused else (0.038, 0.126)
    assert point["delivered_tok_per_s"] == pytest.approx(24 / wall_s)
    assert point["decode_tok_per_s"] == pytest.approx(16 / (2 * canvas_s))
    assert point["canvas_gap_p50_s"] == pytest.approx(canvas_s)
    assert point["step_ms"] == pytest.approx(10)
    assert point["fused_ms"] == (pytest.approx(13) if fused else None)
    assert point["fused_ms_lo"] == (pytest.approx(13) if fused else None)
    assert point["commit_ms"] == (None if fused else pytest.approx(8))
    assert point["steps_per_canvas_median"] == 3
    # By what they did, forwards are the same: 9 steps, 2 commits and a prefill.
    assert point["tokens_per_forward_denoise"] == pytest.approx(24 / 9)
    assert point["tokens_per_forward_all"] == pytest.approx(24 / 12)
    assert point["weight_passes"] == 6 * (10 if fused else 12)
    assert point["fused_forwards"] == (6 * 2 if fused else 0)
    assert point["host_share"] == pytest.approx(0, abs=1e-9)
    assert audit(tables["requests"], tables["steps"], 8, "stop") == []
    assert point["validity"] == "valid"


def test_rows_of_a_batch_share_a_weight_pass() -> None:
    _, alone = simulated(fused=True)
    _, point = simulated(fused=True, batch=3)
    assert (point["weight_passes"], point["fused_forwards"]) == (2 * 10, 2 * 2)
    assert point["tokens_per_forward_all"] == pytest.approx(alone["tokens_per_forward_all"])


def test_random_weights_tell_of_passes_only_where_they_are_forced() -> None:
    recording = make_recording(EIGHT)
    for early_stop, eos_policy, passes in ((False, "ignore", 60), (True, "ignore", None)):
        knobs = Knobs(
            max_new_tokens=24,
            eos_policy=eos_policy,
            max_denoising_steps=3,
            early_stop=early_stop,
            fused_commit=True,
        )
        session = SimulatedSession(recording, TIMING, knobs=knobs, clock=VirtualClock())
        prompts = prompts_of(recording)
        tables = tables_of(session, prompts, answers(session, prompts))
        dummy = point_of(session, tables, weights="dummy")
        assert dummy.get("weight_passes") == passes
        assert dummy["fused_ms"] == pytest.approx(13)


def spent(tables: Tables) -> RunTime:
    return run_time(tables["requests"], tables["steps"], tables["canvases"])


def observed(tables: Tables) -> float:
    requests = tables["requests"]
    return float(np.log(requests["delivered_tokens"].sum() / requests["wall_s"].sum()))


def test_a_slower_fused_forward_is_named() -> None:
    before, _ = simulated(fused=True)
    after, _ = simulated(fused=True, timing=replace(TIMING, fused_s=0.017))
    found = attribute(spent(before), spent(after))
    assert sum(found.terms.values()) == pytest.approx(observed(after) - observed(before), abs=1e-9)
    assert [cause.name for cause in leading_causes(found)] == ["fused_s"]
    assert found.terms["fused_s"] == pytest.approx(np.log(0.116 / 0.124))


def test_longer_denoising_is_not_put_down_to_fused_forwards() -> None:
    before, _ = simulated(fused=True)
    after, _ = simulated(fused=True, steps=(5,))
    found = attribute(spent(before), spent(after))
    assert [cause.name for cause in leading_causes(found)] == ["denoise_forwards"]
    parts = found.details["denoise_forwards"]
    assert sum(parts.values()) == pytest.approx(found.terms["denoise_forwards"])
    assert max(parts, key=lambda name: abs(parts[name])) == "steps_per_canvas"


def test_fusing_moves_a_commit_and_a_step_into_one_forward() -> None:
    before, after = simulated(fused=False)[0], simulated(fused=True)[0]
    found = attribute(spent(before), spent(after))
    assert found.change == pytest.approx(np.log(0.126 / 0.116))
    assert sum(found.terms.values()) == pytest.approx(found.change, abs=1e-12)
    whole = (0.126 - 0.116) / found.change
    assert found.terms["commit_forwards"] == pytest.approx(0.016 / whole)
    assert found.terms["fused_forwards"] == pytest.approx(-0.026 / whole)
    assert found.terms["denoise_forwards"] == pytest.approx(0.020 / whole)
    parts = found.details["denoise_forwards"]
    # 7 of 9 steps are plain: nothing else moved.
    assert parts["plain_share"] == pytest.approx(found.terms["denoise_forwards"])
    assert spent(after).steps_per_canvas == spent(before).steps_per_canvas == 3
    assert spent(after).occupancy == 1


def test_rows_that_wait_are_counted_as_they_are_without_fusing() -> None:
    """Slower rows of a batch decide its forwards, a fused one among them."""
    uneven = [spent(simulated(fused=own, steps=(2, 4), batch=3)[0]) for own in (False, True)]
    separate, fused = uneven
    assert separate.occupancy is not None
    assert separate.occupancy < 1
    assert fused.occupancy == separate.occupancy
    assert fused.steps_per_canvas == separate.steps_per_canvas
    assert fused.denoising_forwards == separate.denoising_forwards
    assert fused.phases["fused"].forwards == separate.phases["commit"].forwards


def test_a_replay_stands_at_the_fused_step_when_it_ends() -> None:
    tables, _ = simulated(fused=True)
    own = tables["steps"][tables["steps"]["request_id"] == 0]
    ends = canvas_step_ends_s(own, {0: 0.050, 1: 0.083, 2: 0.116})
    assert ends[0] == pytest.approx([0.030, 0.040, 0.050])
    assert ends[1] == pytest.approx([0.063, 0.073, 0.083])
    assert ends[2] == pytest.approx([0.096, 0.106, 0.116])


def test_a_run_with_fused_commits_replays_as_it_was_and_not_otherwise(tmp_path: Path) -> None:
    recording = make_recording(EIGHT)
    knobs = Knobs(max_new_tokens=recording.max_new_tokens, fused_commit=True)
    session = SimulatedSession(recording, TIMING, knobs=knobs, clock=VirtualClock())
    tables, point = measured(session, recording)
    folder = write_run(tmp_path / "run", session, tables)
    again = read_recording(folder)
    replayed = SimulatedSession(again, clock=VirtualClock())
    assert replayed.knobs.fused_commit
    found = measured(replayed, again)[1]
    for name in ("fused_ms", "step_ms", "delivered_tok_per_s", "weight_passes"):
        assert found[name] == pytest.approx(point[name]), name
    config = SimulatedConfig(run=str(folder), clock="virtual")
    with pytest.raises(ValueError, match="was recorded with commit=fused and has no times of othe"):
        simulated_session(config, knobs=replace(knobs, fused_commit=False))
    simulated_session(config, knobs=knobs)


def test_a_fused_forward_reads_the_weights_once_for_both() -> None:
    config = preset("diffusiongemma-26b-a4b")
    step, commit, fused = (
        {g.name: g for g in forward_work(config, kind, Precision.FP8, context=1024)}
        for kind in ("denoise", "commit", "fused")
    )
    step_after = {g.name: g for g in forward_work(config, "denoise", Precision.FP8, context=1280)}
    assert set(fused) == set(step)
    for name in ("projections", "router", "dense", "norms", "logits", "self_conditioning"):
        assert fused[name].weight_bytes == step[name].weight_bytes
    for name in ("projections", "router", "dense", "experts"):
        assert fused[name].flops == step[name].flops + commit[name].flops
    # Its step sees the canvas that it commits, and scores its own positions alone.
    assert fused["attention"].flops == step_after["attention"].flops + commit["attention"].flops
    for name in ("logits", "sampling", "self_conditioning"):
        assert (fused[name].flops, fused[name].bytes) == (step[name].flops, step[name].bytes)
    # Keys and values of 1,024 positions in the full layers, of the window in the others, and of
    # two canvases: one canvas's more than a step's.
    kinds = [config.attention(kind) for kind in config.layer_types]
    canvas = sum(4 * a.num_kv_heads * a.head_dim * 256 for a in kinds)
    assert fused["attention"].bytes == step["attention"].bytes + canvas
    with pytest.raises(
        ValueError, match="gemma-4-26b-a4b has no fused forward; valid: prefill, de"
    ):
        forward_work(preset("gemma-4-26b-a4b"), "fused", Precision.FP8, context=1)


def test_a_fused_forward_has_a_floor_of_its_own() -> None:
    row = ROW | {"fused_ms": 20.0, "fused_distinct_experts_per_layer": 7.0}
    plain = floor_columns(row, WORK, PROBE)
    assert "fused_op_floor_ms" not in plain
    found = floor_columns(row, WORK | {"fused": WORK}, PROBE)
    # experts: max(7 MB / 1 GB/s, 2 ms) = 7 ms; logits: 3 ms
    assert found["fused_op_floor_ms"] == pytest.approx(10.0)
    assert found["fused_op_floor_share"] == pytest.approx(0.5)
    assert found["op_floor_ms"] == plain["op_floor_ms"] == pytest.approx(7.0)


@pytest.mark.parametrize("key", BEFORE)
def test_options_at_what_was_before_them_leave_no_trace(key: str) -> None:
    old: dict[str, Any] = {"precision": "fp8", "sampler": {"t_min": 0.4}, "workload": {}}
    part, _, name = key.rpartition(".")
    for value, same in ((BEFORE[key], True), ("other", False)):
        new = {k: dict(v) if isinstance(v, dict) else v for k, v in old.items()}
        (new[part] if part else new)[name] = value
        assert (without_later(new) == old) is same


def test_a_trace_of_known_steps_counts_the_fused_one() -> None:
    """Acceptance by step is known of step 1 of every canvas."""
    tables, _ = simulated(fused=True)
    steps = tables["steps"]
    fused = steps[steps["phase"] == "fused"]
    assert len(fused) == 12
    assert fused["accepted"].notna().all()
    assert pd.isna(steps[steps["phase"] == "prefill"]["accepted"]).all()
