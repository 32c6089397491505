"""A base against a candidate from end to end, with a harness of a few lines in both."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from bench import open_run
from bench.ab.blocks import Place
from bench.ab.measuring import Measuring
from bench.ab.run import Found
from bench.ab.show import found_json, last_line
from bench.comparison import ExitCode, compare
from bench.shards import shards as shards_of
from bench.stats import Status
from tests.bench.ab.fake import POINT, Repository
from tests.bench.ab.measured import Done, found_of

_ROOT = Path(__file__).resolve().parents[3]


def stop_after(monkeypatch: pytest.MonkeyPatch, blocks: int) -> None:
    """Lets the budget be spent then."""

    def late(self: Measuring, more_pairs: int) -> str | None:
        return "the budget is spent" if self.pairs.blocks == blocks else None

    monkeypatch.setattr(Measuring, "_late", late)


def status(found: Found, metric: str) -> Status:
    (point,) = found.comparison.points
    return next(j.verdict.status for j in point.judged if j.metric.name == metric)


def test_the_same_code_passes(same: Done) -> None:
    found = same.found
    assert found.exit_code is ExitCode.POSITIVE
    assert found.pairs == 10  # no more than the first look needs
    assert found.stopped == "every metric has its verdict"
    speeds = ("step_ms", "delivered_tok_per_s", "peak_rss_bytes")
    for metric in (*speeds, "steps_per_canvas", "accuracy"):
        assert status(found, metric) is Status.EQUIVALENT


def test_each_arm_runs_its_own_code_in_turn(same: Done) -> None:
    warmed, ran = same.repository.ran[:4], same.repository.ran[4:]
    before = [(variant, number) for variant, number, _ in warmed]
    assert before == [("plain", -1), ("same", -1), ("plain", -2), ("same", -2)]
    assert [number for _, number, _ in ran] == [i // 2 for i in range(20)]
    blocks = [[variant for variant, _, _ in ran[i : i + 4]] for i in range(0, 20, 4)]
    a, b = "plain", "same"
    orders = ([a, b, b, a], [b, a, a, b])
    assert all(order in blocks for order in orders)
    assert all(block in orders for block in blocks)
    for variant, _, tree in ran:
        assert (tree == same.repository.path) == (variant == "same")


def test_a_slower_forward_is_caught_and_named(slow: Done) -> None:
    found = slow.found
    assert found.exit_code is ExitCode.NEGATIVE
    assert status(found, "step_ms") is Status.REGRESSION
    assert status(found, "steps_per_canvas") is Status.EQUIVALENT
    (point,) = found.comparison.points
    assert point.causes[0].name == "denoise_s"
    assert "seconds a denoise forward +" in point.cause_lines[0]
    (effect,) = (j.verdict.effect for j in point.judged if j.metric.name == "step_ms")
    assert effect == pytest.approx(0.10, abs=0.01)


def test_more_memory_is_caught_against_a_base_that_only_notes_it(slow: Done) -> None:
    (judged,) = (
        j for j in slow.found.comparison.points[0].judged if j.metric.name == "peak_rss_bytes"
    )
    assert judged.verdict.status is Status.REGRESSION
    assert judged.verdict.effect == pytest.approx(0.1, abs=1e-3)
    assert judged.metric.better is not None


def test_too_little_time_is_said(repository: Repository, tmp_path: Path) -> None:
    repository.commit("slow")
    found = found_of(repository, tmp_path / "out", budget_s=1e-6)
    assert found.exit_code is ExitCode.UNDECIDED
    assert found.pairs == 0
    assert last_line(found) == "INSUFFICIENT_DATA: nothing was compared: the budget is spent"


def test_a_spent_budget_and_a_failed_process_leave_what_was_measured(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 2)
    repository.commit("faulty")
    found = found_of(repository, tmp_path / "out")
    assert found.exit_code is ExitCode.UNDECIDED
    (failure,) = found.failures
    assert failure == f"the candidate's process 3 of {POINT} failed: ValueError: bad"
    verdict = next(
        j.verdict for j in found.comparison.points[0].judged if j.metric.name == "step_ms"
    )
    assert (verdict.status, verdict.n) == (Status.INSUFFICIENT_DATA, 3)
    assert verdict.reason == "3 pairs; the first look is at 10; the budget is spent"


def test_a_failed_process_never_passes(same: Done) -> None:
    """Whatever the others say."""
    failed = replace(same.found, failures=("bad",))
    assert failed.exit_code is ExitCode.UNDECIDED
    assert last_line(failed).startswith("INSUFFICIENT_DATA: nothing got worse, but")
    assert found_json(failed)["status"] == "INSUFFICIENT_DATA"


def test_processes_that_die_end_it(repository: Repository, tmp_path: Path) -> None:
    repository.commit("deadly")
    found = found_of(repository, tmp_path / "out")
    assert found.exit_code is ExitCode.UNDECIDED
    assert "Segmentation fault" in found.failures[0]
    assert found.stopped == "3 processes failed"


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("broken", r"the baseline, [^ ]* \(.*\), cannot run this: key 'threads' is unknown"),
        ("future", "writes results that cannot be read here: .*schema version 999"),
        ("elsewhere", f"the baseline another, the candidate {POINT}"),
    ],
)
def test_a_base_that_cannot_be_measured_is_refused(
    repository: Repository, tmp_path: Path, variant: str, message: str
) -> None:
    base = repository.commit(variant)
    repository.commit("same")
    with pytest.raises(ValueError, match=message):
        found_of(repository, tmp_path / "out", base=base)
    assert not (tmp_path / "out").exists()
    assert repository.worktrees == 1


def test_a_base_without_the_harness_is_refused(repository: Repository, tmp_path: Path) -> None:
    repository.git("rm", "-r", "--quiet", "model")
    base = repository.commit("plain")
    repository.git("revert", "--no-edit", "HEAD")
    with pytest.raises(ValueError, match=r"the baseline, .*, has no model/"):
        found_of(repository, tmp_path / "out", base=base)


def test_a_candidate_may_be_a_revision(repository: Repository, tmp_path: Path) -> None:
    """The checkout, of another variant by now, is neither arm."""
    repository.commit("slow")
    repository.commit("broken")
    found_of(repository, tmp_path / "out", base="HEAD~2", candidate="HEAD~1", budget_s=1e-6)
    assert [variant for variant, _, _ in repository.ran] == ["plain", "slow"] * 2
    assert repository.path not in {tree for _, _, tree in repository.ran}
    assert repository.worktrees == 1


def test_a_checkout_that_is_edited_meanwhile_never_passes(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edit_and_end(self: Measuring) -> str:
        (repository.path / "bench/variant").write_text("slow")
        return "edited"

    repository.commit("same")
    monkeypatch.setattr(Measuring, "run", edit_and_end)
    found = found_of(repository, tmp_path / "out")
    (failure,) = found.failures
    assert re.fullmatch(r"the candidate, .*, was changed while it was measured", failure)


def test_what_is_kept_can_be_compared_and_was_planned(slow: Done) -> None:
    found, out = slow.found, slow.found.out
    again = compare(out / "baseline", out / "candidate")
    assert again.exit_code is ExitCode.NEGATIVE
    info = open_run(out / "candidate").info
    assert info["finished"] is True
    assert info["ab"] == {"arm": "candidate", "plan_sha256": found.plan["sha256"]}
    places = [json.loads(x) for x in (out / "places.jsonl").read_text().splitlines()]
    assert len(places) == 20
    assert all(place["values"]["step_ms"] > 0 for place in places)
    plan = json.loads((out / "ab.json").read_text())
    assert plan == found.plan


def test_interrupted_it_keeps_what_was_finished(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.commit("same")
    measure = Measuring._measure

    def until_the_third_block(self: Measuring, place: Place) -> None:
        if self.pairs.blocks == 2:
            raise KeyboardInterrupt
        measure(self, place)

    monkeypatch.setattr(Measuring, "_measure", until_the_third_block)
    with pytest.raises(KeyboardInterrupt):
        found_of(repository, tmp_path / "out")
    assert repository.worktrees == 1
    for arm in ("baseline", "candidate"):
        kept = tmp_path / "out" / arm
        assert open_run(kept).info["interrupted"] is True
        assert len(shards_of(kept)) == 4
        assert (kept / "points.parquet").exists()


def test_sigterm_removes_the_worktree(repository: Repository, tmp_path: Path) -> None:
    """A cancelled job ends so."""
    repository.commit("same")
    (repository.path / "bench" / "worker.py").write_text("import time; time.sleep(60)")
    program = "from bench.cli import main; main()"
    started = subprocess.Popen(
        [sys.executable, "-c", program, "ab", "--base", "HEAD~1", "--out", str(tmp_path / "out")],
        cwd=repository.path,
        env={**os.environ, "PYTHONPATH": str(_ROOT), "PYTHONSAFEPATH": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while repository.worktrees == 1 or not (tmp_path / "out" / "candidate").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=60)
    assert started.returncode == 130
    assert "interrupted; what was finished is kept" in said
    assert repository.worktrees == 1
