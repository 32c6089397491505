"""The command line as a user meets it: a small run end to end, help, every kind of bad input.

Most calls are made in this process; in one of their own are the run that the others read, what is
interrupted, and whatever is about imports.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from bench import open_run
from tests.bench.comparison.command import Command

SMALL = [
    "workload.num_prompts=6",
    "measure.num_repeats=2",
    "measure.max_repairs=2",
    "measure.num_routing_prompts=2",
    "measure.max_warmup_prompts=6",
    "threads=1",
]
ONE = ["model=tiny-diffusion", "precision=bf16"]
COMMAND = [sys.executable, "-c", "from bench.cli import main; main()"]


def started(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [*COMMAND, *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture
def canvasbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def without_page(canvasbench: Command, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs leave their tables alone: a page takes seconds."""
    monkeypatch.setattr("bench.sweep.render", lambda run: run.path)
    return canvasbench


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small default sweep in `first`."""
    folder = tmp_path_factory.mktemp("workplace")
    done = started("run", *SMALL, "run_dir=first", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "report: first/report.html"
    return folder


def test_the_default_sweep_has_exactly_four_points(workplace: Path) -> None:
    run = open_run(workplace / "first")
    points = run.points
    pairs = zip(points["decoding"], points["precision"], strict=True)
    assert sorted(pairs) == [
        ("autoregressive", "bf16"),
        ("autoregressive", "fp8"),
        ("diffusion", "bf16"),
        ("diffusion", "fp8"),
    ]
    assert (points["validity"] != "invalid").all(), points["validity_reason"].tolist()
    assert (points["num_requests"] == 12).all()
    assert (points["delivered_tok_per_s"] > 0).all()
    assert points["weights_sha256"].notna().all()
    assert run.info["finished"] is True
    assert len(run.info["prompts_sha256"]) == 64


def test_the_run_folder_is_complete(workplace: Path) -> None:
    names = {path.name for path in (workplace / "first").iterdir()}
    tables = {"points", "requests", "canvases", "steps", "positions", "repairs"}
    assert names >= {f"{name}.parquet" for name in tables} | {"run.json", "report.html", "plots"}
    assert len(list((workplace / "first" / "plots").glob("*.png"))) >= 5


def test_the_ledger_sums_for_every_request(workplace: Path) -> None:
    requests = open_run(workplace / "first").requests
    assert requests is not None
    parts = ["delivered_tokens", "after_eos_slots", "over_limit_slots", "row_ended_slots"]
    assert (requests[parts].sum(axis=1) == requests["slots_committed"]).all()


def test_same_seed_gives_every_number_again_but_times(
    workplace: Path, without_page: Command
) -> None:
    done = without_page("run", *SMALL, "precision=bf16", "run_dir=second", cwd=workplace)
    assert done.returncode == 0, done.stderr
    first, second = (open_run(workplace / name) for name in ("first", "second"))
    both = ["diffusion-bf16", "autoregressive-bf16"]
    timed = {"requests": ["wall_s", "prefill_s", "first_canvas_s", "last_delivery_s"]}
    timed |= {
        "canvases": ["gap_s"],
        "steps": ["device_ms", "host_ms"],
        "positions": [],
        "repairs": [],
    }
    for table, columns in timed.items():
        frames = [run.table(table) for run in (first, second)]
        kept = []
        for found in frames:
            assert found is not None
            rest = found[found["point_id"].isin(both)].drop(columns=columns)
            kept.append(rest.sort_values(list(rest.columns)).reset_index(drop=True))
        pd.testing.assert_frame_equal(*kept)
    times = ("tok_per_s", "_ms", "_s", "peak_rss", "host_share", "warmup_")
    machine = ("condition", "temperature_", "sm_clock_", "power_", "joules_")
    names = [c for c in first.points if not any(word in c for word in (*times, *machine))]
    by_id = [run.points.set_index("point_id").loc[both] for run in (first, second)]
    names.remove("point_id")
    pd.testing.assert_frame_equal(by_id[0][names], by_id[1][names])


def test_report_is_rebuilt_from_the_tables_without_torch(workplace: Path) -> None:
    copy = workplace / "copy"
    shutil.copytree(workplace / "first", copy)
    (copy / "report.html").unlink()
    shutil.rmtree(copy / "plots")
    program = (
        "import sys; from bench.cli import main; sys.argv = ['canvasbench', 'report', 'copy'];"
        "\ntry: main()\nfinally: assert not {'torch', 'pandera'} & set(sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=workplace, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (copy / "report.html").stat().st_size > 50_000


def test_batches_and_counts_only_traces_run_too(workplace: Path, without_page: Command) -> None:
    given = [*ONE, "batch_size=4", "trace=counts"]
    done = without_page("run", *SMALL, *given, "run_dir=batched", cwd=workplace)
    assert done.returncode == 0, done.stderr
    (point,) = open_run(workplace / "batched").points.to_dict("records")
    assert point["validity"] != "invalid", point["validity_reason"]
    assert pd.isna(point["argmax_flip_rate"])
    assert pd.isna(point["net_correction"])
    assert 0 < point["occupancy"] <= 1


REFUSED = [
    (["run", "precisio=fp8"], "'precisio' is unknown; did you mean 'precision'"),
    (["run", "workload.num_prompts=many"], "could not be converted to Integer"),
    (["run", "--fast"], "option '--fast' is unknown; valid:"),
    (["run", "model=nothing"], "'nothing' is neither a preset nor a checkpoint folder"),
    (["run", "device=tpu"], "device 'tpu'"),
    (["run", "workload.tasks=huge"], "'huge' has no tasks; valid: tiny, tiny_hard"),
    (["run", "workload.max_new_tokens=0"], "workload.max_new_tokens is 0"),
    (["run", *ONE, "workload.max_new_tokens=500"], "takes at most"),
    (["run", "sampler.max_denoising_steps=0"], "sampler.max_denoising_steps is 0"),
    (["run", "sampler.entropy_bound=-0.1"], "sampler.entropy_bound is -0.1"),
    (["run", *ONE, "weights=nowhere"], "nowhere is not a folder"),
    (["run", "run_dir=first"], "first exists already"),
    (["run", "run_dir=file/run"], "cannot be created"),
    (["report", "nowhere"], "nowhere is not a folder"),
    (["report", "--wide"], "No such option: --wide"),
    (["measure"], "No such command 'measure'"),
]
EACH = """
import json, os, sys
import bench.serving, bench.sweep
from bench.cli import main

for place, arguments in enumerate(json.loads(sys.argv[1])):
    child = os.fork()
    if not child:
        os.dup2(os.open(f"{place}.err", os.O_WRONLY | os.O_CREAT), 2)
        sys.argv = ["canvasbench", *arguments]
        main()
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def refusals(workplace: Path) -> list[tuple[int, str]]:
    """Exit code and errors of every case, each in a fork of one process that has loaded all."""
    (workplace / "file").write_text("")
    given = json.dumps([arguments for arguments, _ in REFUSED])
    done = subprocess.run(
        [sys.executable, "-c", EACH, given],
        cwd=workplace,
        capture_output=True,
        text=True,
        check=True,
    )
    codes = [int(line) for line in done.stdout.splitlines() if line.lstrip("-").isdigit()]
    errors = [(workplace / f"{place}.err").read_text() for place in range(len(codes))]
    return list(zip(codes, errors, strict=True))


@pytest.mark.parametrize(
    ("place", "message"),
    [pytest.param(i, m, id=" ".join(a)) for i, (a, m) in enumerate(REFUSED)],
)
def test_bad_input_is_one_line_and_exit_code_2(
    workplace: Path, refusals: list[tuple[int, str]], place: int, message: str
) -> None:
    code, told = refusals[place]
    assert len(refusals) == len(REFUSED)
    assert code == 2
    assert message in told
    assert len(told.strip().splitlines()) == 1, told
    assert open_run(workplace / "first").info["finished"] is True


def test_bad_input_of_a_process_of_its_own(workplace: Path) -> None:
    done = started("run", "precisio=fp8", cwd=workplace)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr


def test_interrupting_keeps_what_was_finished(workplace: Path, canvasbench: Command) -> None:
    given = ["run", *SMALL, *ONE, "measure.num_repeats=5000", "run_dir=stopped"]
    process = subprocess.Popen(
        [*COMMAND, *given],
        cwd=workplace,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A job in the background of a script inherits an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        parts = workplace / "stopped" / "shards"
        deadline = time.monotonic() + 120
        while not any(parts.glob("*-r*")) and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(1.0)
        os.kill(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    info = json.loads((workplace / "stopped" / "run.json").read_text())
    assert info["interrupted"] is True
    assert len(open_run(workplace / "stopped").points) >= 1
    assert canvasbench("report", "stopped", cwd=workplace).returncode == 0


def test_help_teaches_and_needs_no_torch(workplace: Path) -> None:
    program = (
        "import sys; from bench.cli import main; sys.argv = ['canvasbench', {}];"
        "\ntry: main()\nfinally: assert not {{'torch', 'pandas', 'hydra'}} & set(sys.modules)"
    )
    for arguments in ("'--help'", "'run', '--help'"):
        done = subprocess.run(
            [sys.executable, "-c", program.format(arguments)],
            cwd=workplace,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "canvasbench" in done.stdout
    assert "sampler.max_denoising_steps" in done.stdout


def test_hydras_own_flags_work(workplace: Path) -> None:
    done = started("run", "--cfg", "job", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "precision: bf16" in done.stdout


def test_tables_answer_sql_and_become_csv(workplace: Path, canvasbench: Command) -> None:
    counted = "select count(*) as n from requests where repeat = 0"
    done = canvasbench("query", "first", counted, "--csv", "n.csv", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert (workplace / "n.csv").read_text().split() == ["n", "24"]
    shown = canvasbench("query", "first", "select decoding from points", cwd=workplace)
    assert shown.stdout.count("autoregressive") == 2
    for sql in ("select nothing from points", "select * from read_csv('/etc/passwd')"):
        refused = canvasbench("query", "first", sql, cwd=workplace)
        assert refused.returncode == 2
        assert refused.stderr.startswith("error: SQL: ")
        assert "tables: points" in refused.stderr


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("kernels=triton", "kernels=triton run bf16 and fp8 on a CUDA device, not bf16 on cpu"),
        ("run_dir=.", "run folder . exists already"),
    ],
)
def test_a_dry_run_refuses_what_a_run_refuses(
    tmp_path: Path, canvasbench: Command, override: str, said: str
) -> None:
    for command in (["run", "--dry-run"], ["run"]):
        done = canvasbench(*command, "-m", "model=tiny-diffusion", override, cwd=tmp_path)
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_dry_run_prints_the_plan_and_runs_nothing(workplace: Path, canvasbench: Command) -> None:
    before = set(workplace.iterdir())
    done = canvasbench("run", "--dry-run", "measure.num_repeats=2", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "4 processes in 1 blocks, loaded side by side" in done.stdout
    assert "expected: n/a" in done.stdout
    assert set(workplace.iterdir()) == before


def test_doctor_says_what_can_run(workplace: Path, canvasbench: Command) -> None:
    done = canvasbench("doctor", cwd=workplace)
    assert done.returncode == 0, done.stderr
    assert "tiny-diffusion" in done.stdout
