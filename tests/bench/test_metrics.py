"""Every metric against a slow twin written from its definition, and worked examples."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.metrics import RATES, answer_outcome, audit, canvas_revision, request_times, step_counts

EOS = 1


@st.composite
def traces(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    num_steps, num_positions = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    size = num_steps * num_positions
    accepted = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    argmax = draw(st.lists(st.integers(0, 2), min_size=size, max_size=size))
    shape = (num_steps, num_positions)
    return np.array(accepted).reshape(shape), np.array(argmax).reshape(shape)


@given(traces())
def test_revision_equals_its_definitions(trace: tuple[np.ndarray, np.ndarray]) -> None:
    a, g = trace
    last, positions = len(g) - 1, range(g.shape[1])
    tau = {i: next((t for t in range(last + 1) if a[t, i]), None) for i in positions}
    revised = [i for i in positions if tau[i] is not None and g[tau[i], i] != g[last, i]]
    settle = [
        next(t for t in range(last + 1) if all(g[u, i] == g[last, i] for u in range(t, last + 1)))
        + 1
        for i in positions
    ]
    pairs = [(t, i) for t in range(1, last + 1) for i in positions]
    found = canvas_revision(a, g)
    assert found.flips == sum(g[t, i] != g[t - 1, i] for t, i in pairs)
    assert found.flip_opportunities == len(pairs)
    assert found.flips_after_accept == sum(
        g[t, i] != g[t - 1, i] and tau[i] is not None and t > tau[i] for t, i in pairs
    )
    assert found.revocations == sum(bool(a[t - 1, i]) and not a[t, i] for t, i in pairs)
    assert found.revised_after_accept == len(revised)
    assert found.never_accepted == sum(tau[i] is None for i in positions)
    assert found.settle_step_max == max(settle)
    assert found.idle_tail == last + 1 - max(settle)
    assert found.returns == sum(
        any(
            g[t, i] != g[u, i] and g[v, i] == g[t, i]
            for t in range(last + 1)
            for u in range(t, last + 1)
            for v in range(u, last + 1)
        )
        for i in positions
    )
    direct = 0
    for i in revised:
        begin = tau[i]
        assert begin is not None
        left = next(t for t in range(begin, last + 1) if g[t, i] != g[begin, i])
        direct += all(a[t, i] for t in range(begin, left + 1))
    assert (found.direct_edits, found.revoke_rewrites) == (direct, len(revised) - direct)


@given(traces())
def test_step_counts_sum_to_the_canvas(trace: tuple[np.ndarray, np.ndarray]) -> None:
    accepted, argmax = trace
    counts, whole = step_counts(accepted, argmax), canvas_revision(accepted, argmax)
    assert sum(step["flips"] for step in counts) == whole.flips
    assert sum(step["revoked"] for step in counts) == whole.revocations
    assert all(step["accepted"] + step["renoised"] == argmax.shape[1] for step in counts)
    assert counts[0]["revoked"] == counts[0]["flips"] == 0


def test_one_step_has_no_flip_to_make() -> None:
    found = canvas_revision(np.array([[True, False]]), np.array([[4, 5]]))
    assert (found.flips, found.flip_opportunities, found.idle_tail) == (0, 0, 0)
    assert found.never_accepted == 1


def outcome(argmax: list[list[int]], accepted: list[list[bool]], want: str, content: int):
    return answer_outcome(
        [9],
        np.array(accepted),
        np.array(argmax),
        content,
        eos_token_ids=frozenset({EOS}),
        decode=lambda ids: "".join(str(i) for i in ids if i != EOS),
        check=lambda text: text == want,
        parses=lambda text: len(text) == 3,
    )


def test_an_answer_that_turns_right_and_one_that_turns_wrong() -> None:
    # Steps: "93", "956", "923", "923" (then EOS); half of T = 4 is step 2.
    argmax = [[3, EOS, 0], [5, 6, EOS], [2, 3, EOS], [2, 3, EOS]]
    accepted = [[True, False, False], [False, True, False], [False] * 3, [False, False, True]]
    good = outcome(argmax, accepted, "923", 3)
    assert good.correct_at == {"half": False, "accept": True, "parse": False}
    assert good.unchanged_from == {"half": False, "accept": True, "parse": False}
    assert good.ever_correct
    lost = outcome(argmax, accepted, "956", 3)
    assert lost.correct_at == {"half": True, "accept": False, "parse": True}
    assert lost.ever_correct


def test_unresolved_references_are_none() -> None:
    found = outcome([[3, EOS], [4, EOS]], [[True, False], [True, False]], "94", 2)
    assert found.correct_at == {"half": False, "accept": None, "parse": None}
    assert found.unchanged_from["accept"] is None


@given(traces(), st.integers(1, 5), st.sampled_from(["9", "90", "902", "9222"]))
def test_outcome_equals_its_definitions(
    trace: tuple[np.ndarray, np.ndarray], content: int, want: str
) -> None:
    a, g = trace
    content = min(content, g.shape[1])
    answers = []
    for t in range(len(g)):
        kept = []
        for token in g[t]:
            if token == EOS:
                break
            kept.append(str(token))
        answers.append("9" + "".join(kept))
    half = int(np.ceil(len(g) / 2)) - 1
    seen = [all(a[: t + 1, i].any() for i in range(content)) for t in range(len(g))]
    steps = {
        "half": half,
        "accept": seen.index(True) if True in seen else None,
        "parse": next((t for t, text in enumerate(answers) if len(text) == 3), None),
    }
    found = outcome(g.tolist(), a.tolist(), want, content)
    for name, t in steps.items():
        assert found.correct_at[name] == (None if t is None else answers[t] == want)
        assert found.unchanged_from[name] == (None if t is None else answers[t] == answers[-1])
    assert found.ever_correct == (want in answers)


def test_eos_at_the_first_position_is_an_empty_answer() -> None:
    found = outcome([[EOS, 5]], [[True, True]], "9", 1)
    assert found.correct_at["half"] is True


def requests_frame(**columns: object) -> pd.DataFrame:
    base = {
        "request_id": [0, 1],
        "process_id": 0,
        "repeat": 0,
        "delivered_tokens": [20, 6],
        "first_delivery_tokens": [16, 6],
        "first_canvas_s": [1.0, 0.5],
        "last_delivery_s": [2.0, 0.5],
        "wall_s": [2.0, 0.5],
        "prefill_s": [0.5, 0.1],
        "slots_committed": [32, 16],
        "after_eos_slots": [10, 10],
        "over_limit_slots": [2, 0],
        "row_ended_slots": [0, 0],
        "num_canvases": [2, 1],
        "batch_size": 1,
        "active_row_steps": [2, 1],
        "finish_reason": "eos",
    }
    return pd.DataFrame(base | columns)


def rate(requests: pd.DataFrame, name: str) -> float:
    times = request_times(requests)
    top, bottom = RATES[name]
    return times[top].sum() / times[bottom].sum()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("delivered_tok_per_s", 26 / 2.5),
        ("decode_tok_per_s", 4 / 1.0),
        ("generation_tok_per_s_excl_prefill", 26 / 1.9),
        ("slot_tok_per_s", 48 / 2.5),
        ("inverse_tpot_tok_per_s", 19 / 1.0),
    ],
)
def test_rates_by_hand(name: str, expected: float) -> None:
    assert rate(requests_frame(), name) == pytest.approx(expected)


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.floats(0.1, 2), st.integers(1, 16)), min_size=1, max_size=4),
            st.floats(0.01, 0.09),
            st.integers(0, 9),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_rates_equal_their_definitions(
    drawn: list[tuple[list[tuple[float, int]], float, int]],
) -> None:
    sums = {name: [0.0, 0.0] for name in RATES}
    columns: dict[str, list[float]] = {}
    for gaps, prefill, padding in drawn:
        at = np.cumsum([gap for gap, _ in gaps])
        tokens = [count for _, count in gaps]
        delivered, wall = sum(tokens), at[-1]
        parts = {
            "delivered_tok_per_s": (delivered, wall),
            "generation_tok_per_s_excl_prefill": (delivered, wall - prefill),
            "slot_tok_per_s": (delivered + padding, wall),
        }
        if len(gaps) > 1:
            parts["decode_tok_per_s"] = (delivered - tokens[0], at[-1] - at[0])
            parts["inverse_tpot_tok_per_s"] = (delivered - 1, at[-1] - at[0])
        for name, (top, bottom) in parts.items():
            sums[name][0] += top
            sums[name][1] += bottom
        row = {
            "delivered_tokens": delivered,
            "first_delivery_tokens": tokens[0],
            "first_canvas_s": at[0],
            "last_delivery_s": at[-1],
            "wall_s": wall,
            "prefill_s": prefill,
            "slots_committed": delivered + padding,
            "batch_size": 1,
        }
        for name, value in row.items():
            columns.setdefault(name, []).append(value)
    times = request_times(pd.DataFrame(columns))
    for name, (top, bottom) in RATES.items():
        assert [times[top].sum(), times[bottom].sum()] == pytest.approx(sums[name])


def test_a_single_delivery_has_no_decode_rate() -> None:
    times = request_times(requests_frame())
    assert times["decode_tokens"].isna().tolist() == [False, True]
    assert times["inverse_tpot_tokens"].isna().tolist() == [False, True]


def test_a_clock_too_coarse_for_two_deliveries_gives_no_decode_rate() -> None:
    times = request_times(requests_frame(last_delivery_s=[1.0, 0.5]))
    assert times["decode_s"].isna().all()


def test_steps_without_a_trace_have_no_entropy_to_audit() -> None:
    untraced = steps_frame(mean_entropy_nat=None, accepted_slots=None)
    assert audit(requests_frame(), untraced, 16, "stop") == []


def test_the_wall_time_of_a_batch_counts_once() -> None:
    shared = requests_frame(wall_s=2.0, batch_size=2)
    assert rate(shared, "delivered_tok_per_s") == pytest.approx(26 / 2.0)


def steps_frame(**columns: object) -> pd.DataFrame:
    base = {
        "request_id": [0, 0, 0, 1],
        "process_id": 0,
        "repeat": 0,
        "phase": ["denoise", "denoise", "commit", "denoise"],
        "accepted_slots": [3, 3, None, 3],
        "mean_entropy_nat": [0.5, 0.1, None, 0.2],
        "device_ms": 1.0,
    }
    return pd.DataFrame(base | columns)


def test_a_ledger_that_sums_has_no_faults() -> None:
    assert audit(requests_frame(), steps_frame(), 16, "stop") == []
    untold = pd.array([True, None], dtype="boolean")
    assert audit(requests_frame(scores_finite=untold), steps_frame(), 16, "stop") == []


@pytest.mark.parametrize(
    ("requests", "steps", "eos_policy", "reason"),
    [
        ({"after_eos_slots": [11, 10]}, {}, "stop", "ledger_does_not_sum"),
        ({"num_canvases": [3, 1]}, {}, "stop", "ledger_does_not_match_canvases"),
        ({"active_row_steps": [2, 2]}, {}, "stop", "steps_do_not_sum"),
        ({}, {"mean_entropy_nat": [float("inf"), 0, None, 0]}, "stop", "entropy_not_finite"),
        ({}, {"mean_entropy_nat": [float("nan"), 0, None, 0]}, "stop", "entropy_not_finite"),
        ({"scores_finite": [True, False]}, {}, "stop", "scores_not_finite"),
        ({"wall_s": [0.0, 0.5]}, {}, "stop", "time_not_positive"),
        ({"wall_s": [float("inf"), 0.5]}, {}, "stop", "time_not_finite"),
        ({}, {"device_ms": [1.0, float("inf"), 1.0, 1.0]}, "stop", "time_not_finite"),
        ({}, {}, "ignore", "stopped_at_an_ignored_eos"),
    ],
)
def test_planted_faults_are_found(
    requests: dict[str, object], steps: dict[str, object], eos_policy: str, reason: str
) -> None:
    found = audit(requests_frame(**requests), steps_frame(**steps), 16, eos_policy)
    assert found == [reason]
