"""The fixture: what it times, what it says, and that it is nothing to those who do not use it."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pytest
import torch

from bench import open_run
from bench.backends import Delivery, Forward, RowBlock, unmarked
from bench.history import add_run, read_series
from bench.history.entry import entry_of
from bench.pytest_bridge.importing import import_pytest_benchmark
from bench.pytest_bridge.point import Batch, BenchmarkedPoint, answer, open_point
from bench.timing import CudaStopwatch
from tests.bench.pytest_bridge.alone import alone_environment
from tests.bench.pytest_bridge.conftest import POINT, Session

ROOT = Path(__file__).parents[3]
UNBALANCED = "+backend.faults=[{kind: unbalanced_ledger, request_id: 0, slots: 1}]"


def test_pytest_finds_the_plugin_once_the_package_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    plugin = import_module(project["entry-points"]["pytest11"]["canvasbench"])
    assert hasattr(plugin, "canvasbench_point")
    assert any(
        "pytest-benchmark" in needed for needed in project["optional-dependencies"]["pytest"]
    )


def test_without_pytest_benchmark_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("def test_it(canvasbench_point): pass")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "bench.pytest_bridge.plugin", "test_it.py"],
        cwd=tmp_path,
        env=alone_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    told = "canvasbench_point needs pytest-benchmark: pip install 'canvasbench[pytest]'"
    assert done.returncode == 1
    assert told in done.stdout.splitlines()


def test_a_test_that_asks_for_no_point_loads_nothing(session: Session) -> None:
    names = {each["name"] for each in session.document["benchmarks"]}
    assert "test_nothing_is_loaded_before_a_point_is_asked_for" in names
    assert not re.search("(FAILED|ERROR) .*test_nothing_is_loaded", session.stdout)


def test_the_facts_are_those_of_a_run_of_the_same_point(session: Session, run: Path) -> None:
    """Same hash and fingerprint, same contents, from the tables of a run made by the command."""
    measured = {each["name"]: each for each in session.document["benchmarks"]}
    facts = measured["test_generation"]["extra_info"]["canvasbench"]
    (point,) = entry_of(run).points
    assert (facts["config_hash"], facts["point_id"]) == (point.config_hash, point.point_id)
    assert facts["fingerprint"] == point.facts
    for name in ("steps_per_canvas_median", "steps_per_canvas_p90", "accuracy", "cap_rate"):
        assert facts["figures"][name] == point.figures[name].value
    opened = open_run(run)
    assert facts["delivered_tokens"] == opened.requests["delivered_tokens"].sum()
    assert facts["num_canvases"] == len(opened.canvases)
    (row,) = opened.points.to_dict("records")
    assert (facts["commit"], facts["device"]) == (row["commit"], row["device"])
    assert facts["warm_up"] == {"num_batches": 6, "stable": facts["warm_up"]["stable"]}
    assert "prefill included" in facts["definitions"]["round"]
    assert facts["overrides"] == list(POINT)
    assert facts["condition"] == "unknown: not sampled"


def test_a_round_takes_about_what_the_harness_measures(session: Session, run: Path) -> None:
    """Within a factor of ten, as the machine was not equally busy: a pass over all prompts."""
    (found,) = (b for b in session.document["benchmarks"] if b["name"] == "test_generation")
    wall_s = open_run(run).requests["wall_s"].sum()
    assert wall_s / 10 < found["stats"]["min"] < wall_s * 10


def test_what_cannot_be_measured_fails_in_one_line(session: Session) -> None:
    failures = dict(re.findall(r"^(?:FAILED|ERROR) \S+::(\w+) - (.+)$", session.stdout, re.M))
    assert failures.keys() == {
        "test_other_work",
        "test_misspelt",
        "test_two_points",
        "test_one_word",
    }
    assert "Traceback" not in session.stdout
    for told in (
        "key 'modle' is unknown; did you mean 'model'?",
        "the overrides make 2 points (diffusion-fp32, diffusion-bf16); a test times one",
        "overrides are 'model=tiny-diffusion'; they must be a list of key=value",
        "the rounds are not the same work",
    ):
        assert told in session.stdout
    assert session.returncode == 1


def test_rounds_of_other_work_are_not_written(session: Session) -> None:
    names = {each["name"] for each in session.document["benchmarks"]}
    assert "test_generation" in names
    assert "test_other_work" not in names


def test_a_point_under_pytest_becomes_a_series_of_its_environment(
    session: Session, tmp_path: Path
) -> None:
    """Two sessions and one under another torch: two series, values from the rounds."""
    document = session.document
    (own,) = (each for each in document["benchmarks"] if each["name"] == "test_generation")
    facts = own["extra_info"]["canvasbench"]
    for day in range(3):
        document["datetime"] = f"2026-11-0{day + 1}T12:00:00+00:00"
        if day == 2:
            facts["fingerprint"]["torch"] = "9.9"
        (tmp_path / f"{day}.json").write_text(json.dumps(document))
        import_pytest_benchmark(tmp_path / f"{day}.json", tmp_path / "h")
    series = read_series(tmp_path / "h", "delivered_tok_per_s")
    assert [len(each.observations) for each in series] == [2, 1]
    assert [(d.name, d.candidate) for d in series[1].began] == [("torch", "9.9")]
    rate = facts["delivered_tokens"] / own["stats"]["mean"]
    assert series[0].observations[0].value == pytest.approx(rate)
    assert series[0].observations[0].num_processes == 1
    assert series[0].point_id == "test_points.py::test_generation"
    (steps, _) = read_series(tmp_path / "h", "steps_per_canvas_median")
    assert steps.observations[0].value == facts["figures"]["steps_per_canvas_median"]


def test_what_a_test_measured_is_no_series_of_a_run(session: Session, run: Path, tmp_path: Path):
    """Same fingerprint, but a run's processes are fresh: their times are never mixed."""
    import_pytest_benchmark(session.path, tmp_path / "h")
    add_run(run, tmp_path / "h")
    series = read_series(tmp_path / "h", "step_ms")
    assert {each.point_id for each in series} == {
        "diffusion-bf16",
        "test_points.py::test_generation",
    }
    assert len({each.fingerprint for each in series}) == 1


@dataclass
class Event:
    """A CUDA event that is reached when it is waited for."""

    log: list[str]
    number: int = 0

    def record(self) -> None:
        self.number = sum(entry.startswith("record") for entry in self.log)
        self.log.append(f"record {self.number}")

    def synchronize(self) -> None:
        self.log.append(f"wait {self.number}")

    def elapsed_time(self, other: "Event") -> float:
        return 1.0


@dataclass
class GpuSession:
    """Two forwards and a delivery of three tokens on a device that runs behind."""

    log: list[str] = field(default_factory=list)

    def stopwatch(self) -> CudaStopwatch:
        return CudaStopwatch(lambda: Event(self.log))

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        row_keys: Sequence[int],
        *,
        mark: Callable[[], None] = unmarked,
    ) -> Iterator[Forward | Delivery]:
        for step in range(2):
            mark()
            yield Forward("denoise", 0, step + 1)
        mark()
        rows = [RowBlock([5, 6, 7], [5, 6, 7], 0, 0, 0, 2, "converged", "eos") for _ in prompts]
        yield Delivery(0, rows, None)


def test_a_round_ends_when_the_device_has_finished() -> None:
    session = GpuSession()
    deliveries = answer(session, Batch([[2]], [0]))  # type: ignore[arg-type]
    assert [len(delivery.rows) for delivery in deliveries] == [1]
    assert session.log == ["record 0", "record 1", "record 2", "record 3", "wait 3"]


def test_a_closed_point_gives_the_threads_back_and_knows_its_work() -> None:
    before = torch.get_num_threads()
    batches = [Batch([[2], [2]], [0, 1]), Batch([[2]], [2])]
    point = BenchmarkedPoint(GpuSession(), batches, {}, 9, before + 1)  # type: ignore[arg-type]
    try:
        point.close()  # never called: nothing to hold against the harness's pass
        assert torch.get_num_threads() == before + 1
        point()
        point.close()
        point.delivered_tokens = 8
        with pytest.raises(ValueError, match="delivered 9 tokens, the harness's pass before it 8"):
            point.close()
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["backend=simulated", "backend.clock=virtual"], "virtual takes no time"),
        (["model=nothing"], "neither a preset nor a checkpoint folder"),
        (
            [
                "backend=simulated",
                "+backend.faults=[{kind: unbalanced_ledger, request_id: 0, slots: 1}]",
            ],
            "is invalid: ledger",
        ),
    ],
)
def test_a_refused_point_leaves_the_threads_alone(overrides: list[str], message: str) -> None:
    before = torch.get_num_threads()
    with pytest.raises(ValueError, match=message):
        open_point([*overrides, "workload.num_prompts=2", f"threads={before + 1}"])
    assert torch.get_num_threads() == before
