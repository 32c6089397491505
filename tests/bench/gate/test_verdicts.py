"""A comparison's own verdicts in a gate's form: same exit code, and what CI reads of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench.comparison import Comparison, ExitCode, compare
from bench.gate import Outcome, annotations, by_verdicts, junit, markdown, publish
from bench.stats import Status
from tests.bench.comparison.made import TIMING, make_run, speeds

METRICS = ("delivered_tok_per_s", "step_ms", "revised_after_accept")
PLAN = {"name": "ab", "bounds": dict.fromkeys(METRICS, 0.02), "sha256": "5" * 64}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("told")
    make_run(folder / "base", factors=speeds(1))
    make_run(folder / "again", factors=speeds(2))
    make_run(folder / "slow", factors=speeds(3), timing=replace(TIMING, denoise_s=0.011))
    make_run(folder / "noisy", factors=speeds(5, spread=0.04))
    make_run(folder / "screening")
    return folder


def compared(runs: Path, name: str) -> Comparison:
    return compare(runs / "base", runs / name, metrics=METRICS)


@pytest.mark.parametrize(
    ("name", "code", "status"),
    [
        ("again", ExitCode.POSITIVE, None),
        ("slow", ExitCode.NEGATIVE, Status.REGRESSION),
        ("noisy", ExitCode.UNDECIDED, Status.AMBIGUOUS),
        ("screening", ExitCode.UNDECIDED, Status.INSUFFICIENT_DATA),
    ],
)
def test_the_exit_code_is_the_comparisons(
    runs: Path, name: str, code: ExitCode, status: Status | None
) -> None:
    """And its gravest status stands in the JUnit XML, where the action looks for it."""
    found = compared(runs, name)
    told = by_verdicts(found, **PLAN)
    assert told.exit_code is found.exit_code is code
    assert {d.metric for d in told.decisions} == set(METRICS)
    xml = junit(told)
    undecided = {each for each in (Status.AMBIGUOUS, Status.INSUFFICIENT_DATA) if each in xml}
    assert undecided == ({status} if code is ExitCode.UNDECIDED else set())
    assert "5" * 12 in markdown(told)


def test_a_failure_lets_nothing_pass_and_hides_no_regression(runs: Path) -> None:
    failed = {"failures": ["process 3 of the candidate died"]}
    told = by_verdicts(compared(runs, "again"), **PLAN, **failed)
    assert told.exit_code is ExitCode.UNDECIDED
    assert "process 3 of the candidate died" in markdown(told)
    assert Status.INSUFFICIENT_DATA in junit(told)
    assert by_verdicts(compared(runs, "slow"), **PLAN, **failed).exit_code is ExitCode.NEGATIVE


def test_what_has_no_better_direction_fails_nothing_but_is_said(runs: Path) -> None:
    """As in `compare`, whose exit code knows only what can get worse."""
    found = compared(runs, "again")
    (point,) = found.points
    changed = tuple(
        each
        if each.metric.better
        else replace(each, verdict=replace(each.verdict, status=Status.CHANGED))
        for each in point.judged
    )
    found = replace(found, points=(replace(point, judged=changed),))
    told = by_verdicts(found, **PLAN)
    assert told.exit_code is found.exit_code is ExitCode.POSITIVE
    assert told.outcome is Outcome.WARNED


def test_what_limits_a_points_numbers_is_told_everywhere(runs: Path, tmp_path: Path) -> None:
    """Also where everything passed."""
    busy = {"condition": "shared", "condition_reason": "others used 75 % of the processor"}
    make_run(tmp_path / "busy", factors=speeds(1), **busy)
    told = by_verdicts(compare(tmp_path / "busy", runs / "again", metrics=METRICS), **PLAN)
    assert told.exit_code is ExitCode.POSITIVE
    note = "the baseline was shared: others used 75 % of the processor"
    for said in (markdown(told), junit(told), "\n".join(annotations(told)).replace("%25", "%")):
        assert note in said


def test_publishing_writes_what_is_asked_for(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = by_verdicts(compared(runs, "slow"), **PLAN)
    publish(told, markdown=tmp_path / "a.md", junit=None, github=False)
    assert [path.name for path in tmp_path.iterdir()] == ["a.md"]
    assert (tmp_path / "a.md").read_text() == markdown(told)
    assert capsys.readouterr().out == ""
    publish(told, markdown=None, junit=tmp_path / "a.xml", github=True)
    assert (tmp_path / "a.xml").read_text() == junit(told)
    assert capsys.readouterr().out.startswith("::error title=")
    with pytest.raises(ValueError, match=r"none/a\.md cannot be written"):
        publish(told, markdown=tmp_path / "none" / "a.md", junit=None, github=False)
