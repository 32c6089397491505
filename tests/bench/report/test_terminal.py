"""What a terminal tells of a run: its limits as the page does, and numbers beside intervals."""

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from bench.report import print_summary
from bench.report.findings import headline
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
