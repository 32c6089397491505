"""The GPU campaign: its stages, its rehearsal on a processor, and what it leaves behind."""

import json
import tarfile
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

import bench
from bench.build import decoding_of
from bench.cli import main
from bench.compose import Point, compose_points
from bench.sweep import resume_sweep, run_sweep

STAGES = ("a", "b", "c")


@cache
def stage(name: str, *overrides: str) -> list[Point]:
    return compose_points(["experiment=gpu_campaign", f"stage={name}", *overrides], decoding_of)


def test_stage_a_is_the_published_work_with_processes_for_an_interval() -> None:
    points = {p.point_id: p.config for p in stage("a")}
    assert sorted(points) == [
        "autoregressive-bf16",
        "autoregressive-fp8",
        "diffusion-bf16",
        "diffusion-fp8",
        "diffusion-fp8-commit=fused",
    ]
    for name, config in points.items():
        processes = 3 if name.endswith("fused") else 5 if name.endswith("fp8") else 1
        assert config.measure.num_processes == processes
        assert (config.device, config.batch_size) == ("cuda", 1)
        assert config.workload.max_new_tokens == config.workload.prompt_tokens == 1024  # type: ignore[attr-defined]


def test_stage_b_spans_prefixes_and_batches() -> None:
    points = stage("b")
    assert len({p.point_id for p in points}) == len(points) == 4 * (4 + 5)
    assert {p.config.batch_size for p in points} == {1, 2, 4, 8, 16, 32}
    for point in points:
        assert point.config.workload.num_prompts == point.config.batch_size
    assert "diffusion-fp8-batch_size=32" in {p.point_id for p in points}


def test_stage_c_sets_transformers_beside_our_engine() -> None:
    backends = {p.config.backend.name.name for p in stage("c")}
    assert backends == {"native", "transformers"}


EXPERIMENTS = files("configs") / "experiment"
SIZES = ("sampler.max_denoising_steps", "workload.num_prompts", "workload.max_new_tokens")


def sweeps(experiment: str, name: str) -> list[dict[str, object]]:
    """The axes of a stage without what a rehearsal makes smaller, models by their decoding."""
    text = (EXPERIMENTS / f"{experiment}.yaml").read_text()
    return [
        {
            key: [decoding_of(model) for model in value.split(",")] if key == "model" else value
            for key, value in sweep.items()
            if key not in (*SIZES, "workload.prompt_tokens", "batch_size", "measure.num_processes")
        }
        for sweep in yaml.safe_load(text)["stages"][name]["sweeps"]
    ]


@pytest.mark.parametrize("name", STAGES)
def test_the_rehearsal_has_the_same_stages(name: str) -> None:
    real, rehearsed = (sweeps(f"gpu_campaign{end}", name) for end in ("", "_rehearsal"))
    # What transformers compiles is its setting for a GPU; on a processor one sibling refuses it.
    assert [s for s in real if "backend.compiled" not in s] == rehearsed


def test_a_rehearsal_runs_on_a_processor_and_says_so() -> None:
    real, rehearsed = stage("a"), stage("a", "rehearsal=true")
    assert {p.point_id for p in real} == {p.point_id for p in rehearsed}
    assert {p.config.device for p in rehearsed} == {"cpu"}
    assert all(p.config.rehearsal and p.config.model.startswith("mini-") for p in rehearsed)
    checks = real[0].config.stages["a"].checks
    assert checks == rehearsed[0].config.stages["a"].checks == ["graph_equals_eager"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["experiment=gpu_campaign", "stage=d"], "stage 'd' is unknown; valid: a, b, c"),
        (["stage=a"], "stage=a has no effect: this experiment has no stages"),
        (["experiment=step_cap", "rehearsal=true"], "no rehearsal; valid: gpu_campaign"),
    ],
)
def test_stages_that_do_not_exist_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compose_points(overrides, decoding_of)


SHORT = (
    "experiment=gpu_campaign",
    "rehearsal=true",
    "model=tiny-diffusion",
    "threads=1",
    "workload.max_new_tokens=33",
    "workload.prompt_tokens=9",
)


def test_a_shortened_rehearsal_leaves_points_checks_and_two_small_files(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run_sweep([*SHORT, "stage=c", "precision=bf16", f"run_dir={folder}"], default_sweep=True)
    run = bench.open_run(folder)
    assert run.info["finished"]
    assert set(run.points["backend"]) == {"native", "transformers"}
    assert set(run.points["validity"]) == {"valid"}
    checks, groups = run.checks, run.op_groups
    assert checks is not None
    assert groups is not None
    assert list(checks["check"]) == ["op_groups"]
    assert {"experts", "attention", "projections", "sampling"} <= set(groups["op_group"])
    assert "time by op group" in (folder / "report.html").read_text()
    files = list((folder / "compact").iterdir())
    assert sorted(f.name for f in files) == ["report.html", "run.tar.gz"]
    assert all(f.stat().st_size < 16 << 20 for f in files)
    with tarfile.open(folder / "compact" / "run.tar.gz") as archive:
        archive.extractall(tmp_path / "elsewhere", filter="data")
    again = bench.open_run(tmp_path / "elsewhere" / "run")
    assert len(again.points) == len(run.points)


@pytest.mark.slow  # test_checks.py shows the same of checks alone
def test_a_spent_budget_leaves_checks_for_later(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    overrides = [*SHORT, "stage=a", "precision=bf16", "measure.num_processes=1"]
    run_sweep([*overrides, "time_budget_s=0.01", f"run_dir={folder}"], default_sweep=True)
    info = json.loads((folder / "run.json").read_text())
    assert (info["finished"], info["checks"]) == (False, ["graph_equals_eager"])
    assert bench.open_run(folder).checks is None
    resume_sweep(folder)
    run = bench.open_run(folder)
    assert run.info["finished"]
    assert run.checks is not None
    assert run.checks["passed"].isna().all()  # an eager point has nothing to compare


def test_the_command_line_says_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["canvasbench", "run", "experiment=gpu_campaign", "stage=z"]
    monkeypatch.setattr("sys.argv", argv)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "stage 'z' is unknown; valid: a, b, c" in capsys.readouterr().err
