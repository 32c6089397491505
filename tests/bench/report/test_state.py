"""What a page and a verdict say of the state that a run was in: its code, and what failed."""

from dataclasses import replace
from typing import Any

import pandas as pd
import pytest

from bench.report import limits_of
from bench.report.tables import sizes_table
from bench.report.view import View
from tests.bench.report.synthetic import SyntheticRun, synthetic_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SyntheticRun:
    return synthetic_run(tmp_path_factory.mktemp("run"), num_prompts=6, num_repeats=1)


def limits(made: SyntheticRun, info: dict[str, Any], **columns: Any) -> dict[str, str]:
    assert made.points is not None
    points = made.points.assign(**columns)
    return limits_of(replace(made, points=points, info={**made.info, **info}))


def test_code_that_no_commit_holds_is_named(made: SyntheticRun) -> None:
    clean = limits(made, {"git": {}}, commit="f" * 40, dirty=False)
    assert not {"Uncommitted code", "Unknown code"} & set(clean)
    dirty = limits(made, {"git": {}}, commit="f" * 40, dirty=True)
    assert "differs from its commit (diffusion bf16" in dirty["Uncommitted code"]
    unknown = limits(made, {"git": {}}, commit=None, dirty=None)
    assert "not known which code measured (diffusion bf16" in unknown["Unknown code"]


@pytest.mark.parametrize(
    ("finished", "said"),
    [
        (True, "1 failure recorded, and made good by a later attempt."),
        (False, "1 failure recorded."),
    ],
)
def test_a_failure_that_was_made_good_says_so(
    made: SyntheticRun, finished: bool, said: str
) -> None:
    failures = pd.DataFrame(
        [{"point_id": "diffusion-bf16", "process_id": 0, "reason": "disk_full"}]
    )
    failed = replace(made, failures=failures)
    assert limits(failed, {"finished": finished})["Failures"] == said
    assert "Failures" not in limits(made, {"finished": finished})


def test_canvases_are_counted_of_one_repeat(made: SyntheticRun) -> None:
    """Beside requests, which are those of all repeats."""
    header = dict(sizes_table(View.of(made)).header)
    assert header["canvases"] == "one repeat"
    assert header["requests"] == ""
