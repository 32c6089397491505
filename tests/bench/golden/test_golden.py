"""Golden tables: the committed ones hold, and whatever differs from them is found and named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench.comparison import METRICS
from bench.comparison.metrics import prompt_sums
from bench.golden import Golden, as_json, check, collected, overrides, read_golden, write_golden
from bench.golden.show import lines
from bench.golden.table import Answer
from bench.stats import Status
from bench.store import Run
from tests.bench.comparison.command import Command, alone
from tests.bench.golden.conftest import COMMITTED, Checked, written

ELSEWHERE: dict[str, str | None] = {"cpu": "another processor"}


def fewer_steps(answer: Answer) -> Answer:
    return replace(answer, steps=tuple(n - 1 for n in answer.steps))


def more_steps(answer: Answer) -> Answer:
    return replace(answer, steps=tuple(n + 1 for n in answer.steps))


def other_steps(answer: Answer) -> Answer:
    """An eighth of the prompts seven more, the others one less: no change in all."""
    by = -1 if answer.request_id % 8 else 7
    return replace(answer, steps=tuple(n + by for n in answer.steps))


def a_step_fewer_in_25(answer: Answer) -> Answer:
    """So that the run has 4 % more."""
    return fewer_steps(answer) if answer.request_id % 6 == 0 else answer


def seventh_has_nine_steps(answer: Answer) -> Answer:
    return replace(answer, steps=(9,)) if answer.request_id == 7 else answer


def seventh_says_no(answer: Answer) -> Answer:
    return replace(answer, text="no") if answer.request_id == 7 else answer


def mostly_wrong(answer: Answer) -> Answer:
    return replace(answer, correct=answer.request_id % 2 == 0)


def never_wrong(answer: Answer) -> Answer:
    return replace(answer, correct=True)


def half_flips(answer: Answer) -> Answer:
    return replace(answer, flips=tuple((n or 0) // 2 for n in answer.flips))


def test_the_committed_golden_holds(checked: Checked) -> None:
    """If not: denoising changed. Where that is meant, `canvasbench golden collect`, and review."""
    assert checked.code == 0, checked.printed
    assert "diffusion-fp32: " in checked.printed
    assert "The run has no diffusion-bf16: not checked." in checked.printed


def test_the_committed_golden_is_of_the_shipped_weights_and_in_its_one_form(
    checked: Checked, tmp_path: Path
) -> None:
    golden = read_golden(COMMITTED)
    known = checked.run.points.iloc[0]
    assert [point.point_id for point in golden.points] == [
        f"diffusion-{precision}" for precision in ("bf16", "fp32", "fp8")
    ]
    for point in golden.points:
        assert len(point.answers) == 150
        assert point.work["weights_sha256"] == known["weights_sha256"]
        assert point.work["prompts_sha256"] == known["prompts_sha256"]
        assert all(None not in answer.flips for answer in point.answers)
    for path in write_golden(golden, tmp_path):
        assert path.read_bytes() == (COMMITTED / path.name).read_bytes()


def test_a_table_tells_what_the_run_measured(checked: Checked, golden: Golden) -> None:
    (point,) = golden.points
    first = {answer.request_id: answer for answer in point.answers}
    requests, canvases = checked.run.requests, checked.run.canvases
    assert requests is not None
    assert canvases is not None
    assert list(first) == sorted(requests["request_id"])
    for row in requests.itertuples():
        answer = first[row.request_id]
        assert (answer.text, answer.delivered_tokens) == (row.text, row.delivered_tokens)
        assert answer.correct == row.correct
    for row in canvases.itertuples():
        answer = first[row.request_id]
        assert answer.steps[row.canvas_index] == row.steps
        assert answer.revocations[row.canvas_index] == row.revocations
    metric = METRICS["argmax_flip_rate"]
    flips = prompt_sums(metric, point.measured().tables)
    assert flips is not None
    assert flips[1].ratio == pytest.approx(checked.run.points.iloc[0]["argmax_flip_rate"])
    index = json.loads((COMMITTED / "golden.json").read_text())["points"]["diffusion-fp32"]
    assert index["figures"]["steps_per_canvas"] == pytest.approx(
        read_mean(COMMITTED / "diffusion-fp32.jsonl"), abs=1e-6
    )


def read_mean(path: Path) -> float:
    steps = [n for line in path.read_text().splitlines() for n in json.loads(line)["steps"]]
    return sum(steps) / len(steps)


@pytest.mark.parametrize(
    ("change", "machine", "code", "said"),
    [
        (None, {}, 0, "a run that became slower has slower kernels or more host time"),
        (seventh_has_nine_steps, {}, 1, "prompt 7 (count 22 27=): steps: 9 -> 3"),
        (seventh_says_no, {}, 1, "text: no -> 22 23 24 25 26 27"),
        (half_flips, {}, 1, "CHANGED: diffusion-fp32 denoises as long, and differs otherwise"),
        (fewer_steps, {}, 1, "REGRESSION: diffusion-fp32 denoises longer"),
        (more_steps, {}, 1, "CHANGED: diffusion-fp32 denoises shorter"),
        (None, ELSEWHERE, 0, "paired by prompt, as rounding may differ (cpu: another processor"),
        (None, {"threads": "16"}, 0, "the same for each of 150 prompts"),
        (seventh_has_nine_steps, ELSEWHERE, 3, "AMBIGUOUS: diffusion-fp32 does not denoise longer"),
        (a_step_fewer_in_25, ELSEWHERE, 1, "REGRESSION: diffusion-fp32 denoises longer"),
        (fewer_steps, ELSEWHERE, 1, "REGRESSION: diffusion-fp32 denoises longer"),
        (more_steps, ELSEWHERE, 0, "IMPROVEMENT: diffusion-fp32 denoises shorter"),
        (other_steps, ELSEWHERE, 3, "AMBIGUOUS: diffusion-fp32 may denoise longer or not"),
        (mostly_wrong, ELSEWHERE, 0, "IMPROVEMENT accuracy"),
        (half_flips, ELSEWHERE, 0, "CHANGED argmax_flip_rate"),
    ],
)
def test_what_differs_is_found_and_named(
    checked: Checked,
    golden: Golden,
    tmp_path: Path,
    change: Callable[[Answer], Answer] | None,
    machine: dict[str, str | None],
    code: int,
    said: str,
) -> None:
    folder = written(golden, tmp_path, change or (lambda answer: answer), machine)
    found = check(read_golden(folder), checked.run)
    assert said in " ".join(" ".join(lines(found)).split())
    assert found.exit_code == code


def test_where_rounding_moves_steps_the_bound_is_wider(checked: Checked, tmp_path: Path) -> None:
    emulated = _with(checked.run, "points", precision="bf16")
    theirs = written(collected(emulated, []), tmp_path, a_step_fewer_in_25, ELSEWHERE)
    found = check(read_golden(theirs), emulated)
    assert found.exit_code == 0
    assert "denoises as long, within the bound" in " ".join(lines(found))


def test_less_often_right_is_a_regression(
    checked: Checked, golden: Golden, canvasbench: Command, tmp_path: Path
) -> None:
    folder = written(golden, tmp_path / "golden", never_wrong, ELSEWHERE)
    command = ("golden", "check", "--from", folder, "--run", checked.run.path, "--bound", "0.02")
    done = canvasbench(*command, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "differs otherwise and is right less often" in " ".join(done.stdout.split())


def test_only_a_few_prompts_are_named(
    checked: Checked, golden: Golden, canvasbench: Command, tmp_path: Path
) -> None:
    folder = written(golden, tmp_path / "golden", fewer_steps)
    done = canvasbench("golden", "check", "--from", folder, "--run", checked.run.path, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "150 of 150 prompts have changed" in done.stdout
    assert done.stdout.count("  prompt ") == 5
    assert "and 145 more" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_an_effect_has_its_interval(checked: Checked, golden: Golden, tmp_path: Path) -> None:
    folder = written(golden, tmp_path, more_steps, ELSEWHERE)
    plain = json.loads(
        json.dumps(as_json(check(read_golden(folder), checked.run)), allow_nan=False)
    )
    (point,) = plain["points"]
    steps = point["metrics"]["steps_per_canvas"]
    ours = steps["candidate"]
    assert steps["effect"] == pytest.approx(ours / (ours + 1) - 1)
    assert steps["interval"][0] <= steps["effect"] <= steps["interval"][1]
    assert point["steps_by_prompt"] == {"mean_shift": -1, "median_shift": -1, "cliffs_delta": -1}
    assert (plain["status"], plain["exit_code"]) == ("IMPROVEMENT", 0)


@pytest.mark.parametrize(
    ("work", "said"),
    [
        ({"weights_sha256": "0" * 64}, f"weights_sha256: {'0' * 64} -> "),
        ({"seed": "1"}, "seed: 1 -> 0"),
        ({"sampler.entropy_bound": "0.2"}, "sampler.entropy_bound: 0.2 -> 0.1"),
        ({"precision": "fp8"}, "no point of the golden; nothing was checked"),
    ],
)
def test_other_work_is_never_passed(
    checked: Checked, golden: Golden, tmp_path: Path, work: dict[str, str | None], said: str
) -> None:
    found = check(read_golden(written(golden, tmp_path, work=work)), checked.run)
    assert (found.status, found.exit_code) == (Status.INSUFFICIENT_DATA, 3)
    assert said in " ".join(lines(found))


def _with(run: Run, name: str, **columns: object) -> Run:
    """The run with columns of a table replaced."""
    table = run.table(name)
    assert table is not None
    return Run(run.path, run.info, {**run._tables, name: table.assign(**columns)})


def test_what_was_not_traced_is_not_compared(
    checked: Checked, golden: Golden, tmp_path: Path
) -> None:
    revisions = ("flips", "revocations", "revised_after_accept")
    untraced = _with(checked.run, "canvases", **dict.fromkeys(revisions, pd.NA))
    (point,) = check(golden, untraced).points
    assert set(point.unknown) == set(revisions)
    assert point.changed == ()
    other = read_golden(written(golden, tmp_path, fewer_steps))
    (point,) = check(other, untraced).points
    assert point.failed
    assert {judged.metric.name for judged in point.judged} >= {"steps_per_canvas", "accuracy"}


def test_an_invalid_point_gets_no_verdict_and_makes_no_golden(
    checked: Checked, golden: Golden
) -> None:
    bad = _with(checked.run, "points", validity="invalid", validity_reason="ledger_does_not_sum")
    assert check(golden, bad).exit_code == 3
    with pytest.raises(ValueError, match="is invalid: ledger_does_not_sum"):
        collected(bad, [])


def test_a_point_that_failed_is_no_pass(checked: Checked, golden: Golden, tmp_path: Path) -> None:
    (point,) = golden.points
    other = replace(point, point_id="diffusion-fp8", work=point.work | {"precision": "fp8"})
    both = replace(golden, points=(point, other))
    found = check(both, checked.run)
    assert (found.exit_code, found.alone) == (0, ("diffusion-fp8",))
    planned = {"points": ["diffusion-fp32", "diffusion-fp8"]}
    found = check(both, replace(checked.run, info=checked.run.info | planned))
    assert (found.exit_code, found.alone) == (3, ())
    assert "failed or unfinished" in " ".join(lines(found))


def test_a_run_without_all_answers_is_not_compared(checked: Checked, golden: Golden) -> None:
    requests = checked.run.requests
    assert requests is not None
    tables = {**checked.run._tables, "requests": requests[requests["request_id"] != 7]}
    found = check(golden, Run(checked.run.path, checked.run.info, tables))
    assert found.exit_code == 3
    assert "prompts answered: 150 -> 149" in " ".join(lines(found))


def test_an_unfinished_run_makes_no_golden(checked: Checked) -> None:
    run = Run(checked.run.path, checked.run.info | {"finished": False})
    with pytest.raises(ValueError, match="unfinished or has failures"):
        collected(run, [])


def test_checking_a_run_needs_no_torch(checked: Checked, golden: Golden, tmp_path: Path) -> None:
    folder = written(golden, tmp_path / "golden")
    done = alone(
        *("golden", "check", "--from", folder, "--run", checked.run.path, "--json"), cwd=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["status"] == "EQUIVALENT"


def _edit(folder: Path, **changed: object) -> None:
    path = folder / "golden.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))


def _no_table(folder: Path) -> None:
    (folder / "diffusion-fp32.jsonl").unlink()


def _changed_by_hand(folder: Path) -> None:
    path = folder / "diffusion-fp32.jsonl"
    path.write_text(path.read_text().replace('"steps": [2]', '"steps": [3]'))


def _no_index(folder: Path) -> None:
    (folder / "golden.json").unlink()


def _half_an_index(folder: Path) -> None:
    path = folder / "golden.json"
    path.write_text(path.read_text()[:500])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_no_table, "has no diffusion-fp32.jsonl; `canvasbench golden collect` makes one"),
        (_no_index, "has no golden.json; `canvasbench golden collect` makes one"),
        (_changed_by_hand, "diffusion-fp32.jsonl was changed after it was collected"),
        (_half_an_index, "golden.json is damaged: "),
        (lambda f: (f / "golden.json").write_text("[]"), "golden.json is damaged: no mapping"),
        (lambda f: _edit(f, golden_version=0), "has golden version 0; this canvasbench reads 1:"),
        (lambda f: _edit(f, golden_version=2), "has golden version 2; this canvasbench reads 1:"),
        (lambda f: _edit(f, points={"x": {}}), "golden.json is damaged: KeyError('work')"),
    ],
)
def test_a_golden_that_cannot_be_read_is_one_clear_line(
    checked: Checked,
    golden: Golden,
    canvasbench: Command,
    tmp_path: Path,
    harm: Callable[[Path], object],
    said: str,
) -> None:
    folder = written(golden, tmp_path / "golden")
    harm(folder)
    done = canvasbench("golden", "check", "--from", folder, "--run", checked.run.path, cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert said in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--run", "nowhere"], "run nowhere is not a folder"),
        (["--run", "nowhere", "precision=fp8"], "'precision=fp8' has no effect with --run"),
        (["fp8"], "'fp8' is no override"),
        (["--run", "RUN", "--bound", "0"], "bound 0 must be above 0"),
    ],
)
def test_bad_input_is_one_clear_line(
    checked: Checked, canvasbench: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    given = [str(checked.run.path) if each == "RUN" else each for each in arguments]
    done = canvasbench("golden", "check", "--from", COMMITTED, *given, cwd=tmp_path)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert said in done.stderr


def test_collecting_writes_what_checking_measures_again(
    checked: Checked, canvasbench: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []

    def run_sweep(given: list[str], *, default_sweep: bool) -> Path:
        asked.append(given)
        print("a run's own summary")
        return checked.run.path / "report.html"

    monkeypatch.setattr("bench.sweep.run_sweep", run_sweep)
    folder = tmp_path / "golden"
    written(read_golden(COMMITTED), folder)
    (folder / "README.md").touch()
    done = canvasbench("golden", "collect", "run_dir=x", "--into", folder, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "a run's own summary\n")
    names = {path.name for path in folder.iterdir()}
    assert names == {"README.md", "golden.json", "diffusion-fp32.jsonl"}
    done = canvasbench("golden", "check", "--from", folder, "precision=fp32", cwd=tmp_path)
    assert done.returncode == 0
    assert asked == [
        ["experiment=golden", "run_dir=x"],
        ["experiment=golden", "precision=fp32"],
    ]


def test_an_override_given_replaces_the_one_kept() -> None:
    kept = ["experiment=golden", "precision=fp32", "seed=1"]
    assert overrides(["precision=fp8"], kept) == ["experiment=golden", "precision=fp8", "seed=1"]
