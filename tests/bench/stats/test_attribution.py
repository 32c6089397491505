"""Attribution: terms that sum, each against its own formula, limits at zero, and worked cases."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.stats import Attribution, Phase, RunTime, attribute, leading_causes

PHASES = ("prefill", "denoise", "commit", "fused")


@st.composite
def runs(draw: st.DrawFn) -> RunTime:
    """With phases missing or without a forward, times of 0, and canvases or none."""
    seconds = st.one_of(st.just(0.0), st.floats(1e-6, 1e3))
    phases = {}
    for name in PHASES:
        forwards = draw(st.one_of(st.none(), st.just(0), st.integers(1, 10**5)))
        if forwards is not None:
            mean_s = draw(st.one_of(st.none(), seconds)) if forwards == 0 else draw(seconds)
            phases[name] = Phase(forwards=forwards, mean_s=mean_s)
    host_s = draw(seconds)
    if sum(phase.seconds for phase in phases.values()) + host_s == 0:
        host_s = draw(st.floats(1e-3, 1e3))
    known = draw(st.booleans())
    batch = draw(st.integers(1, 64))
    denoise = phases.get("denoise")
    most = 0 if denoise is None else denoise.forwards * batch
    steps = draw(st.floats(0.01, 1.0)) * most if known and most else None
    return RunTime(
        delivered_tokens=draw(st.integers(1, 10**7)),
        phases=phases,
        host_s=host_s,
        canvases=draw(st.integers(1, 10**4)) if known else None,
        denoise_row_steps=steps,
        batch_size=batch,
    )


def _speed(run: RunTime) -> float:
    return run.delivered_tokens / run.wall_s


@settings(max_examples=200)
@given(runs(), runs())
def test_terms_sum_to_the_change(baseline: RunTime, candidate: RunTime) -> None:
    found = attribute(baseline, candidate)
    expected = np.log(_speed(candidate)) - np.log(_speed(baseline))
    assert found.change == pytest.approx(expected, abs=1e-12 * (1 + abs(expected)))
    scale = max(1.0, *(abs(term) for term in found.terms.values()))
    assert sum(found.terms.values()) == pytest.approx(expected, abs=1e-12 * scale)
    for name, parts in found.details.items():
        total = max(1.0, *(abs(part) for part in parts.values()))
        assert sum(parts.values()) == pytest.approx(found.terms[name], abs=1e-11 * total)


@settings(max_examples=60)
@given(runs(), runs())
def test_swapping_runs_turns_every_term_round(baseline: RunTime, candidate: RunTime) -> None:
    there, back = attribute(baseline, candidate), attribute(candidate, baseline)
    assert set(there.terms) == set(back.terms)
    for name, term in there.terms.items():
        assert back.terms[name] == pytest.approx(-term, rel=1e-9, abs=1e-11)


def _log_mean(a: float, b: float) -> float:
    return a if a == b else (a - b) / (np.log(a) - np.log(b))


def _run(**changes: float) -> RunTime:
    given_ = {"denoise": (400, 0.02), "commit": (16, 0.03), "prefill": (8, 0.05)}
    phases = {
        name: Phase(
            forwards=changes.get(f"{name}_forwards", forwards),
            mean_s=changes.get(f"{name}_s", seconds),
        )
        for name, (forwards, seconds) in given_.items()
    }
    return RunTime(
        delivered_tokens=changes.get("delivered", 3000),
        phases=phases,
        host_s=changes.get("host_s", 0.5),
        canvases=changes.get("canvases", 16),
        denoise_row_steps=changes.get("row_steps", 380),
        batch_size=changes.get("batch", 1),
    )


def test_each_term_is_its_formula() -> None:
    before = _run()
    after = _run(
        denoise_forwards=500, denoise_s=0.021, commit_s=0.025, delivered=2800, host_s=0.9,
        prefill_forwards=9,
    )  # fmt: skip
    found, whole = attribute(before, after), _log_mean(before.wall_s, after.wall_s)
    assert found.terms["delivered_tokens"] == pytest.approx(np.log(2800 / 3000))
    for name in before.phases:
        a, b = before.phases[name], after.phases[name]
        assert a.mean_s is not None
        assert b.mean_s is not None
        weight = _log_mean(a.seconds, b.seconds) / whole
        by_forwards = -weight * np.log(b.forwards / a.forwards)
        by_time = -weight * np.log(b.mean_s / a.mean_s)
        assert found.terms[f"{name}_forwards"] == pytest.approx(by_forwards, abs=1e-13)
        assert found.terms[f"{name}_s"] == pytest.approx(by_time, abs=1e-13)
    weight = _log_mean(0.5, 0.9) / whole
    assert found.terms["host_s"] == pytest.approx(-weight * np.log(0.9 / 0.5))


@pytest.mark.parametrize("host_s", [0.0, 0.5])
def test_zeros_are_the_limit_of_little(host_s: float) -> None:
    before = _run()
    tiny, none = 1e-13, 0.0
    limit = attribute(before, _run(commit_forwards=tiny, host_s=host_s or tiny, prefill_s=tiny))
    zero = attribute(before, _run(commit_forwards=none, host_s=host_s, prefill_s=none))
    for name, term in zero.terms.items():
        assert term == pytest.approx(limit.terms[name], abs=1e-9)
    assert zero.terms["commit_s"] == 0.0
    assert zero.terms["prefill_forwards"] == 0.0


def test_a_phase_of_one_run_alone_is_its_forwards() -> None:
    """Commits fused with the next first step: a phase goes, another comes."""
    before, after = _run(), _run()
    fused = dict(after.phases) | {"fused": Phase(forwards=16, mean_s=0.04)}
    del fused["commit"]
    after = replace(after, phases=fused)
    found = attribute(before, after)
    whole = _log_mean(before.wall_s, after.wall_s)
    assert found.terms["commit_forwards"] == pytest.approx(16 * 0.03 / whole)
    assert found.terms["fused_forwards"] == pytest.approx(-16 * 0.04 / whole)
    assert found.terms["commit_s"] == found.terms["fused_s"] == 0.0


def test_same_runs_change_nothing() -> None:
    found = attribute(_run(), _run())
    assert found.change == 0.0
    assert set(found.terms.values()) == {0.0}
    assert leading_causes(found) == ()


def test_details_split_canvases_steps_occupancy_and_batch() -> None:
    before = _run()
    after = _run(canvases=20, row_steps=600, batch=2, denoise_forwards=350, delivered=3600)
    found = attribute(before, after)
    assert found.details["delivered_tokens"] == pytest.approx(
        {"canvases": np.log(20 / 16), "delivered_per_canvas": np.log((3600 / 20) / (3000 / 16))}
    )
    weight = -found.terms["denoise_forwards"] / np.log(350 / 400)
    steps = (600 / 20) / (380 / 16)
    occupancy = (600 / 700) / (380 / 400)
    assert found.details["denoise_forwards"] == pytest.approx(
        {
            "canvases": -weight * np.log(20 / 16),
            "steps_per_canvas": -weight * np.log(steps),
            "occupancy": weight * np.log(occupancy),
            "batch_size": weight * np.log(2),
        }
    )


def test_details_need_both_runs() -> None:
    diffusion = _run()
    autoregressive = RunTime(
        delivered_tokens=3000,
        phases={"decode": Phase(forwards=3000, mean_s=0.01)},
        host_s=0.1,
    )
    assert attribute(autoregressive, diffusion).details == {}
    unknown = replace(diffusion, denoise_row_steps=None)
    assert set(attribute(unknown, diffusion).details) == {"delivered_tokens"}


@pytest.mark.parametrize(
    ("changes", "causes"),
    [
        ({"denoise_s": 0.023}, ["denoise_s"]),
        ({"denoise_forwards": 480, "row_steps": 456}, ["denoise_forwards"]),
        ({"delivered": 2500}, ["delivered_tokens"]),
        ({"host_s": 1.4}, ["host_s"]),
        ({"denoise_s": 0.025, "denoise_forwards": 320, "row_steps": 300},
         ["denoise_s", "denoise_forwards"]),
        ({"prefill_s": 0.0501}, []),
    ],
)  # fmt: skip
def test_the_leading_cause_is_what_was_changed(
    changes: dict[str, float], causes: list[str]
) -> None:
    found = leading_causes(attribute(_run(), _run(**changes)))
    assert sorted(cause.name for cause in found) == sorted(causes)


def test_causes_stop_at_their_share_and_speak() -> None:
    terms = {"a": 0.01, "b": -0.10, "c": -0.05, "d": 0.04, "e": 0.0}
    attribution = Attribution(sum(terms.values()), terms, {})
    causes = leading_causes(attribution, share=0.7)
    assert [cause.name for cause in causes] == ["b", "c"]
    assert causes[0].share == pytest.approx(0.5)
    assert causes[0].text == "b: -9.5 % of delivered tokens per second"
    assert [cause.name for cause in leading_causes(attribution, share=1)] == ["b", "c", "d", "a"]
    assert len(leading_causes(attribution, share=1, smallest=0.02)) == 3
    with pytest.raises(ValueError, match="share 0 must be above 0"):
        leading_causes(attribution, share=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host_s": -1.0}, "host_s -1.0 must be finite and at least 0"),
        ({"denoise_s": np.nan}, "denoise mean_s nan must be finite"),
        ({"commit_forwards": -2}, "commit forwards -2 must be finite and at least 0"),
        ({"delivered": 0}, "delivered_tokens 0 must be finite and above 0"),
        ({"canvases": 0}, "canvases 0 must be finite and above 0"),
        ({"row_steps": 900}, "occupancy 2.25 must be at most 1"),
    ],
)
def test_impossible_runs_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _run(**changes)


def test_forwards_need_a_time_and_a_run_needs_seconds() -> None:
    with pytest.raises(ValueError, match="commit has 3 forwards but mean_s None"):
        RunTime(delivered_tokens=1, phases={"commit": Phase(forwards=3, mean_s=None)}, host_s=1)
    with pytest.raises(ValueError, match="wall seconds 0"):
        RunTime(delivered_tokens=1, phases={}, host_s=0.0)
