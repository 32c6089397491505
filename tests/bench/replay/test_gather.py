"""What of a run is replayed: which canvases, on which clock, beside which sibling."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.replay import replayable
from bench.report.view import View
from tests.bench.replay.made import (
    COMMIT_MS,
    PREFILL_MS,
    STEP_MS,
    TOKEN_MS,
    MadeRun,
    made_run,
    paired,
)


@pytest.fixture
def run(tmp_path: Path) -> MadeRun:
    return made_run(tmp_path)


def test_each_traced_request_with_its_canvases(run: MadeRun) -> None:
    found = run.replay()
    assert [(g.point.point_id, g.request_id) for g in found.generations] == [
        ("diffusion-bf16", "0"),
        ("diffusion-bf16", "1"),
    ]
    first = found.generations[0]
    assert [c.canvas_index for c in first.canvases] == [0, 1]
    assert (first.prompt, first.answer, first.correct) == ("sort hgf=", "fgh", True)
    assert (first.num_canvases, first.delivered_tokens) == (2, 21)
    assert first.tokens_before == {0: 0, 1: 12}
    revisions = [c.revisions for g in found.generations for c in g.canvases]
    assert found.first.revisions == max(revisions)


def test_the_clock_ends_where_deliveries_were_measured(run: MadeRun) -> None:
    clock = run.replay().generations[0].clock
    step = np.arange(1, 7)
    first_ms = PREFILL_MS + STEP_MS * step
    assert clock.step_end_s[0] == pytest.approx(first_ms / 1e3)
    assert clock.step_end_s[1] == pytest.approx((first_ms[-1] + COMMIT_MS + STEP_MS * step) / 1e3)


def test_host_work_between_forwards_shifts_nothing_that_follows(run: MadeRun) -> None:
    """Deliveries twice as late as the forwards' sum: every step is twice as late, and no more."""
    slow = run.requests.assign(first_canvas_s=run.requests["first_canvas_s"] * 2)
    clock = replace(run, requests=slow).replay().generations[0].clock
    whole_s = 2 * (PREFILL_MS + 6 * STEP_MS) / 1e3
    assert clock.step_end_s[0][-1] == pytest.approx(whole_s)
    assert clock.step_end_s[0][0] == pytest.approx(2 * (PREFILL_MS + STEP_MS) / 1e3)
    assert clock.step_end_s[1][-1] == pytest.approx(whole_s + (COMMIT_MS + 6 * STEP_MS) / 1e3)


def test_batches_have_no_clock_of_their_own(run: MadeRun) -> None:
    found = replace(run, requests=run.requests.assign(batch_size=4)).replay().generations[0]
    assert found.clock.step_end_s == {}
    assert "batch_size=1" in found.clock.unknown
    assert found.sibling is not None
    assert found.sibling.token_end_s is None


def test_the_sibling_was_asked_the_same_in_the_same_precision(run: MadeRun) -> None:
    sibling = run.replay().generations[1].sibling
    assert sibling is not None
    assert sibling.point.point_id == "autoregressive-bf16"
    assert sibling.token_end_s is not None
    assert sibling.token_end_s == pytest.approx((PREFILL_MS + TOKEN_MS * np.arange(21)) / 1e3)
    for column, value in (("precision", "fp8"), ("device", "other"), ("validity", "invalid")):
        points = run.points.copy()
        points.loc[points["decoding"] == "autoregressive", column] = value
        assert replace(run, points=points).replay().generations[0].sibling is None
    asked = run.requests.copy()
    asked.loc[asked["point_id"] == "autoregressive-bf16", "prompt"] = "another"
    assert replace(run, requests=asked).replay().generations[0].sibling is None


def test_a_forward_that_is_missing_leaves_the_sibling_without_times(run: MadeRun) -> None:
    steps = run.steps.drop(run.steps.index[run.steps["phase"] == "decode"][:1])
    sibling = replace(run, steps=steps).replay().generations[0].sibling
    assert sibling is not None
    assert sibling.token_end_s is None


def test_a_run_of_positions_alone_is_replayed_without_the_rest(run: MadeRun) -> None:
    none = pd.DataFrame()
    found = replace(run, requests=none, canvases=none, steps=none).replay().generations[0]
    assert (found.prompt, found.num_canvases, found.sibling) == (None, None, None)
    assert "did not record" in found.clock.unknown
    assert len(found.canvases) == 2


@pytest.mark.parametrize(("column", "value"), [("weights", "dummy"), ("validity", "invalid")])
def test_what_says_nothing_of_contents_is_not_replayed(
    run: MadeRun, column: str, value: str
) -> None:
    with pytest.raises(ValueError, match="no canvas to replay; it takes a valid diffusion point"):
        replayable(View.of(replace(run, points=run.points.assign(**{column: value}))))


def test_one_request_alone(run: MadeRun) -> None:
    found = run.replay().only(1)
    assert [g.request_id for g in found.generations] == ["1"]
    assert found.first.request_id == "1"
    with pytest.raises(ValueError, match="request 7 has no traced canvas; valid: 0, 1"):
        run.replay().only(7)


def test_a_large_run_keeps_what_shows_most(tmp_path: Path) -> None:
    found = made_run(tmp_path, num_requests=4).replay()
    shown = found.at_most(2 * found.generations[0].num_cells)
    assert shown.left_out == 2
    revisions = {g.request_id: max(c.revisions for c in g.canvases) for g in found.generations}
    kept = {g.request_id for g in shown.generations}
    assert min(revisions[i] for i in kept) >= max(revisions[i] for i in revisions.keys() - kept)
    assert found.first.request_id in kept
    assert len(found.at_most(1).generations) == 1
    assert found.at_most(10**9).left_out == 0


def test_points_that_differ_in_self_conditioning_alone_are_a_pair(run: MadeRun) -> None:
    both = paired(run)

    def pairs() -> dict[str, tuple[bool | None, str | None]]:
        return {
            g.point.point_id: (g.conditioned, g.other_conditioning)
            for g in both.replay().generations
        }

    assert pairs() == {"diffusion-bf16": (True, "off"), "off": (False, "diffusion-bf16")}
    both.info["config"]["off"]["seed"] = 1
    assert pairs() == {"diffusion-bf16": (True, None), "off": (False, None)}
    both.info["config"] = {}
    assert pairs() == {"diffusion-bf16": (None, None), "off": (None, None)}
