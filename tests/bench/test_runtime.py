"""Attribution of injected changes: terms sum to what was observed and name the right cause."""

from dataclasses import replace

import numpy as np
import pytest

from bench.backends.simulated import (
    ChosenTiming,
    SimulatedSession,
    SyntheticConfig,
    VirtualClock,
    make_recording,
)
from bench.runtime import run_time
from bench.stats import attribute, leading_causes
from tests.bench.backends.driving import Tables, measured

BASE = SyntheticConfig(num_prompts=12, answer_tokens=[20, 50], steps=[5, 9], canvas_length=32)
TIMING = ChosenTiming(
    prefill_s=0.02, denoise_s=0.010, commit_s=0.008, decode_s=0.01, request_s=0.003
)


def tables(
    config: SyntheticConfig = BASE, timing: ChosenTiming = TIMING, batch_size: int = 1
) -> Tables:
    recording = make_recording(config)
    session = SimulatedSession(recording, timing, clock=VirtualClock())
    return measured(session, recording, batch_size=batch_size, repeats=2)[0]


def observed(found: Tables) -> float:
    requests = found["requests"]
    return float(np.log(requests["delivered_tokens"].sum() / requests["wall_s"].sum()))


@pytest.mark.parametrize(
    ("changed", "causes"),
    [
        ({"timing": replace(TIMING, denoise_s=0.012)}, ["denoise_s"]),
        ({"config": replace(BASE, steps=[8, 14])}, ["denoise_forwards"]),
        ({"config": replace(BASE, answer_tokens=[10, 40])}, ["delivered_tokens"]),
        ({"timing": replace(TIMING, request_s=0.05)}, ["host_s"]),
        (
            {
                "config": replace(BASE, steps=[8, 14]),
                "timing": replace(TIMING, denoise_s=0.014, commit_s=0.0081),
            },
            ["denoise_forwards", "denoise_s"],
        ),
    ],
)
def test_an_injected_change_is_named_and_the_terms_sum(
    changed: dict[str, object], causes: list[str]
) -> None:
    before, after = tables(), tables(**changed)  # type: ignore[arg-type]
    found = attribute(
        *(run_time(t["requests"], t["steps"], t["canvases"]) for t in (before, after))
    )
    assert sum(found.terms.values()) == pytest.approx(observed(after) - observed(before), abs=1e-9)
    assert found.change == pytest.approx(observed(after) - observed(before), abs=1e-9)
    assert sorted(cause.name for cause in leading_causes(found)) == sorted(causes)


def test_nothing_changed_has_no_cause() -> None:
    times = [run_time(t["requests"], t["steps"], t["canvases"]) for t in (tables(), tables())]
    assert leading_causes(attribute(*times)) == ()


@pytest.mark.parametrize("size", [3, 5])
def test_a_batch_takes_its_time_once(size: int) -> None:
    """Of five rows the last batch has two."""
    one, many = tables(), tables(batch_size=size)
    times = [run_time(t["requests"], t["steps"], t["canvases"]) for t in (one, many)]
    first = [i for begin in (0, 12) for i in range(begin, begin + 12, size)]
    walls = many["requests"]["wall_s"].iloc[first]
    assert times[1].wall_s == pytest.approx(walls.sum())
    assert times[1].phases["denoise"].mean_s == pytest.approx(TIMING.denoise_s)
    assert times[1].batch_size == pytest.approx(size, rel=0.2)
    assert times[1].occupancy is not None
    assert 0.5 < times[1].occupancy <= 1
    found = attribute(*times)
    change = float(np.log(many["requests"]["delivered_tokens"].sum() / walls.sum())) - observed(one)
    assert sum(found.terms.values()) == pytest.approx(change, abs=1e-9)
