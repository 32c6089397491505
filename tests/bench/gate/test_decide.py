"""Gates over recorded runs: only declared metrics decide, and nothing undecided ever passes."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from bench.comparison import METRICS, Comparison, ExitCode, compare_with
from bench.gate import (
    Decided,
    Outcome,
    annotations,
    as_json,
    decide,
    junit,
    markdown,
    read_gate,
)
from bench.stats import Status
from tests.bench.comparison.command import Command, alone
from tests.bench.comparison.made import BASE, MACHINE, TIMING, make_run, speeds, two_speeds


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gated")
    make_run(folder / "base", factors=speeds(1))
    make_run(folder / "again", factors=speeds(2))
    make_run(folder / "slow", factors=speeds(3), timing=replace(TIMING, denoise_s=0.011))
    make_run(folder / "steps", factors=speeds(4), config=replace(BASE, steps=[6, 10]))
    make_run(folder / "noisy", factors=speeds(5, spread=0.04))
    make_run(folder / "bimodal", factors=two_speeds(6))
    make_run(folder / "screening")
    return folder


def decided(
    runs: Path, a: str, b: str, metrics: dict[str, float] | None = None, **keys: object
) -> Decided:
    bounds = metrics or {"delivered_tok_per_s": 0.03, "step_ms": 0.03}
    path = runs / "gate.yaml"
    named = {name: {"bound": bound} for name, bound in bounds.items()}
    path.write_text(yaml.safe_dump({"name": "a gate", "metrics": named, **keys}))
    gate = read_gate(path)
    return decide(gate, _compared(runs / a, runs / b, tuple(gate.bounds.items()), gate.points))


@cache
def _compared(
    a: Path, b: Path, bounds: tuple[tuple[str, float], ...], points: tuple[str, ...] | None
) -> Comparison:
    """As `gate_runs` does, once for all gates with the same bounds."""
    return compare_with(a, b, [METRICS[name] for name, _ in bounds], dict(bounds), points)


def outcomes(found: Decided) -> dict[str, Outcome]:
    return {decision.metric: decision.outcome for decision in found.decisions}


def test_two_runs_of_one_commit_pass(runs: Path) -> None:
    found = decided(runs, "base", "again")
    assert (found.outcome, found.exit_code) == (Outcome.PASSED, ExitCode.POSITIVE)
    assert found.comparison.family == 2


def test_a_slowed_copy_fails(runs: Path) -> None:
    found = decided(runs, "base", "slow")
    assert (found.outcome, found.exit_code) == (Outcome.FAILED, ExitCode.NEGATIVE)


def test_only_declared_metrics_decide(runs: Path) -> None:
    found = decided(runs, "base", "slow", {"commit_ms": 0.03, "accuracy": 0.02})
    assert outcomes(found) == {"commit_ms": Outcome.PASSED, "accuracy": Outcome.PASSED}
    assert found.exit_code is ExitCode.POSITIVE


def test_the_bound_is_the_gates(runs: Path) -> None:
    assert decided(runs, "base", "slow", {"step_ms": 0.2}).outcome is Outcome.PASSED


def test_a_single_process_is_undecided(runs: Path) -> None:
    found = decided(runs, "screening", "screening")
    assert (found.outcome, found.exit_code) == (Outcome.UNDECIDED, ExitCode.UNDECIDED)


@pytest.mark.parametrize("policy", ["fail", "warn", "pass"])
def test_insufficient_data_passes_under_no_policy(runs: Path, policy: str) -> None:
    found = decided(runs, "screening", "base", on_ambiguous=policy)
    assert found.exit_code is ExitCode.UNDECIDED


@pytest.mark.parametrize(
    ("policy", "outcome", "code"),
    [
        ("fail", Outcome.UNDECIDED, ExitCode.UNDECIDED),
        ("warn", Outcome.WARNED, ExitCode.POSITIVE),
        ("pass", Outcome.PASSED, ExitCode.POSITIVE),
    ],
)
def test_ambiguous_is_as_the_file_says(
    runs: Path, policy: str, outcome: Outcome, code: ExitCode
) -> None:
    """9.6 % slower against a bound of 9.7 %: seen exactly enough, and still on the edge."""
    found = decided(runs, "base", "slow", {"step_ms": 0.097}, on_ambiguous=policy)
    (decision,) = found.decisions
    assert decision.judged is not None
    assert decision.judged.verdict.status is Status.AMBIGUOUS
    assert (decision.outcome, found.exit_code) == (outcome, code)


@pytest.mark.parametrize("policy", ["fail", "warn", "pass"])
def test_a_bound_tighter_than_the_runs_could_detect_is_refused(runs: Path, policy: str) -> None:
    found = decided(runs, "base", "noisy", {"step_ms": 0.01}, on_ambiguous=policy)
    (decision,) = found.decisions
    assert found.exit_code is ExitCode.UNDECIDED
    assert decision.reason.startswith("refused: bound 1 % is tighter than the")


def test_a_regression_stands_however_noisy_the_runs(runs: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "b", factors=[1.5 * factor for factor in speeds(7, spread=0.04)])
    make_run(tmp_path / "a", factors=speeds(8, spread=0.04))
    found = decided(tmp_path, "a", "b", {"step_ms": 0.02})
    assert found.outcome is Outcome.FAILED


def test_a_bimodal_machine_is_undecided(runs: Path) -> None:
    assert decided(runs, "bimodal", "bimodal").exit_code is ExitCode.UNDECIDED


def test_times_of_another_machine_are_not_judged(runs: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "b", factors=speeds(2), host="host2", torch="2.14.0")
    bounds = {"step_ms": 0.03, "steps_per_canvas": 0.01}
    found = decided(runs, "base", str(tmp_path / "b"), bounds)
    assert outcomes(found) == {"step_ms": Outcome.UNDECIDED, "steps_per_canvas": Outcome.PASSED}
    reason = found.decisions[0].reason
    assert "numbers of different machines (host: host1 -> host2; torch: 2.13.0 -> 2.14.0)" in reason
    allowed = decided(runs, "base", str(tmp_path / "b"), bounds, may_differ=["host", "torch"])
    assert allowed.outcome is Outcome.PASSED


def test_another_configuration_is_not_judged(runs: Path, tmp_path: Path) -> None:
    for name, entropy in (("a", 0.1), ("b", 0.2)):
        config = {"sampler": {"entropy_bound": entropy}} | ({"added": 1} if name == "b" else {})
        info = {"config": {"diffusion-bf16": config}}
        make_run(tmp_path / name, factors=speeds(1), info=info, config_hash=name * 12)
    found = decided(tmp_path, "a", "b")
    assert found.exit_code is ExitCode.UNDECIDED
    assert "(sampler.entropy_bound: 0.1 -> 0.2)" in found.decisions[0].reason
    assert decided(tmp_path, "a", "b", may_differ=["config"]).outcome is Outcome.PASSED


def test_more_processes_can_be_asked_for(runs: Path) -> None:
    found = decided(runs, "base", "again", min_processes=10)
    assert found.exit_code is ExitCode.UNDECIDED
    assert "8 processes; the gate asks for 10" in found.decisions[0].reason


def test_what_is_missing_is_undecided(runs: Path, tmp_path: Path) -> None:
    found = decided(runs, "base", "again", points=["diffusion-bf16", "diffusion-fp8"])
    assert [d.reason for d in found.decisions if d.point_id == "diffusion-fp8"] == [
        "not in both runs",
        "not in both runs",
    ]
    assert found.exit_code is ExitCode.UNDECIDED
    found = decided(runs, "base", "again", {"decode_ms": 0.03})
    assert found.decisions[0].reason == "no point of the runs has this metric"
    assert found.exit_code is ExitCode.UNDECIDED
    make_run(tmp_path / "other", decoding="autoregressive", config_hash="c" * 12)
    found = decided(runs, "base", str(tmp_path / "other"))
    assert found.exit_code is ExitCode.UNDECIDED


def test_a_metric_that_must_not_change(runs: Path) -> None:
    found = decided(runs, "base", "steps", {"argmax_flip_rate": 0.01})
    (decision,) = found.decisions
    assert decision.judged is not None
    assert decision.judged.verdict.status is Status.CHANGED
    assert found.exit_code is ExitCode.NEGATIVE


def test_memory_can_be_gated(canvasbench: Command, tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text("metrics: {peak_rss_bytes: {bound: 0.05}}")
    for name, factor in (("base", 1.0), ("same", 1.01), ("leak", 1.2)):
        peaks = [int(factor * 2**29 * own) for own in speeds(7)]
        make_run(tmp_path / name, factors=speeds(1), peaks=peaks)
    for name, code in (("same", 0), ("leak", 1)):
        done = canvasbench("gate", "gate.yaml", "base", name, cwd=tmp_path)
        assert (done.returncode, "peak_rss_bytes" in done.stdout) == (code, True)


def test_markdown_says_outcome_hash_and_cause(runs: Path) -> None:
    found = decided(runs, "base", "slow")
    text = markdown(found)
    assert text.startswith("### Gate failed: 2 failed\n")
    assert found.gate.sha256[:12] in text
    assert "diffusion-bf16: cause: seconds a denoise forward +9." in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 2
    assert len({row.count("|") for row in rows}) == 1


def test_markdown_holds_no_markup_of_others(runs: Path) -> None:
    found = decided(runs, "base", "again")
    nasty = replace(found, gate=replace(found.gate, name="<b>x</b> | `y` [z](w)"))
    assert "\\<b\\>x\\</b\\> \\| \\`y\\` \\[z\\](w)" in markdown(nasty)


@pytest.mark.parametrize(
    ("b", "failures", "errors"), [("again", 0, 0), ("slow", 2, 0), ("screening", 0, 2)]
)
def test_junit_counts(runs: Path, b: str, failures: int, errors: int) -> None:
    found = decided(runs, "base", b)
    suite = ElementTree.fromstring(junit(found)).find("testsuite")
    assert suite is not None
    counts = (int(suite.attrib[name]) for name in ("tests", "failures", "errors"))
    assert tuple(counts) == (2, failures, errors)
    assert len(suite.findall("testcase/failure")) == failures
    assert len(suite.findall("testcase/error")) == errors
    if failures:
        failure = suite.find("testcase/failure")
        assert failure is not None
        assert "seconds a denoise forward" in (failure.text or "")


def test_junit_of_a_gate_that_judged_nothing_is_in_error(runs: Path) -> None:
    found = replace(decided(runs, "base", "again"), decisions=())
    root = ElementTree.fromstring(junit(found))
    assert (root.attrib["tests"], root.attrib["errors"]) == ("1", "1")
    assert found.exit_code is ExitCode.UNDECIDED


def test_junit_takes_any_text(runs: Path) -> None:
    found = decided(runs, "base", "again")
    nasty = replace(found, gate=replace(found.gate, name='a \x1b[1m"gate" <&>'))
    suite = ElementTree.fromstring(junit(nasty)).find("testsuite")
    assert suite is not None
    assert suite.attrib["name"] == 'a ?[1m"gate" <&>'


def test_annotations_are_single_lines(runs: Path) -> None:
    lines = annotations(decided(runs, "base", "slow"))
    assert len(lines) == 3
    assert lines[0].startswith(
        "::error title=delivered_tok_per_s of diffusion-bf16%3A failed::REGRESSION: -7."
    )
    assert "%0Acause: seconds a denoise forward" in lines[0]
    assert " %25 [" in lines[0]
    assert all("\n" not in line for line in lines)
    assert lines[-1] == "::error title=a gate::gate failed: 2 failed"
    assert annotations(decided(runs, "base", "again")) == [
        "::notice title=a gate::gate passed: 2 passed"
    ]


def test_json_is_plain(runs: Path) -> None:
    found = decided(runs, "base", "slow")
    plain = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert (plain["outcome"], plain["exit_code"]) == ("failed", 1)
    assert plain["gate"]["sha256"] == found.gate.sha256
    assert [d["outcome"] for d in plain["decisions"]] == ["failed", "failed"]


def test_the_command_line_needs_no_torch(runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    named = {"metrics": {"step_ms": {"bound": 0.03}}, "baseline": str(runs / "base")}
    path.write_text(yaml.safe_dump(named))
    outputs = ("--markdown", "g.md", "--junit", "g.xml", "--github")
    done = alone("gate", path, runs / "slow", *outputs, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert read_gate(path).sha256 in done.stdout
    assert "FAILED  diffusion-bf16  step_ms" in done.stdout
    assert "diffusion-bf16: cause: seconds a denoise forward" in done.stdout
    assert "\n::error title=step_ms of diffusion-bf16%3A failed::" in done.stdout
    assert (tmp_path / "g.md").read_text().startswith("### Gate failed")
    assert ElementTree.parse(tmp_path / "g.xml").getroot().attrib["failures"] == "1"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.yaml", "a", "b"], "error: gate missing.yaml cannot be read"),
        (["gate.yaml", "b"], "error: the gate file names no baseline; give the runs A and B"),
        (["gate.yaml", "a", "b"], "error: run a is not a folder"),
        (["gate.yaml", "a", "b", "--sha256", "0" * 64], "was changed after it was agreed on"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, canvasbench: Command, arguments: list[str], said: str
) -> None:
    (tmp_path / "gate.yaml").write_text("metrics: {step_ms: {bound: 0.03}}")
    done = canvasbench("gate", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_machine_facts_have_the_made_values(runs: Path) -> None:
    """What the tests above change is what a run tells."""
    found = decided(runs, "base", "again").comparison.baseline.environment
    assert (found["torch"], found["host"]) == (MACHINE["torch"], "host1")
