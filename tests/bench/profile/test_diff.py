"""Differences of profiles: a sleep put into an op group is named, and nothing is made of noise."""

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.profile.command import profile
from bench.profile.diff import GAP, diff_profiles
from bench.profile.folder import Profile
from bench.profile.terminal import print_diff
from tests.bench.profile.conftest import SLEEP_S
from tests.bench.profile.synthetic import forward, host_events, write_profile


def test_an_injected_sleep_names_its_op_group_first(
    autoregressive: Profile, slowed: Profile
) -> None:
    found = diff_profiles(autoregressive, slowed)
    first = found.groups.iloc[0]
    assert first["op_group"] == "attention"
    assert first["mostly"] == GAP
    assert first["clear"]
    # Forwards, layers; the first recording may have been held up for some of it.
    assert first["change_ms"] > 0.5 * 1e3 * SLEEP_S * 5 * 6
    out = Console(width=100, file=io.StringIO(), record=True)
    print_diff(found, out)
    assert "Attention became slower most" in out.export_text()


def test_changes_are_weighed_by_the_firsts_forwards_and_the_largest_comes_first(
    tmp_path: Path,
) -> None:
    notes = [forward(1, "denoise", 0.1), forward(2, "denoise", 0.1), forward(3, "commit", 0.1)]
    plain = [(host_events, 30), (host_events, 30), (host_events, 30)]
    before = write_profile(tmp_path / "a", _three(*(us for _, us in plain)), notes)
    after = write_profile(tmp_path / "b", _three(50, 50, 40), notes, precision="fp8")
    found = diff_profiles(before, after)
    first = found.groups.iloc[0]
    assert (first["op_group"], first["clear"]) == ("dense", True)
    assert first["change_ms"] == pytest.approx(2 * 0.02 + 0.01)
    assert first["mostly"] in ("aten::mm", "aten::linear")
    assert found.groups["change_ms"].iloc[1:].abs().max() == pytest.approx(0, abs=1e-9)
    assert found.facts == (("precision", "bf16", "fp8"),)
    assert found.total_after_ms - found.total_before_ms == pytest.approx(0.05)


def test_forwards_that_one_profile_alone_has_are_named(tmp_path: Path) -> None:
    """Commits of their own against commits fused with a step: neither is in the difference."""
    phases = (("denoise", "denoise", "commit"), ("denoise", "denoise", "fused"))
    before, after = (
        write_profile(
            tmp_path / own[-1],
            _three(30, 30, 30),
            [forward(number, phase, 0.1) for number, phase in enumerate(own, start=1)],
        )
        for own in phases
    )
    found = diff_profiles(before, after)
    assert found.facts == (("forwards not compared", "commit", "fused"),)
    assert set(found.phases["phase"]) == {"denoise"}
    assert diff_profiles(before, before).facts == ()


def test_a_change_within_the_forwards_spread_is_not_clear(tmp_path: Path) -> None:
    notes = [forward(n, "denoise", 0.1) for n in (1, 2, 3)]
    before = write_profile(tmp_path / "a", _three(30, 60, 90), notes)
    after = write_profile(tmp_path / "b", _three(32, 62, 92), notes)
    first = diff_profiles(before, after).groups.iloc[0]
    assert first["op_group"] == "dense"
    assert first["noise_ms"] > first["change_ms"] > 0
    assert not first["clear"]


def test_a_denoise_step_stands_against_a_decode_step(
    diffusion: Profile, autoregressive: Profile
) -> None:
    found = diff_profiles(diffusion, autoregressive)
    assert list(found.phases["phase"].unique()) == ["denoise / decode", "prefill", "delivery"]
    assert ("decoding", "diffusion", "autoregressive") in found.facts
    # The sibling in fp32 runs dense MLP and experts as one.
    assert "dense_experts" in set(found.groups["op_group"])
    assert not {"dense", "experts"} & set(found.groups["op_group"])
    merged = found.groups.set_index("op_group").loc["dense_experts"]
    parts = diffusion.panes.breakdown.query(
        "op_group in ['dense', 'experts'] and phase != 'commit'"
    )
    assert merged["before_ms"] == pytest.approx((parts["total_ms"] * parts["forwards"]).sum())


def test_a_profile_against_itself_changes_nothing(autoregressive: Profile) -> None:
    found = diff_profiles(autoregressive, autoregressive)
    assert (found.groups["change_ms"] == 0).all()
    assert not found.groups["clear"].any()
    assert found.facts == ()


def test_the_command_prints_and_writes_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], small_pictures: None
) -> None:
    page = tmp_path / "deep" / "diff.html"
    note = forward(1, "denoise", 0.1)
    write_profile(tmp_path / "a", _three(30), [note])
    write_profile(tmp_path / "b", _three(30), [note], decoding="autoregressive")
    folders = [str(tmp_path / name) for name in "ab"]
    profile(["diff", *folders], out=page, steps=None, as_executed=False)
    assert "decoding: diffusion -> autoregressive" in capsys.readouterr().out
    assert "no comparison of speeds" in page.read_text()


def _three(*dense_us: float) -> list[dict[str, Any]]:
    return [e for n, us in enumerate(dense_us) for e in host_events(200 * n, n + 1, us)]
