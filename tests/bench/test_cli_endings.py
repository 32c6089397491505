"""How the command line ends where something goes wrong: a fault of its own, SIGTERM, a closed pipe,
what Hydra refuses, files that cannot be written, nobody listening.
"""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from bench import open_run
from bench.ab.source import source
from bench.interruption import ended_like_interrupted
from tests.bench.comparison.command import Command
from tests.bench.comparison.made import make_run
from tests.bench.servers.command_line import argument_list
from tests.bench.servers.test_process import FAKE, living, pids, wait_until
from tests.bench.test_provenance import checkout as checkout  # a fixture
from tests.bench.test_survival import COMMAND, SMALL


@pytest.fixture
def canvasbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made") / "run")


FAULTS = [
    (["doctor"], "bench.doctor.describe"),
    (["report", "RUN"], "bench.store.open_run"),
    (["compare", "RUN", "RUN"], "bench.comparison.compare"),
    (["ab", "--base", "HEAD"], "bench.ab.source.checkout"),
    (["aa", "calibrate", "RUN"], "bench.ab.aa_blocks.read_recorded"),
    (["claims", "judge", "RUN"], "bench.claims.commands.judge_run"),
    (["procure", "INPUTS"], "bench.procurement.command.procure"),
    (["run", "-m", "model=tiny-diffusion", "precision=bf16"], "bench.sweep.run_sweep"),
]


@pytest.mark.parametrize(
    "error",
    [KeyError("prompt_tokens"), OSError(5, "a disk"), EOFError(), ValueError("not one of ours")],
)
@pytest.mark.parametrize(("arguments", "what"), FAULTS, ids=[a[0] for a, _ in FAULTS])
def test_a_fault_is_a_traceback_and_no_verdict(
    canvasbench: Command,
    monkeypatch: pytest.MonkeyPatch,
    run: Path,
    arguments: list[str],
    what: str,
    error: Exception,
) -> None:
    def fails(*given: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(what, fails)
    done = canvasbench(*(run if each == "RUN" else each for each in arguments), cwd=run.parent)
    assert done.returncode == 70
    assert "Traceback (most recent call last)" in done.stderr
    assert type(error).__name__ in done.stderr
    assert done.stderr.endswith("error: the above is a fault of canvasbench, no verdict\n")


def test_a_fault_has_the_same_code_where_the_module_is_run(tmp_path: Path) -> None:
    program = (
        "import runpy, sys, bench.doctor\n"
        "bench.doctor.describe = lambda: 1 / 0\n"
        "sys.argv = ['canvasbench', 'doctor']\n"
        "runpy.run_module('bench.cli', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("arguments", [["claims", "list", "--json"], ["run", "--cfg", "job"]])
def test_a_reader_that_went_away_is_no_negative_verdict(
    tmp_path: Path, arguments: list[str]
) -> None:
    program = "import sys; from bench.cli import main; sys.stdin.read(); main()"
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    process.stdin.close()
    assert process.wait(60) == 141


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_without_utf_8_loses_no_verdict(
    canvasbench: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoding: str
) -> None:
    written = io.BytesIO()
    poor = io.TextIOWrapper(written, encoding=encoding, write_through=True)
    monkeypatch.setattr("bench.doctor.print_description", lambda **_: print("é ☃", file=poor))
    monkeypatch.setattr("sys.stdout", poor)
    done = canvasbench("doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = "é ☃".encode(encoding, errors="backslashreplace")
    assert written.getvalue() == said + b"\n"
    assert b"\\u2603" in said


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [["claims", "list"], ["claims", "list", "--json"]])
def test_an_output_that_is_full_is_one_line(tmp_path: Path, arguments: list[str]) -> None:
    """Met while it is written, or at the end where it is short."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert done.stderr == "error: the output cannot be written: its disk is full\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cfg", "job", "precisio=fp8"], "Could not override 'precisio'."),
        (["--cfg", "job", "precision=fp9"], "'fp9', expected one of [fp32, bf16, fp8]"),
        (["--cfg", "job", "workload=none"], "Available options in 'workload': fixed_work long_"),
        (["--cfg", "everything"], "argument --cfg/-c: invalid choice: 'everything' (choose from"),
        (["--resolve"], "--resolve shows nothing by itself; it goes with --cfg job"),
    ],
)
def test_what_hydra_refuses_is_one_line(
    canvasbench: Command, tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = canvasbench("run", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_files_that_cannot_be_written_are_one_line(
    canvasbench: Command, run: Path, tmp_path: Path
) -> None:
    own = make_run(tmp_path / "own")
    (own / "plots").write_text("")
    (tmp_path / "file").write_text("")
    for arguments in (
        ("query", run, "select 1", "--csv", tmp_path / "none" / "a.csv"),
        ("report", own),
        ("history", "add", run, "--into", tmp_path / "file"),
    ):
        done = canvasbench(*arguments, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert "cannot be written: " in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_nobody_listening_is_one_line(canvasbench: Command, tmp_path: Path) -> None:
    given = (
        *("-m", "model=tiny-diffusion", "precision=fp32", "backend=openai", "threads=1"),
        *("backend.url=http://127.0.0.1:9/v1", "backend.served_model=a"),
    )
    done = canvasbench("run", *given, cwd=tmp_path)
    assert done.returncode == 2
    assert "http://127.0.0.1:9/v1" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def ended(folder: Path, *given: str, ready: Callable[[], bool]) -> tuple[int, str, list[int]]:
    """Exit code, errors and children of a run that gets SIGTERM once it is ready."""
    process = subprocess.Popen(
        [*COMMAND, "run", "-m", *given, "run_dir=run"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_until(ready)
        children = [child.pid for child in psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, errors, children


def test_sigterm_ends_a_run_like_ctrl_c(canvasbench: Command, tmp_path: Path) -> None:
    """Finished repeats are kept, the run is marked, no worker is left, and it can be resumed."""
    parts = tmp_path / "run" / "shards"
    small = [each for each in SMALL if not each.startswith("measure.num_repeats")]
    code, errors, children = ended(
        tmp_path,
        *(*small, "model=tiny-diffusion", "measure.num_repeats=5000"),
        ready=lambda: len(list(parts.glob("*-r*"))) > 2,
    )
    assert code == 130, errors
    assert errors == "interrupted; what was finished is kept\n"
    assert children
    wait_until(lambda: not living(children), 10.0)
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert (info["interrupted"], info["finished"]) == (True, False)
    kept = open_run(tmp_path / "run")
    assert kept.points["num_requests"].item() >= 2 * 6
    assert (tmp_path / "run" / "points.parquet").exists()


def test_sigterm_ends_the_server_that_a_run_started(tmp_path: Path) -> None:
    command = [sys.executable, str(FAKE), "{port}", str(tmp_path / "pids"), "--silent"]
    code, errors, children = ended(
        tmp_path,
        *("model=tiny-diffusion", "precision=fp32", "backend=openai", "threads=1"),
        *("backend.launch.engine=command", "backend.launch.stop_s=0.5", argument_list(command)),
        ready=lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text() != "",
    )
    assert code == 130, errors
    assert errors == "interrupted; what was finished is kept\n"
    wait_until(lambda: not living([*children, *pids(tmp_path)]), 10.0)
    assert json.loads((tmp_path / "run" / "run.json").read_text())["interrupted"] is True


def test_sigterm_ends_what_measures_the_checkout_as_it_is(checkout: Path) -> None:
    """`aa record`, which has no worktree."""
    with pytest.raises(KeyboardInterrupt), source(checkout, None):
        signal.raise_signal(signal.SIGTERM)


def test_a_handler_of_somebody_else_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen: list[int] = []
    try:
        signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
        with ended_like_interrupted():
            signal.raise_signal(signal.SIGTERM)
        assert seen == [signal.SIGTERM]
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with pytest.raises(KeyboardInterrupt), ended_like_interrupted():
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
