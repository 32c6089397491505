"""Panes of traces made by hand: every microsecond in its op group, on the host and on a GPU."""

from pathlib import Path

import pytest

from bench.profile.tables import overhead_table
from bench.profile.words import not_a_speed, overhead_sentence
from tests.bench.profile.synthetic import (
    allocation,
    forward,
    gpu_events,
    host,
    host_events,
    kernel,
    launch,
    step,
    write_profile,
)


def rows(table: object, *columns: str) -> list[tuple[object, ...]]:
    return list(table[list(columns)].itertuples(index=False, name=None))  # type: ignore[index]


def test_every_microsecond_of_a_host_step_is_in_one_op_group(tmp_path: Path) -> None:
    profile = write_profile(tmp_path, host_events(0, 1), [forward(1, "denoise", 0.1)])
    panes = profile.panes
    assert panes.accounted == pytest.approx(1)
    assert rows(panes.breakdown, "op_group", "busy_ms", "gap_ms", "share") == [
        ("dense", pytest.approx(0.030), pytest.approx(0.010), pytest.approx(0.40)),
        ("host", 0, pytest.approx(0.035), pytest.approx(0.35)),
        ("norms", pytest.approx(0.020), 0, pytest.approx(0.20)),
        ("other", pytest.approx(0.005), 0, pytest.approx(0.05)),
    ]
    assert rows(panes.operators, "op_group", "operator", "calls", "self_ms") == [
        ("norms", "aten::mul", 1, pytest.approx(0.020)),
        ("dense", "aten::linear", 1, pytest.approx(0.015)),
        ("dense", "aten::mm", 1, pytest.approx(0.015)),
        ("other", "aten::empty", 1, pytest.approx(0.005)),
    ]
    gaps = dict(rows(panes.gaps, "op_group", "largest_us"))
    assert gaps == {"dense": pytest.approx(5), "host": pytest.approx(20)}
    assert panes.kernels.empty


def test_a_product_among_norms_is_a_projection(tmp_path: Path) -> None:
    events = [
        step(1, 0, 10),
        host("op_group:norms", 0, 10, "user_annotation"),
        host("aten::mm", 1, 6),
        host("aten::mul", 8, 1),
    ]
    breakdown = write_profile(tmp_path, events, [forward(1, "denoise", 0.01)]).panes.breakdown
    assert rows(breakdown, "op_group", "busy_ms", "gap_ms") == [
        ("projections", pytest.approx(0.006), 0),
        ("norms", pytest.approx(0.001), pytest.approx(0.003)),
    ]


def test_times_are_means_over_a_phases_forwards_and_stand_beside_floors(tmp_path: Path) -> None:
    events = [*host_events(0, 1), *host_events(200, 2, dense_us=50), *host_events(400, 3)]
    notes = [forward(1, "denoise", 0.1), forward(2, "denoise", 0.12), forward(3, "commit", 0.1)]
    floors = {"denoise": {"dense": {"floor_ms": 0.025, "bytes": 1.0, "flops": 1.0}}}
    breakdown = write_profile(tmp_path, events, notes, floors=floors).panes.breakdown
    dense = breakdown[breakdown["op_group"] == "dense"].set_index("phase")
    assert dense.loc["denoise", "total_ms"] == pytest.approx(0.05)
    assert dense.loc["denoise", "deviation_ms"] == pytest.approx(0.02 / 2**0.5)
    assert dense.loc["denoise", "floor_share"] == pytest.approx(0.5)
    assert dense.loc["commit", "total_ms"] == pytest.approx(0.04)
    assert dense.loc["commit", ["deviation_ms", "floor_ms", "floor_share"]].isna().all()


def test_a_gpus_time_belongs_to_the_launch_and_gaps_to_what_was_waited_for(tmp_path: Path) -> None:
    events = [*gpu_events(0, 1), *gpu_events(110, 2)]
    notes = [forward(1, "denoise", 0.11), forward(2, "denoise", 0.11)]
    panes = write_profile(tmp_path, events, notes, on_gpu=True).panes
    # The second step's first kernel waits 10 us, half as long a forward.
    assert rows(panes.breakdown, "op_group", "busy_ms", "gap_ms") == [
        ("experts", pytest.approx(0.05), pytest.approx(0.01)),
        ("dense", pytest.approx(0.04), pytest.approx(0.005)),
    ]
    assert panes.steps["parts_ms"].tolist() == pytest.approx([0.1, 0.11])
    assert panes.accounted == pytest.approx(0.21 / 0.22)
    late = dict(rows(panes.gaps, "op_group", "late_ms"))
    assert late == {"experts": pytest.approx(0.004), "dense": pytest.approx(0.0035)}
    first = panes.kernels.iloc[1]
    assert (first["kernel"], first["launches"], first["mean_us"]) == ("cutlass_gemm", 1, 40)
    assert first["blocks_per_sm"] == 2
    mm = panes.operators.set_index("operator").loc["aten::mm"]
    assert mm["device_ms"] == pytest.approx(0.04)


def test_kernels_beside_each_other_are_counted_once(tmp_path: Path) -> None:
    events = [
        step(1, 0, 50),
        launch(1, 0),
        launch(2, 3),
        kernel("first", 1, 10, 30),
        kernel("second", 2, 20, 30) | {"tid": 8},
    ]
    panes = write_profile(tmp_path, events, [forward(1, "decode", 0.04)], on_gpu=True).panes
    assert panes.accounted == pytest.approx(1)
    assert panes.breakdown["busy_ms"].sum() == pytest.approx(0.04)
    assert panes.kernels["kernel_ms"].sum() == pytest.approx(0.06)


def test_memory_is_told_by_phase_and_op_group(tmp_path: Path) -> None:
    events = [
        *host_events(0, 1),
        allocation(50, 100, 1100),
        allocation(60, -100, 1000),
        allocation(15, 40, 1040, gpu=True),
        allocation(500, 7, 7),
    ]
    panes = write_profile(tmp_path, events, [forward(1, "prefill", 0.1)]).panes
    assert rows(panes.memory, "device", "allocated_bytes", "phase") == [
        ("cuda:0", 1040, "prefill"),
        ("cpu", 1100, "prefill"),
        ("cpu", 1000, "prefill"),
    ]
    assert panes.memory["reserved_bytes"].isna().tolist() == [False, True, True]
    assert rows(panes.allocations, "op_group", "device", "allocations", "allocated_bytes") == [
        ("dense", "cpu", 1, 100),
        ("norms", "cuda:0", 1, 40),
    ]


def test_overhead_is_against_the_same_forwards_on_both_sides(tmp_path: Path) -> None:
    note = forward(1, "denoise", 0.1) | {"plain_before_ms": 0.04, "plain_after_ms": 0.06}
    overhead = write_profile(tmp_path, host_events(0, 1), [note]).panes.overhead
    assert overhead["overhead"].item() == pytest.approx(1)
    assert overhead["drift"].item() == pytest.approx(0.4)


@pytest.mark.parametrize(("profiled_ms", "is_told"), [(0.0179, False), (0.1, True)])
def test_a_cost_below_the_drift_of_the_machine_is_not_available(
    tmp_path: Path, profiled_ms: float, is_told: bool
) -> None:
    """11.2 before and 33.5 after say nothing of 17.9 between them; 100 is more than either."""
    note = forward(1, "denoise", profiled_ms)
    note |= {"plain_before_ms": 0.0112, "plain_after_ms": 0.0335}
    profile = write_profile(tmp_path, host_events(0, 1), [note])
    assert profile.panes.overhead["overhead"].notna().item() is is_told
    said = overhead_sentence(profile)
    assert ("% of a denoise step" in said) is is_told
    assert ("n/a (0.0179 ms with it" in said) is not is_told
    assert ("differ by 99.8 %, more than the cost" in said) is not is_told
    assert [cell.text for cell in overhead_table(profile).rows[0]][5] == (
        "+347" if is_told else "n/a"
    )


def test_a_cost_below_nothing_is_noise(tmp_path: Path) -> None:
    """9.74 with the profiler, 14.8 and 15.1 without: the machine changed, nothing was gained."""
    note = forward(1, "denoise", 0.0974) | {"plain_before_ms": 0.148, "plain_after_ms": 0.151}
    profile = write_profile(tmp_path, host_events(0, 1), [note])
    assert profile.panes.overhead["overhead"].isna().item()
    said = overhead_sentence(profile)
    assert "forward: n/a (0.0974 ms with it" in said
    assert "quicker than both: the machine changed in between" in said
    assert overhead_table(profile).rows[0][5].text == "n/a"
    assert "or where the profiled forwards were the quicker ones" in overhead_table(profile).caption
    assert "slows" not in not_a_speed()


def test_a_trace_without_a_noted_step_is_refused(tmp_path: Path) -> None:
    notes = [forward(1, "denoise", 0.1), forward(2, "denoise", 0.1)]
    with pytest.raises(ValueError, match="the trace lacks step 2"):
        write_profile(tmp_path, host_events(0, 1), notes)
    with pytest.raises(ValueError, match="the trace has no ranges ProfilerStep#N"):
        write_profile(tmp_path / "other", [host("aten::mm", 0, 1)], notes)
