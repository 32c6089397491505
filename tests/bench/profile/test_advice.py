"""Advice: each rule speaks where its numbers say so, shows them, and is silent otherwise."""

from pathlib import Path
from typing import Any

import pytest

from bench.profile.advice import advise
from tests.bench.profile.synthetic import (
    allocation,
    forward,
    gpu_events,
    group,
    host,
    host_events,
    kernel,
    launch,
    step,
    write_profile,
)


def titles(path: Path, events: list[dict[str, Any]], *notes: dict[str, Any], **info: Any) -> str:
    return "; ".join(a.title for a in advise(write_profile(path, events, list(notes), **info)))


def busy(number: int, begin: float, length: float, name: str = "dense") -> list[dict[str, Any]]:
    return [
        step(number, begin, length),
        group(name, begin, length),
        host("aten::mm", begin, length),
    ]


PLAIN = forward(1, "denoise", 0.1) | {"plain_before_ms": 0.1, "plain_after_ms": 0.1}


def test_nothing_is_said_of_a_busy_step(tmp_path: Path) -> None:
    floors = {"denoise": {"dense": {"floor_ms": 0.08}}}
    assert titles(tmp_path, busy(1, 0, 100), PLAIN, floors=floors) == ""


def test_python_between_operations(tmp_path: Path) -> None:
    found = advise(write_profile(tmp_path, host_events(0, 1), [PLAIN]))
    (gap,) = [a for a in found if a.title == "Time in which nothing runs"]
    assert "45.0 % of a denoise step (0.0450 of 0.100 ms)" in gap.evidence
    assert "threshold 15 %" in gap.evidence
    assert "execution=compiled" in gap.text


def test_a_gpu_that_waits(tmp_path: Path) -> None:
    events = [*gpu_events(0, 1), *gpu_events(150, 2)]
    notes = [forward(1, "denoise", 0.11), forward(2, "denoise", 0.15)]
    found = advise(write_profile(tmp_path, events, notes, on_gpu=True))
    (gap,) = [a for a in found if a.title == "Time in which nothing runs"]
    assert "execution=cuda_graph" in gap.text


def test_a_group_far_from_its_floor(tmp_path: Path) -> None:
    floors = {"denoise": {"dense": {"floor_ms": 0.04}}}
    found = advise(write_profile(tmp_path, busy(1, 0, 100), [PLAIN], floors=floors))
    assert [a.title for a in found] == ["Dense far from the floor"]
    expected = "0.100 ms of operations against a floor of 0.0400 ms (40.0 %; threshold 50 %)"
    assert expected in found[0].evidence


def test_the_profilers_own_cost(tmp_path: Path) -> None:
    found = advise(write_profile(tmp_path, busy(1, 0, 100), [forward(1, "denoise", 0.1)]))
    assert [a.title for a in found] == ["The profiler itself takes long"]
    assert "100 % more" in found[0].evidence


def test_operations_in_no_group_and_long_deliveries(tmp_path: Path) -> None:
    events = [
        step(1, 0, 100),
        host("aten::mm", 0, 100),
        *busy(2, 100, 50),
    ]
    second = PLAIN | {"number": 2, "phase": "delivery"}
    found = titles(tmp_path, events, PLAIN, second)
    assert found == "Operations in no op group; Deliveries take long"


def test_short_kernels_and_full_memory(tmp_path: Path) -> None:
    events = [
        step(1, 0, 100),
        group("dense", 0, 100),
        *(launch(n, n) for n in range(10)),
        *(kernel("tiny", n, 20 + 4 * n, 4) for n in range(10)),
        allocation(50, 1, 1000 << 19, gpu=True),
    ]
    found = titles(tmp_path, events, PLAIN, on_gpu=True)
    assert found == "Many short kernels; Device memory nearly full"


@pytest.mark.parametrize("executed", ["compiled", "cuda_graph"])
def test_what_ran_as_executed_is_not_advised_to_be_executed_so(
    tmp_path: Path, executed: str
) -> None:
    found = advise(
        write_profile(tmp_path, host_events(0, 1), [PLAIN], executed=executed, execution=executed)
    )
    (gap,) = [a for a in found if a.title == "Time in which nothing runs"]
    assert "compare execution" not in gap.text
