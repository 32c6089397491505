"""Figures of made-up values: drawn, told in words, hostile labels as text, nothing invented."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from bench.procurement.cell import NumberClass
from bench.procurement.naming import Name, name_points
from bench.procurement.plots import plot_crossover, plot_energy, plot_throughput
from bench.procurement.plots_cost import plot_cost, plot_memory, plot_sensitivity
from bench.report.figures import Plot, house_style
from tests.bench.procurement.synthetic import (
    HOSTILE,
    STAMP,
    cell,
    crossings,
    memory_bars,
    panels,
    swings,
    trades,
)

FIGURES: dict[str, Callable[[], Plot]] = {
    "throughput": lambda: plot_throughput(STAMP, panels(), title="Made up", floors_of="fp8"),
    "energy": lambda: plot_energy(STAMP, panels(0.001), title="Made up"),
    "crossover": lambda: plot_crossover(STAMP, crossings(), title="Made up"),
    "cost": lambda: plot_cost(
        STAMP, trades(), title="Made up", currency="USD", latency="end to end p95", objective_s=4
    ),
    "sensitivity": lambda: plot_sensitivity(
        STAMP, swings(), base=0.3, title="Made up", unit="USD a million tokens"
    ),
    "memory": lambda: plot_memory(STAMP, memory_bars(), title="Made up", caption="Made up."),
}
NOTHING: dict[str, Callable[[], Plot]] = {
    "throughput": lambda: plot_throughput(STAMP, (), title="", floors_of=""),
    "energy": lambda: plot_energy(STAMP, (), title=""),
    "crossover": lambda: plot_crossover(STAMP, (), title=""),
    "cost": lambda: plot_cost(STAMP, (), title="", currency="", latency="", objective_s=None),
    "sensitivity": lambda: plot_sensitivity(STAMP, (), base=None, title="", unit=""),
    "memory": lambda: plot_memory(STAMP, (), title="", caption=""),
}


@cache
def figure(name: str) -> Plot:
    """A figure of made-up values, drawn once."""
    return FIGURES[name]()


@pytest.fixture(autouse=True)
def _style() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch, house_style():
        patch.setattr("bench.report.figures.DPI", 40)
        yield


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_drawn_with_axes_words_and_date(name: str, tmp_path: Path) -> None:
    plot = figure(name)
    assert plot.name == name
    assert plot.save(tmp_path).stat().st_size > 4_000
    assert STAMP.date in _words(plot.figure)
    assert all(axes.get_xlabel() for axes in plot.figure.axes if axes.axison)


@pytest.mark.parametrize("name", NOTHING)
def test_without_numbers_a_figure_says_why(name: str, tmp_path: Path) -> None:
    plot = NOTHING[name]()
    assert "n/a" in plot.caption
    plot.save(tmp_path)


def test_classes_are_drawn_apart() -> None:
    def drawn(kind: NumberClass) -> PathCollection:
        line = replace(panels()[0].lines[0], cells=tuple(cell(9.0, kind) for _ in range(6)))
        one = replace(panels()[0], lines=(line,), floors=())
        plot = plot_throughput(STAMP, [one], title="", floors_of="")
        (found, *_) = [c for c in plot.figure.axes[0].collections if isinstance(c, PathCollection)]
        return found

    points = {kind: drawn(kind) for kind in NumberClass}
    assert not len(points.pop(NumberClass.PUBLISHED).get_facecolor()), "hollow: hides nothing"
    faces = {kind: tuple(each.get_facecolor()[0]) for kind, each in points.items()}
    assert faces[NumberClass.PROJECTED] == (1, 1, 1, 1)
    assert faces[NumberClass.MEASURED] != faces[NumberClass.ASSUMED] != (1, 1, 1, 1)
    hatched = {kind for kind, each in points.items() if each.get_hatch()}
    assert hatched == {NumberClass.PROJECTED}


def test_the_legend_names_the_classes_that_occur() -> None:
    def named(name: str) -> set[str]:
        (legend,) = figure(name).figure.legends
        return {text.get_text() for text in legend.get_texts()}

    assert {"measured", "published", "projected", "op floor", "streaming floor"} <= named(
        "throughput"
    )
    assert "assumed" not in named("throughput")
    assert {"measured", "projected", "assumed"} <= named("cost")


def test_a_published_figure_stands_beside_its_batch_and_not_on_it() -> None:
    line = panels()[0].lines[0]
    places = {}
    for kind in (NumberClass.PUBLISHED, NumberClass.MEASURED):
        one = replace(line, batch_sizes=(4,), cells=(cell(9.0, kind),))
        plot = plot_throughput(
            STAMP, [replace(panels()[0], lines=(one,), floors=())], title="", floors_of=""
        )
        (axes,) = plot.figure.axes
        (found,) = [c for c in axes.collections if isinstance(c, PathCollection)]
        places[kind] = float(found.get_offsets()[0][0])
    assert places[NumberClass.MEASURED] == 4
    assert 3 < places[NumberClass.PUBLISHED] < 3.6


def test_energy_says_that_it_is_the_devices_alone() -> None:
    words = _words(figure("energy").figure)
    assert "of the device alone, without host and cooling" in words
    assert "cooling included" not in words


def test_what_is_shaded_is_the_interval_of_the_crossing_and_else_nothing_is_said_of_it() -> None:
    known, none = crossings()
    at = known.at
    open_below = replace(known, at=replace(at, low=None))
    alone = replace(known, at=replace(at, low=None, high=None, why_no_interval="one process"))
    spans = []
    for each in (known, open_below, alone, none):
        plot = plot_crossover(STAMP, [each], title="")
        boxes = [patch.get_extents().x0 for patch in plot.figure.axes[0].patches]
        assert ("Shaded" in _words(plot.figure)) == bool(boxes)
        spans.append(len(boxes))
    assert spans == [1, 1, 0, 0]


def test_no_name_stands_on_the_labels_of_an_axis() -> None:
    plot = plot_cost(STAMP, trades(), title="", currency="USD", latency="", objective_s=None)
    (axes,) = plot.figure.axes
    x = sum(axes.get_xlim()) / 2
    low = axes.get_ylim()[0]
    before = len(axes.texts)
    name_points(axes, [Name(f"one of many {n}", (x, low)) for n in range(12)], [])
    written = axes.texts[before:]
    assert len([text for text in written if text.get_text()]) > 1
    bottom = axes.get_window_extent().y0
    named = [text for text in written if text.get_text()]
    assert all(text.get_window_extent().y0 >= bottom for text in named)


def test_an_unknown_number_is_not_drawn() -> None:
    line = panels()[0].lines[0]
    gone = replace(line, cells=(cell(None), *line.cells[1:]))
    counts = []
    for each in (line, gone):
        one = replace(panels()[0], lines=(each,), floors=())
        plot = plot_throughput(STAMP, [one], title="", floors_of="")
        found = [c for c in plot.figure.axes[0].collections if isinstance(c, PathCollection)]
        counts.append(len(found))
    assert counts == [6, 5]


def test_a_number_that_moves_the_cost_one_way_alone_stands_beside_its_bar() -> None:
    bar = replace(swings()[0], low_text="0.4", high_text="0.8", at_low=0.5, at_high=0.3)
    plot = plot_sensitivity(STAMP, [bar], base=0.3, title="", unit="")
    sides = {text.get_text(): text.get_ha() for text in plot.figure.axes[0].texts}
    assert sides == {"0.4": "left", "0.8": "right"}


def test_the_recommended_way_has_a_mark_of_its_own_and_no_name_hides_a_point() -> None:
    plot = figure("cost")
    (legend,) = plot.figure.legends
    assert "recommended" in {text.get_text() for text in legend.get_texts()}
    (axes,) = plot.figure.axes
    (chosen,) = [trade for trade in trades() if trade.is_chosen]
    rings = [line for line in axes.lines if line.get_markerfacecolor() == "none"]
    assert [(line.get_xdata()[0], line.get_ydata()[0]) for line in rings] == [  # type: ignore[index]
        (chosen.latency.value, chosen.cost.value)
    ]
    plot.figure.draw_without_rendering()
    labels = {trade.label for trade in trades()}
    boxes = [text.get_window_extent() for text in axes.texts if text.get_text() in labels]
    assert len(boxes) > 1
    for trade in trades():
        place = axes.transData.transform((trade.latency.value, trade.cost.value))
        assert not any(box.contains(*place) for box in boxes), trade.label
    assert not any(a.overlaps(b) for a in boxes for b in boxes if a is not b)


def test_hostile_labels_are_drawn_as_text(tmp_path: Path) -> None:
    text = " ".join(HOSTILE)
    bars = [replace(bar, label=f"{text} {bar.label}") for bar in memory_bars()]
    plot_memory(STAMP, bars, title=text, caption=text).save(tmp_path)
    named = [replace(trade, label=text) for trade in trades()[:6]]
    plot_cost(STAMP, named, title=text, currency=text, latency=text, objective_s=None).save(
        tmp_path
    )
    one = [replace(panels()[0], device=text)]
    plot_throughput(STAMP, one, title=text, floors_of=text).save(tmp_path)


def _words(figure: Figure) -> str:
    return " ".join(text.get_text() for text in figure.texts)
