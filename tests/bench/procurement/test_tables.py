"""One description gives the page's cells, parquet and CSV: numbers, classes, no formula."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from bench.procurement.cell import Cell, NumberClass
from bench.procurement.tables import Column, DataTable, amount, write_tables

_COLUMNS = (
    Column("device", "device", is_text=True),
    Column("cost_per_mtok", "cost", "$ a million tokens"),
    Column("share", "share", "%", scale=100),
    Column("batch_size", "batch"),
    Column("fits", "fits"),
    Column("note", "note", is_text=True, on_page=False),
)


def _cell(value: float | None, low: float | None = None, high: float | None = None) -> Cell:
    return Cell(value, low, high, NumberClass.PROJECTED, "$", "made up", why_unknown="no power")


def _table() -> DataTable:
    rows = (
        ("h200", _cell(0.41237, 0.38, 0.45), _cell(0.5), 4, True, "=1+1"),
        ("h100", _cell(None), _cell(0.25), 1_024, False, None),
    )
    return DataTable("made", "Made up.", _COLUMNS, rows)


def test_the_page_shows_value_class_interval_and_reason() -> None:
    first, second = _table().shown
    cost = first[1]
    assert (cost.text, cost.interval, cost.kind) == ("0.412", "0.380 to 0.450", "projected")
    assert float(cost.sort) == 0.41237
    assert first[2].text == "50.0"
    unknown = second[1]
    assert (unknown.text, unknown.note, unknown.kind, unknown.sort) == ("n/a", "no power", "", "")
    assert (second[3].text, second[3].sort, second[4].text) == ("1,024", "1024", "no")
    assert len(first) == len(_COLUMNS) - 1


def test_published_numbers_have_the_digits_published_and_name_their_source() -> None:
    cell = Cell(1008, None, None, NumberClass.PUBLISHED, "tok/s", "made up", source="a launch post")
    assert (amount(cell).text, amount(cell).note) == ("1,008", "a launch post")
    assert amount(replace(cell, kind=NumberClass.MEASURED)).text == "1,010"


def test_counts_are_whole_and_a_missing_interval_says_why() -> None:
    cell = Cell(5.0, 2.0, 7.0, NumberClass.ASSUMED, "devices", "made up")
    shown = amount(cell, is_count=True)
    assert (shown.text, shown.interval) == ("5", "2 to 7")
    alone = replace(cell, low=None, high=None, why_no_interval="one process")
    assert amount(alone).note == "one process"
    assert amount(alone, is_bare=True).note == ""


def test_an_interval_without_width_is_none_and_a_narrow_one_has_digits_enough() -> None:
    assert amount(_cell(2340.0, 2340.0, 2340.0)).interval == ""
    assert amount(replace(_cell(8.0, 8.0, 8.0)), is_count=True).interval == ""
    narrow = amount(_cell(1431.2, 1425.4, 1437.0))
    assert (narrow.text, narrow.interval) == ("1,431", "1,425 to 1,437")


def test_a_number_beside_cells_keeps_its_value_in_the_files() -> None:
    table = DataTable(
        "made",
        "Made up. Twice.",
        (Column("value", "value"),),
        ((_cell(0.5, 0.4, 0.6),), (1.5,), (None,)),
    )
    assert list(table.frame()["value"].fillna(-1)) == [0.5, 1.5, -1]
    assert list(table.frame()["value_low"].fillna(-1)) == [0.4, -1, -1]
    assert table.title == "Made up"


def test_a_small_share_has_no_more_digits_than_its_draws() -> None:
    column = Column("share", "share", "%", scale=100)
    table = DataTable("made", "Made up.", (column,), ((0.0004,), (0.5,), (1.0,)))
    assert [row[0].text for row in table.shown] == ["0.04", "50.0", "100"]


def test_a_column_of_unknowns_leaves_the_page_with_its_reason_and_stays_in_the_files() -> None:
    table = _table()
    rows = tuple((*row[:1], _cell(None), *row[2:]) for row in table.rows)
    unknown = replace(table, rows=rows)
    assert "cost" not in [column.name for column in unknown.on_page]
    assert len(unknown.shown[0]) == len(unknown.on_page)
    assert "cost (no power)" in unknown.left_out
    assert "cost_per_mtok" in unknown.frame().columns
    assert table.left_out == ""


def test_files_hold_every_number_unrounded_with_its_class(tmp_path: Path) -> None:
    paths = write_tables([_table()], tmp_path)
    assert [path.name for path in paths] == ["made.parquet", "made.csv"]
    stored = pd.read_parquet(tmp_path / "made.parquet")
    assert list(stored["cost_per_mtok"].isna()) == [False, True]
    assert stored["cost_per_mtok"][0] == 0.41237
    assert list(stored["cost_per_mtok_class"].fillna("")) == ["projected", ""]
    assert list(stored["cost_per_mtok_low"].fillna(-1)) == [0.38, -1]
    assert list(stored["batch_size"]) == [4, 1024]
    plain = pd.read_csv(tmp_path / "made.csv")
    assert list(plain["share"]) == [0.5, 0.25]
    assert list(plain.columns) == list(stored.columns)


def test_a_text_that_a_spreadsheet_would_run_is_disarmed_in_csv_alone(tmp_path: Path) -> None:
    write_tables([_table()], tmp_path)
    assert pd.read_csv(tmp_path / "made.csv")["note"][0] == "'=1+1"
    assert pd.read_parquet(tmp_path / "made.parquet")["note"][0] == "=1+1"
