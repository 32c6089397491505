"""Comparisons of recorded runs: verdicts, causes, environments, exit codes."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from rich.console import Console

import bench
from bench.comparison import Comparison, ExitCode, as_json, print_comparison
from bench.stats import HypothesisTest, Status
from tests.bench.comparison.command import Command, alone
from tests.bench.comparison.made import BASE, MACHINE, TIMING, make_run, speeds, two_speeds

SPEEDS = ("delivered_tok_per_s", "decode_tok_per_s", "step_ms", "commit_ms", "prefill_ms")
CONTENTS = ("steps_per_canvas", "accuracy", "revised_after_accept", "argmax_flip_rate")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of one commit on a quiet machine, and copies with something changed."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "base", factors=speeds(1))
    make_run(folder / "again", factors=speeds(2))
    make_run(folder / "slow", factors=speeds(3), timing=replace(TIMING, denoise_s=0.011))
    make_run(folder / "steps", factors=speeds(4), config=replace(BASE, steps=[6, 10]))
    make_run(folder / "fast", factors=speeds(5), timing=replace(TIMING, denoise_s=0.009))
    make_run(folder / "screening")
    return folder


@cache
def compared(a: Path, b: Path) -> Comparison:
    return bench.compare(a, b)


def status(found: Comparison, metric: str) -> Status:
    (point,) = found.points
    return next(j.verdict.status for j in point.judged if j.metric.name == metric)


def text(found: Comparison) -> str:
    """As printed, without its line breaks."""
    console = Console(width=100, record=True, file=io.StringIO())
    print_comparison(found, console)
    return " ".join(console.export_text().split())


def test_two_runs_of_one_commit_pass(runs: Path) -> None:
    found = compared(runs / "base", runs / "again")
    assert (found.status, found.exit_code) == (Status.EQUIVALENT, ExitCode.POSITIVE)
    (point,) = found.points
    names = {judged.metric.name for judged in point.judged}
    assert names >= {*SPEEDS, *CONTENTS}
    for judged in point.judged:
        if judged.metric.by_process:
            assert judged.verdict.test is HypothesisTest.MANN_WHITNEY
            assert (judged.verdict.n, judged.verdict.n_baseline) == (8, 8)
            assert judged.detectable is not None
            assert 0.001 < judged.detectable < 0.02
        else:
            assert judged.verdict.test is HypothesisTest.EQUALITY
    assert found.environment == ()
    assert point.causes == ()


def test_a_slowed_copy_fails_and_names_its_cause(runs: Path) -> None:
    found = compared(runs / "base", runs / "slow")
    assert (found.status, found.exit_code) == (Status.REGRESSION, ExitCode.NEGATIVE)
    assert status(found, "step_ms") is Status.REGRESSION
    assert status(found, "delivered_tok_per_s") is Status.REGRESSION
    assert status(found, "commit_ms") is Status.EQUIVALENT
    (point,) = found.points
    assert [cause.name for cause in point.causes] == ["denoise_s"]
    said = text(found)
    assert "cause: seconds a denoise forward +9." in said
    assert "REGRESSION: diffusion-bf16 delivered_tok_per_s, diffusion-bf16" in said


def test_one_step_more_is_attributed_to_steps(runs: Path) -> None:
    found = bench.compare(runs / "base", runs / "steps")
    assert found.exit_code is ExitCode.NEGATIVE
    assert status(found, "steps_per_canvas") is Status.REGRESSION
    assert status(found, "step_ms") is Status.EQUIVALENT
    (point,) = found.points
    assert [cause.name for cause in point.causes] == ["denoise_forwards"]
    assert "mostly steps a canvas" in point.causes[0].text
    attribution = point.attribution
    assert attribution is not None
    assert sum(attribution.terms.values()) == pytest.approx(attribution.change)
    assert "something is not deterministic" in text(found)


def test_a_speedup_is_an_improvement(runs: Path) -> None:
    found = bench.compare(runs / "base", runs / "fast")
    assert (found.status, found.exit_code) == (Status.IMPROVEMENT, ExitCode.POSITIVE)


def test_one_process_against_itself_is_insufficient(runs: Path) -> None:
    found = bench.compare(runs / "screening", runs / "screening")
    assert (found.status, found.exit_code) == (Status.INSUFFICIENT_DATA, ExitCode.UNDECIDED)
    assert all(status(found, metric) is Status.INSUFFICIENT_DATA for metric in SPEEDS)
    assert all(status(found, metric) is Status.EQUIVALENT for metric in CONTENTS)
    assert "screening: one process" in text(found)


def test_a_bimodal_machine_is_ambiguous(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        make_run(tmp_path / name, factors=two_speeds(seed))
    found = bench.compare(tmp_path / "a", tmp_path / "b")
    assert (found.status, found.exit_code) == (Status.AMBIGUOUS, ExitCode.UNDECIDED)
    assert "two speeds" in text(found)


def test_what_moved_within_the_noise_is_called_no_cause(runs: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "noisy", factors=[1.02 * factor for factor in speeds(9, spread=0.05)])
    found = bench.compare(runs / "base", tmp_path / "noisy", metrics=["delivered_tok_per_s"])
    assert found.status is Status.AMBIGUOUS
    (point,) = found.points
    assert point.causes
    assert all(line.startswith("moved, but not told from noise: ") for line in point.cause_lines)


def test_what_is_counted_has_no_noise(runs: Path) -> None:
    """Where no metric has a verdict of a change, the same prompts' forwards still changed."""
    (point,) = bench.compare(runs / "base", runs / "steps", metrics=["commit_ms"]).points
    (line,) = point.cause_lines
    assert line.startswith("changed: denoise forwards +")


MIB = 2**20


def test_a_leak_of_memory_is_a_regression(tmp_path: Path) -> None:
    """The most that each process held, whatever its speed."""
    drawn = [int(485 * MIB * factor) for factor in speeds(5)]
    for name, seed, peaks in (
        ("base", 1, drawn),
        ("again", 2, drawn[::-1]),
        ("leak", 3, [held + 485 * MIB for held in drawn]),
    ):
        make_run(tmp_path / name, factors=speeds(seed), peaks=peaks, peak_rss_bytes=max(peaks))
    found = bench.compare(tmp_path / "base", tmp_path / "again")
    assert found.status is status(found, "peak_rss_bytes") is Status.EQUIVALENT
    found = bench.compare(tmp_path / "base", tmp_path / "leak")
    assert found.exit_code is ExitCode.NEGATIVE
    said = text(found)
    assert "REGRESSION: diffusion-bf16 peak_rss_bytes" in said
    assert f"peak_rss_bytes {max(drawn) / MIB:.0f} MiB" in said
    assert " bytes " not in said  # beside values in MiB
    (judged,) = (j for j in found.points[0].judged if j.metric.name == "peak_rss_bytes")
    assert judged.verdict.effect == pytest.approx(1.0, abs=0.02)
    assert judged.baseline == max(drawn)


def test_memory_that_an_older_run_does_not_tell_decides_nothing(runs: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "new", factors=speeds(2), peaks=[485 * MIB] * 8)
    found = bench.compare(runs / "base", tmp_path / "new")
    assert status(found, "peak_rss_bytes") is Status.INSUFFICIENT_DATA
    assert found.exit_code is ExitCode.POSITIVE


def test_runs_of_different_sizes_have_no_false_cause(runs: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "more", factors=speeds(6, n=11))
    (point,) = bench.compare(runs / "base", tmp_path / "more").points
    assert point.causes == ()


def test_the_environment_is_said_before_any_number(runs: Path, tmp_path: Path) -> None:
    newer = {"machine": MACHINE | {"driver": "580.1"}}
    make_run(tmp_path / "newer", factors=speeds(2), info=newer, torch="2.14.0", commit="2" * 40)
    found = bench.compare(runs / "base", tmp_path / "newer")
    told = {difference.name: str(difference) for difference in found.environment}
    assert set(told) == {"commit", "driver", "torch"}
    assert told["driver"] == "driver: unknown -> 580.1"
    said = text(found)
    for difference in told.values():
        assert said.index(difference) < said.index("delivered_tok_per_s")


def test_points_match_by_name_with_their_keys_named(runs: Path, tmp_path: Path) -> None:
    config = {"execution": "eager", "sampler": {"entropy_bound": 0.1}, "run_dir": None}
    other = config | {"sampler": {"entropy_bound": 0.2}, "run_dir": "elsewhere"}
    for name, own, digest in (("a", config, "a" * 12), ("b", other, "b" * 12)):
        info = {"config": {"diffusion-bf16": own}}
        make_run(tmp_path / name, factors=speeds(1), info=info, config_hash=digest)
    (point,) = bench.compare(tmp_path / "a", tmp_path / "b").points
    assert [str(each) for each in point.config] == ["sampler.entropy_bound: 0.1 -> 0.2"]
    (point,) = bench.compare(runs / "base", tmp_path / "b").points
    assert [each.name for each in point.config] == ["config hash"]


def test_a_clock_effect_is_said(tmp_path: Path) -> None:
    """9 % slower at a clock that is 9 % lower: the same step in cycles."""
    for name, seed, clock in (("a", 1, 1980.0), ("b", 3, 1800.0)):
        slower = replace(TIMING, denoise_s=0.010 * 1980 / clock)
        make_run(
            tmp_path / name, factors=speeds(seed, 1e-4), timing=slower, sm_clock_mean_mhz=clock
        )
    said = text(bench.compare(tmp_path / "a", tmp_path / "b"))
    assert "the mean SM clock went from 1980 to 1800 MHz; step_ms changed by" in said
    cycles = float(said.split("step_ms changed by ")[1].split(" %")[0])
    assert abs(cycles) < 0.1


@pytest.mark.parametrize(("clock", "said"), [(1990.0, True), (1985.0, False)])
def test_clocks_that_differ_by_half_a_percent_are_said(
    tmp_path: Path, clock: float, said: bool
) -> None:
    for name, mhz in (("a", 1980.0), ("b", clock)):
        make_run(tmp_path / name, factors=speeds(1), sm_clock_mean_mhz=mhz)
    (point,) = bench.compare(tmp_path / "a", tmp_path / "b").points
    assert any("mean SM clock went from 1980" in note for note in point.notes) is said


def test_no_common_point_is_no_pass(runs: Path, tmp_path: Path) -> None:
    make_run(tmp_path / "other", decoding="autoregressive", config_hash="c" * 12)
    found = bench.compare(runs / "base", tmp_path / "other")
    assert (found.points, found.exit_code) == ((), ExitCode.UNDECIDED)
    said = text(found)
    assert "no point in common" in said
    assert "diffusion-bf16" in said
    assert "autoregressive-bf16" in said


def test_invalid_points_and_other_prompts_get_no_verdict(runs: Path, tmp_path: Path) -> None:
    reason = {"validity": "invalid", "validity_reason": "throttled: HW_SLOWDOWN"}
    make_run(tmp_path / "bad", factors=speeds(2), **reason)
    make_run(tmp_path / "asked", factors=speeds(2), prompts_sha256="ef" * 32)
    for name, why in (("bad", "the candidate is invalid: throttled"), ("asked", "other prompts")):
        found = bench.compare(runs / "base", tmp_path / name)
        assert found.exit_code is ExitCode.UNDECIDED
        (point,) = found.points
        for judged in point.judged:
            assert judged.verdict.status is Status.INSUFFICIENT_DATA
            assert why in judged.verdict.reason


def test_contents_of_random_weights_are_not_compared(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        make_run(tmp_path / name, factors=speeds(seed), weights="dummy")
    (point,) = bench.compare(tmp_path / "a", tmp_path / "b").points
    assert {judged.metric.name for judged in point.judged} == set(SPEEDS)


def test_an_autoregressive_point_has_its_own_metrics(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 2)):
        make_run(tmp_path / name, factors=speeds(seed), decoding="autoregressive")
    (point,) = bench.compare(tmp_path / "a", tmp_path / "b").points
    names = {judged.metric.name for judged in point.judged}
    assert "decode_ms" in names
    assert not {"step_ms", "steps_per_canvas", "revised_after_accept"} & names


def test_metrics_and_points_can_be_chosen(runs: Path) -> None:
    found = bench.compare(runs / "base", runs / "slow", metrics=["commit_ms"])
    assert (found.status, found.family) == (Status.EQUIVALENT, 1)
    with pytest.raises(ValueError, match="metric 'speed' is unknown; valid: delivered_tok_per_s"):
        bench.compare(runs / "base", runs / "slow", metrics=["speed"])
    with pytest.raises(ValueError, match="point 'x' is in neither run"):
        bench.compare(runs / "base", runs / "slow", points=["x"])
    with pytest.raises(ValueError, match="bound 0 must be above 0"):
        bench.compare(runs / "base", runs / "slow", bound=0)


def test_json_is_plain_and_complete(runs: Path) -> None:
    found = compared(runs / "base", runs / "slow")
    plain = json.loads(json.dumps(as_json(found), allow_nan=False))
    assert (plain["status"], plain["exit_code"]) == ("REGRESSION", 1)
    (point,) = plain["points"]
    step = point["metrics"]["step_ms"]
    assert step["status"] == "REGRESSION"
    assert step["interval"][0] < step["effect"] < step["interval"][1]
    assert step["effect"] == pytest.approx(0.1, abs=0.01)
    assert step["detectable"] < 0.02
    assert point["attribution"]["causes"] == ["denoise_s"]


@pytest.mark.parametrize(
    ("a", "b", "code", "said"),
    [
        ("base", "again", 0, "EQUIVALENT: "),
        ("base", "slow", 1, "seconds a denoise forward"),
        ("screening", "screening", 3, "8 are needed in each arm"),
    ],
)
def test_the_command_line_gives_exit_codes(
    runs: Path, canvasbench: Command, a: str, b: str, code: int, said: str
) -> None:
    done = canvasbench("compare", a, b, cwd=runs)
    assert (done.returncode, done.stderr) == (code, "")
    assert said in " ".join(done.stdout.split())
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_it_needs_no_torch(runs: Path) -> None:
    done = alone("compare", "base", "slow", "--json", cwd=runs)
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["status"] == "REGRESSION"


@pytest.mark.slow
def test_it_takes_less_than_two_seconds(tmp_path: Path) -> None:
    """Of the processor, of a run as large as the default one: 150 prompts."""
    config = replace(BASE, num_prompts=150)
    for name in ("a", "b"):
        make_run(tmp_path / name, config=config)
    program = (
        "import sys, time; import bench; from bench.comparison import print_comparison;"
        "print_comparison(bench.compare(*sys.argv[1:])); print(time.process_time())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "a", tmp_path / "b"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout.splitlines()[-1]) < 2.0


def _damage(folder: Path) -> None:
    (folder / "steps.parquet").write_bytes(b"PAR1 half a file")


def _future(folder: Path) -> None:
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(info | {"schema_version": 99}))


def _no_info(folder: Path) -> None:
    (folder / "run.json").unlink()


def _foreign(folder: Path) -> None:
    import pandas as pd

    table = pd.read_parquet(folder / "requests.parquet").drop(columns="wall_s")
    table.to_parquet(folder / "requests.parquet", index=False)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (_damage, "steps.parquet is truncated or no parquet file"),
        (_future, "has schema version 99; this canvasbench reads up to"),
        (_no_info, "is no run folder: it has no run.json"),
        (_foreign, "column 'wall_s' is missing"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_clear_line(
    tmp_path: Path, harm: object, said: str
) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b")
    harm(tmp_path / "b")  # type: ignore[operator]
    with pytest.raises(ValueError, match=said) as error:
        bench.compare(tmp_path / "a", tmp_path / "b")
    assert "\n" not in str(error.value)


def test_a_missing_base_is_one_clear_line(runs: Path, canvasbench: Command) -> None:
    done = canvasbench("compare", "nowhere", "base", cwd=runs)
    assert done.returncode == 2
    assert done.stderr == "error: run nowhere is not a folder\n"


def test_an_older_schema_is_read_and_said(runs: Path, tmp_path: Path) -> None:
    """Times of an older version are compared; what it did not know is left out."""
    import pandas as pd

    make_run(tmp_path / "old", factors=speeds(2), info={"schema_version": 4})
    for path in (tmp_path / "old").glob("*.parquet"):
        table = pd.read_parquet(path)
        gone = [c for c in ("reasoning_tokens", "visible_tokens", "well_formed") if c in table]
        table.assign(schema_version=4).drop(columns=gone).to_parquet(path, index=False)
    found = bench.compare(tmp_path / "old", runs / "base")
    assert found.exit_code is ExitCode.POSITIVE
    assert "schema: 4 -> " in text(found)
