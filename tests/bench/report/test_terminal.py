"""What a terminal tells of a run: its limits as the page does, and numbers beside intervals."""

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from bench.report import print_summary
from bench.report.findings import headline, steps_sentence
from bench.report.notices import notices
from bench.report.plot_speed import plot_speed
from bench.report.tables import points_table
from bench.report.view import View
from tests.bench.report.synthetic import SyntheticRun, synthetic_run


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SyntheticRun:
    return synthetic_run(tmp_path_factory.mktemp("run"), num_prompts=6, num_repeats=1)


def printed(run: SyntheticRun) -> str:
    """The summary, its lines joined again where the width broke them."""
    console = Console(width=100, record=True, file=(run.path / "out").open("w"))
    print_summary(run, console)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 100
    return " ".join(text.split())


def with_columns(run: SyntheticRun, **columns: Any) -> SyntheticRun:
    assert run.points is not None
    return replace(run, points=run.points.assign(**columns))


LIMITS = {
    "simulated": ({"backend": "simulated"}, "Simulated. No model ran"),
    "random weights": ({"weights": "dummy"}, "Random weights. They measure speed at a shape"),
    "shared": (
        {"condition": "shared", "condition_reason": "others used 51.2 % of the processor"},
        "Shared machine. Others worked on it while points were timed (diffusion bf16: others used "
        "51.2 % of the processor",
    ),
    "power limit": (
        {
            "condition": "capped",
            "condition_reason": "sw_power_cap in 14 of 14 samples",
            "power_mean_w": 695.2,
            "power_limit_w": 700.0,
        },
        "Power limit. The device lowered its clocks to stay within its power in most samples "
        "(diffusion bf16: sw_power_cap in 14 of 14 samples, 695 of 700 W",
    ),
    "invalid": (
        {"validity": "invalid", "validity_reason": "ledger_does_not_sum"},
        "Invalid point: diffusion bf16. ",
    ),
}


@pytest.mark.parametrize("name", LIMITS)
def test_what_limits_a_run_stands_before_what_stands_out(made: SyntheticRun, name: str) -> None:
    columns, said = LIMITS[name]
    text = printed(with_columns(made, **columns))
    assert said in text
    assert text.index(said) < text.index("delivers" if "delivers" in text else "no valid speed")
    assert said not in printed(made)


def test_a_rehearsal_and_an_unfinished_run_say_so(made: SyntheticRun) -> None:
    info = {**made.info, "config": {"a": {"rehearsal": True}}, "finished": False}
    text = printed(replace(made, info=info))
    assert "Rehearsal. A large experiment at a size for a processor" in text
    assert "Unfinished. The run stopped early" in text


def test_some_random_weights_are_named_and_few_of_many_shared_points(made: SyntheticRun) -> None:
    assert made.points is not None
    one = with_columns(made, weights=["dummy", "tiny", "tiny", "tiny"])
    assert f"Random weights: {View.of(one).points[0].name}" in {
        n.title for n in notices(View.of(one)) if n.serious
    }
    many = replace(
        made,
        points=made.points.loc[[0] * 7].assign(
            point_id=[f"diffusion-bf16-seed={n}" for n in range(7)],
            condition="shared",
            condition_reason="others used 60.0 % of the processor",
        ),
    )
    found = next(n for n in notices(View.of(many)) if n.title == "Shared machine")
    assert found.serious
    assert found.lead.count("others used") == 4
    assert "; and 3 more)" in found.lead
    fault = with_columns(made, condition="shared", validity="invalid", validity_reason="shared")
    assert "Shared machine" not in {n.title for n in notices(View.of(fault))}


def test_a_narrow_interval_is_told_from_its_value_everywhere(made: SyntheticRun) -> None:
    run = with_columns(
        made,
        delivered_tok_per_s=1431.01,
        delivered_tok_per_s_lo=1425.2,
        delivered_tok_per_s_hi=1436.8,
        num_processes=5,
    )
    view = View.of(run)
    assert "1,425 to 1,437" in printed(run)
    assert "1,430" not in printed(run)
    assert "1,431 tok/s (1,425 to 1,437)" in headline(view).sentence
    cell = points_table(view).rows[0][2]
    assert (cell.text, cell.note) == ("1,431", "1,425 to 1,437")
    plot = plot_speed(view)
    drawn = {text.get_text() for axes in plot.figure.axes for text in axes.texts}
    assert {"1,431", "1,425 to 1,437"} <= drawn
    assert "diffusion delivered 1,431 tok/s" in plot.title


def test_the_speed_plot_says_n_of_each_point_and_between_what_its_whiskers_are(
    made: SyntheticRun,
) -> None:
    """Points of one process beside points of five, as in a campaign of a lent GPU."""
    speed = {"delivered_tok_per_s_lo": 600.0, "delivered_tok_per_s_hi": 700.0}

    def drawn(processes: list[int], **columns: Any) -> tuple[str, set[str]]:
        run = with_columns(made, num_processes=processes, **speed | columns)
        plot = plot_speed(View.of(run))
        return plot.caption, {t.get_text() for axes in plot.figure.axes for t in axes.texts}

    lows = [None, 600.0, None, 600.0]
    mixed, labels = drawn([1, 5, 1, 5], delivered_tok_per_s_lo=lows)
    assert "n a point: 1 to 5 processes, 1 repeat, " in mixed
    assert "Whiskers: 95 % interval between processes." in mixed
    assert "within the one process" not in mixed
    assert {"n = 1 process", "600 to 700, n = 5"} <= labels
    both, _ = drawn([1, 5, 1, 5])
    assert "interval between processes, or within the one process." in both
    alike, labels = drawn([5, 5, 5, 5])
    assert "n a point: 5 processes, " in alike
    assert "600 to 700" in labels
    assert "Whiskers: 95 % interval within the one process." in drawn([1, 1, 1, 1])[0]


def test_medians_of_whole_numbers_stay_whole(made: SyntheticRun) -> None:
    run = with_columns(made, steps_per_canvas_median=2.0, steps_per_canvas_p90=10.8)
    said = steps_sentence(View.of(run).diffusion[0])
    assert "median 2 and p90 10.8 steps a canvas" in said
