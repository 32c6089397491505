"""Warm-up ends when forwards take a steady time, or at its cap, and says which."""

import pytest

from bench.records import RequestRecord, StepRecord
from bench.warmup import WINDOW, WarmUp, is_steady, warm_up


def batch(ms: float) -> list[RequestRecord]:
    return [
        RequestRecord(
            request_id=0, process_id=0, repeat=-1, task="t", prompt="", answer=None, text="",
            prompt_tokens=1, delivered_tokens=1, wall_s=ms / 1e3, prefill_s=0.0,
            finish_reason="eos", correct=None, deliveries=[],
            steps=[StepRecord("prefill", 0, 1, 99.0), StepRecord("denoise", 0, 1, ms)],
        )
    ]  # fmt: skip


def test_a_falling_time_is_waited_out() -> None:
    def one(index: int) -> list[RequestRecord]:
        return batch(10.0 / (index + 1) if index < 8 else 1.0 + 0.01 * (index % 2))

    found = warm_up(one, min_batches=2, max_batches=40)
    assert found.stable is True
    assert 8 + WINDOW - 1 <= found.num_batches < 25


def test_a_time_that_keeps_growing_is_said() -> None:
    assert warm_up(lambda i: batch(1.0 + i), 2, 20) == WarmUp(20, False)


def test_a_short_warm_up_claims_nothing() -> None:
    assert warm_up(lambda _: batch(1.0), 0, 3) == WarmUp(3, None)
    assert warm_up(lambda _: batch(1.0), 0, 0) == WarmUp(0, None)


def test_the_least_is_done_even_when_steady() -> None:
    assert warm_up(lambda _: batch(1.0), 15, 40) == WarmUp(15, True)


@pytest.mark.parametrize(
    ("times", "steady"),
    [
        ([1.0, 1.01, 0.99, 1.0, 1.01, 0.99], True),
        ([1.0] * 6, True),
        ([1.0, 1.01, 1.02, 1.03, 1.04, 1.05], False),  # a trend, however small
        ([1.0, 2.0, 1.0, 2.0, 1.0, 2.0], False),  # no trend, much spread
        ([1.0, 1.0], False),
        ([1.0, float("nan"), 1.0, 1.0], False),
    ],
)
def test_steady_means_no_trend_and_little_spread(times: list[float], steady: bool) -> None:
    assert is_steady(times) is steady
