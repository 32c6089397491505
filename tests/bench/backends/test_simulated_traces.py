"""Made-up positions have the counts they were made from, whatever those are."""

from dataclasses import asdict

import numpy as np
import pytest

from bench.backends.simulated.recording import RecordedCanvas, Vocabulary
from bench.backends.simulated.traces import CanvasCounts, make_canvas, plain_counts
from bench.metrics import canvas_revision, step_counts

OUTSIDE = 3


def random_trace(seed: int, num_steps: int, content: int) -> tuple[np.ndarray, np.ndarray]:
    """Acceptance with revocations, and an argmax that flips, also back and after acceptance."""
    rng = np.random.default_rng(seed)
    first = rng.integers(0, num_steps + 1, content)
    accepted = np.arange(num_steps)[:, None] >= first
    accepted &= rng.random(accepted.shape) > 0.15
    argmax = np.zeros(accepted.shape, dtype=int)
    for position in range(content):
        seen = [0]
        for step in range(1, num_steps):
            late = step > first[position]
            if rng.random() < (0.1 if late else 0.4):
                new = max(seen) + 1
                other = [token for token in seen if token != seen[-1]]
                seen.append(rng.choice(other) if other and rng.random() < 0.3 else new)
            argmax[step, position] = seen[-1]
    return accepted, argmax


def counts_of(accepted: np.ndarray, argmax: np.ndarray) -> CanvasCounts:
    revision, steps = canvas_revision(accepted, argmax), step_counts(accepted, argmax)
    return CanvasCounts(
        accepted=[step["accepted"] for step in steps],
        revoked=[step["revoked"] for step in steps],
        flips=[step["flips"] for step in steps],
        never_accepted=revision.never_accepted,
        flips_after_accept=revision.flips_after_accept,
        direct_edits=revision.direct_edits,
        revoke_rewrites=revision.revoke_rewrites,
        returns=revision.returns,
    )


def made(counts: CanvasCounts, content: int, seed: str = "") -> RecordedCanvas:
    num_steps = len(counts.accepted)
    return make_canvas(
        counts,
        list(range(100, 100 + content + OUTSIDE)),
        content,
        stop_reason="converged",
        accepted_slots=np.array(counts.accepted) + 1,
        mean_entropy_nat=np.linspace(1, 0, num_steps),
        wrong=Vocabulary().wrong,
        seed=seed,
    )


@pytest.mark.parametrize(("num_steps", "content"), [(1, 5), (4, 12), (10, 32)])
def test_every_count_of_a_trace_comes_back(num_steps: int, content: int) -> None:
    for seed in range(8):
        accepted, argmax = random_trace(seed, num_steps, content)
        canvas = made(counts_of(accepted, argmax), content)
        own = canvas.accepted[:, :content], canvas.argmax[:, :content]
        assert asdict(canvas_revision(*own)) == asdict(canvas_revision(accepted, argmax))
        assert step_counts(*own) == step_counts(accepted, argmax)
        assert canvas.slots == list(range(100, 100 + content + OUTSIDE))
        assert (canvas.accepted.sum(axis=1) == canvas.accepted_slots).all()
        assert canvas.entropy_nat.mean(axis=1) == pytest.approx(canvas.mean_entropy_nat)


def test_the_random_traces_try_everything() -> None:
    found = [counts_of(*random_trace(seed, 10, 32)) for seed in range(8)]
    for name in ("never_accepted", "direct_edits", "revoke_rewrites", "returns"):
        assert any(getattr(counts, name) for counts in found), name


def test_the_same_counts_give_the_same_trace() -> None:
    counts = counts_of(*random_trace(0, 10, 32))
    one, again, other = made(counts, 32), made(counts, 32), made(counts, 32, "other")
    assert np.array_equal(one.argmax, again.argmax)
    assert np.array_equal(one.accepted, again.accepted)
    assert not np.array_equal(one.argmax, other.argmax)


@pytest.mark.parametrize(("num_steps", "revised"), [(1, 2), (2, 2), (5, 2), (5, 0), (40, 7)])
def test_a_plain_canvas(num_steps: int, revised: int) -> None:
    canvas = made(plain_counts(num_steps, 7, revised), 7)
    found = canvas_revision(canvas.accepted[:, :7], canvas.argmax[:, :7])
    several = num_steps > 1
    assert found.revised_after_accept == found.direct_edits == (revised if several else 0)
    assert (found.revocations, found.returns, found.never_accepted) == (0, 0, 0)
    assert found.idle_tail == (1 if several and not revised else 0)
    assert canvas.accepted[-1, :7].all()
