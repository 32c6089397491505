"""Where all prompts agree, resampling bounds nothing: an interval without width is no certainty."""

import pandas as pd
import pytest

from bench.stats import share_interval
from bench.summary import point_row
from bench.tables import frame
from tests.bench.test_shards import REPAIR
from tests.bench.test_tables import KEYS, KNOBS, both, tables


def repaired(*tokens: int) -> pd.Series:
    """A point's row, of so many repaired tokens of two in each prompt."""
    rows = [REPAIR | {"request_id": i, "repaired": n} for i, n in enumerate(tokens)]
    own = tables(both()) | {"repairs": frame("repairs", rows, KEYS)}
    return pd.Series(point_row(own, KNOBS))


def interval(row: pd.Series, name: str) -> tuple[float | None, float | None]:
    return row[f"{name}_lo"], row[f"{name}_hi"]


@pytest.mark.parametrize(("tokens", "right"), [(2, 8), (0, 0)])
def test_all_or_none_is_bounded_as_accuracy_is(tokens: int, right: int) -> None:
    row = repaired(*[tokens] * 8)
    assert row["repaired_share"] == tokens / 2
    assert interval(row, "repaired_share") == share_interval(right, 8)
    assert interval(row, "preserved_share") == share_interval(8, 8)


def test_a_constant_between_has_no_bound() -> None:
    row = repaired(*[1] * 8)
    assert row["repaired_share"] == 0.5
    assert interval(row, "repaired_share") == (None, None)


def test_prompts_that_differ_are_resampled() -> None:
    low, high = interval(repaired(*[2] * 7, 0), "repaired_share")
    assert low is not None
    assert high is not None
    assert low < 7 / 8 <= high
    assert (low, high) != share_interval(7, 8)


@pytest.mark.parametrize("differs", [False, True])
def test_net_correction_is_unbounded_where_all_problems_agree(differs: bool) -> None:
    own = tables(both())
    first = own["requests"].iloc[:1]
    many = pd.concat([first.assign(request_id=i) for i in range(8)], ignore_index=True)
    half = [False] * 7 + [differs]
    right = {"correct": True, "correct_ever": True, "correct_half": half}
    row = pd.Series(point_row(own | {"requests": many.assign(**right)}, KNOBS))
    assert row["net_correction"] == (7 / 8 if differs else 1.0)
    assert pd.isna(row["net_correction_lo"]) is not differs
