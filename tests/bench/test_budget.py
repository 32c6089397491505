"""A budget: what it allows, by a clock that the test sets."""

import pytest

from bench.budget import Budget


def test_what_would_end_late_like_the_longest_so_far_is_not_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_s = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now_s)
    budget = Budget(10.0, _begin=now_s)
    assert budget.allows_another(1000)  # nothing is known of their length
    for took_s, another, two, spent in ((3.0, True, True, False), (1.0, True, False, False)):
        with budget.spent_on():
            now_s += took_s
        assert (budget.allows_another(), budget.allows_another(2)) == (another, two)
        assert budget.is_spent is spent
    assert budget.needed_s(2) == 4.0 + 2 * 3.0
    now_s += 3.0
    assert not budget.allows_another()
    assert not budget.is_spent
    now_s += 3.0
    assert budget.is_spent


def test_without_a_limit_everything_is_allowed() -> None:
    budget = Budget(None)
    with budget.spent_on():
        pass
    assert budget.allows_another(10**9)
    assert not budget.is_spent
