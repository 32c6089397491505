"""Recording the tiny pair for real: every phase, nothing lost, nothing that is not asked for."""

import getpass
import gzip
import io
import json
import platform
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from bench.profile.advice import advise
from bench.profile.command import profile
from bench.profile.folder import TRACE, Profile, open_profile
from bench.profile.names import OTHER
from bench.profile.terminal import print_profile
from bench.profile.trace import find_trace
from bench.profile.words import limits
from bench.store import open_run
from tests.bench.profile.conftest import recorded

GROUPS = {"projections", "attention", "router", "norms"}


def test_every_phase_of_both_siblings_is_recorded(
    diffusion: Profile, autoregressive: Profile
) -> None:
    counts = diffusion.panes.steps["phase"].value_counts().to_dict()
    assert counts == {"prefill": 1, "denoise": 6, "commit": 2, "delivery": 3}
    counts = autoregressive.panes.steps["phase"].value_counts().to_dict()
    assert counts == {"prefill": 1, "decode": 4, "delivery": 5}
    steps = diffusion.panes.steps
    assert steps[steps["phase"] == "denoise"]["canvas_index"].tolist() == [0, 0, 1, 1, 2, 2]


def test_the_parts_sum_to_the_steps(diffusion: Profile, autoregressive: Profile) -> None:
    for panes in (diffusion.panes, autoregressive.panes):
        assert panes.accounted == pytest.approx(1, abs=0.02)
        steps = panes.steps
        for phase, own in panes.breakdown.groupby("phase"):
            host_ms = steps[steps["phase"] == phase]["host_ms"].mean()
            assert own["total_ms"].sum() == pytest.approx(host_ms, rel=0.02)
        # A clock of our own says the same of most forwards, whatever else the machine has to do.
        forwards = steps[steps["phase"] != "delivery"]
        ratio = (forwards["host_ms"] / forwards["profiled_ms"]).median()
        assert ratio == pytest.approx(1, abs=0.1)


def test_op_groups_are_told_apart(diffusion: Profile, autoregressive: Profile) -> None:
    breakdown = diffusion.panes.breakdown
    own = breakdown[breakdown["phase"] == "denoise"].set_index("op_group")
    expected = {*GROUPS, "experts", "dense", "logits", "sampling", "self_conditioning"}
    assert expected <= set(own.index)
    assert (own.loc[sorted(expected), "busy_ms"] > 0).all()
    assert _share_of_calls(diffusion, "denoise", OTHER) < 0.1
    breakdown = autoregressive.panes.breakdown
    folded = breakdown[breakdown["phase"] == "decode"].set_index("op_group")
    assert {*GROUPS, "dense_experts", "logits"} <= set(folded.index)
    assert _share_of_calls(autoregressive, "decode", OTHER) < 0.1


def _share_of_calls(recording: Profile, phase: str, group: str) -> float:
    """Of a phase's operations those in one op group; unlike times, the same on a loaded machine."""
    calls = recording.panes.operators.query("phase == @phase")
    return float(calls[calls["op_group"] == group]["calls"].sum() / calls["calls"].sum())


def test_floors_stand_where_precision_is_not_emulated(
    diffusion: Profile, autoregressive: Profile
) -> None:
    assert diffusion.panes.breakdown["floor_ms"].isna().all()
    decode = autoregressive.panes.breakdown.set_index(["phase", "op_group"]).loc["decode"]
    assert (decode.loc[["projections", "dense_experts", "logits"], "floor_ms"] > 0).all()
    shares = decode["floor_share"].dropna()
    assert (shares > 0).all()


def test_memory_and_operations_are_there(diffusion: Profile) -> None:
    panes = diffusion.panes
    assert set(panes.memory["phase"]) == {"prefill", "denoise", "commit", "delivery"}
    assert (panes.allocations["allocated_bytes"] > 0).all()
    assert {"aten::mm", "aten::mul"} <= set(panes.operators["operator"])
    assert panes.kernels.empty


def test_the_profilers_cost_is_measured_and_said(diffusion: Profile) -> None:
    row = diffusion.panes.overhead.set_index("phase").loc["denoise"]
    assert row["profiled_ms"] > 0
    assert row["plain_before_ms"] > 0
    plain_ms = (row["plain_before_ms"] + row["plain_after_ms"]) / 2
    overhead = row["profiled_ms"] / plain_ms - 1
    told = row["drift"] <= overhead  # a loaded machine may drift by more, or work quicker
    if told:
        assert row["overhead"] == pytest.approx(overhead)
    out = Console(width=100, file=io.StringIO(), record=True)
    print_profile(diffusion, out)
    text = out.export_text()
    assert "Profiled: no measurement of speed" in text
    said = f"{100 * overhead:+.3g} % of a denoise step" if told else "forwards: n/a"
    assert said in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100


def test_a_profile_is_no_run(diffusion: Profile) -> None:
    with pytest.raises(ValueError, match="is no run folder"):
        open_run(diffusion.path)


def test_a_trace_tells_nothing_of_who_made_it(diffusion: Profile) -> None:
    text = gzip.decompress(find_trace(diffusion.path / TRACE).read_bytes()).decode()
    text += (diffusion.path / "profile.json").read_text()
    for personal in (platform.node(), str(Path.home()) + "/", getpass.getuser() + "@"):
        assert personal not in text


def test_tables_and_page_come_from_the_trace_alone(autoregressive: Profile, reported: Path) -> None:
    tables = {path.stem for path in reported.parent.glob("*.parquet")}
    assert tables == set(autoregressive.panes.tables())
    breakdown = pd.read_parquet(reported.parent / "breakdown.parquet")
    pd.testing.assert_frame_equal(breakdown, autoregressive.panes.breakdown)


def test_eager_is_profiled_where_the_point_asks_for_a_graph(slowed: Profile) -> None:
    assert (slowed.info["execution"], slowed.info["executed"]) == ("compiled", "eager")
    assert "dense_experts" in set(slowed.panes.breakdown["op_group"])
    assert "Eager, though the point asks for compiled" in [title for title, _ in limits(slowed)]


@pytest.mark.slow
def test_a_compiled_step_is_recorded_as_executed(tmp_path: Path) -> None:
    found = recorded(
        tmp_path / "p",
        "model=tiny-diffusion",
        "precision=fp32",
        "sampler=forced",
        "execution=compiled",
        steps=2,
        as_executed=True,
    )
    assert found.info["executed"] == "compiled"
    assert found.panes.accounted == pytest.approx(1, abs=0.02)
    titles = [advice.title for advice in advise(found)]
    assert "Operations in no op group" in titles


def test_bad_input_is_named(tmp_path: Path, autoregressive: Profile) -> None:
    def refused(*arguments: str, out: Path | None = None, steps: int | None = None) -> str:
        with pytest.raises(ValueError) as error:  # noqa: PT011
            profile(arguments, out=out, steps=steps, as_executed=False)
        return str(error.value)

    assert "a profile is of one point, these are 2" in refused("precision=bf16,fp8")
    assert "backend=simulated is not profiled; valid: native" in refused(
        "backend=simulated", out=tmp_path / "a"
    )
    assert not (tmp_path / "a").exists()
    assert "--steps is 0" in refused("precision=fp32", steps=0)
    assert "is not empty" in refused("precision=fp32", out=autoregressive.path)
    assert "run_dir=x has no effect" in refused("precision=fp32", "run_dir=x")
    assert "--steps has no effect on report" in refused("report", str(tmp_path), steps=3)
    assert "is no profile folder" in refused("report", str(tmp_path))
    assert "takes two profile folders, not 1" in refused("diff", str(autoregressive.path))
    info = json.loads((autoregressive.path / "profile.json").read_text())
    (tmp_path / "profile.json").write_text(json.dumps(info | {"schema_version": 99}))
    with pytest.raises(ValueError, match="schema version 99"):
        open_profile(tmp_path)
    (tmp_path / "profile.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match="has 0 traces"):
        open_profile(tmp_path)
    (tmp_path / TRACE).mkdir()
    packed = find_trace(autoregressive.path / TRACE).read_bytes()
    broken = tmp_path / TRACE / "profile.1.pt.trace.json.gz"
    for damaged in (packed[: len(packed) // 2], b"no gzip", gzip.compress(b"{}")):
        broken.write_bytes(damaged)
        with pytest.raises(ValueError, match=str(broken)):
            open_profile(tmp_path)
