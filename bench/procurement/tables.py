"""Tables of a procurement report: one description of each for the page, for parquet and for CSV.

A number is a `Cell`: on the page its value with its class's mark and its interval below, in the
files four columns (`KEY`, `KEY_low`, `KEY_high`, `KEY_class`) and a fifth where sources differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bench.digits import NOT_AVAILABLE, digits, tidy, told_apart
from bench.parquet import write_table
from bench.procurement.cell import Cell, NumberClass
from bench.report.style import percent

_PERCENT = 100.0
Value = Cell | str | int | float | bool | None

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""What makes a spreadsheet read a text of a CSV file as a formula."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        key: its name in the files, with the unit.
        name, unit: its header on the page.
        is_text: words rather than numbers.
        scale: what the page multiplies by, so that a share is shown in percent.
        on_page: whether the page shows it; the files hold every column.
        is_count: shown without decimals where it is whole.
        is_bare: shown without what stands below its numbers.
    """

    key: str
    name: str
    unit: str = ""
    is_text: bool = False
    scale: float = 1.0
    on_page: bool = True
    is_count: bool = False
    is_bare: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """A cell as the page shows it.

    Attributes:
        interval, note: what stands below it; a note may be long.
        kind: its class; empty for what has none.
        sort: what the column is sorted by; empty for unknowns.
    """

    text: str
    interval: str = ""
    note: str = ""
    kind: str = ""
    sort: str = ""
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class DataTable:
    """One table.

    Attributes:
        name: the stem of its files.
        chosen_row: which row the page marks as the recommended one; None: no row.
    """

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    chosen_row: int | None = None

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.columns) for row in self.rows), self.name

    @property
    def title(self) -> str:
        """The first sentence of its caption, without its full stop."""
        return self.caption.partition(". ")[0].removesuffix(".")

    @property
    def on_page(self) -> tuple[Column, ...]:
        """Columns of the page: without those of which nothing is known."""
        return tuple(
            column
            for index, column in enumerate(self.columns)
            if column.on_page and not self._is_unknown(index)
        )

    @property
    def left_out(self) -> str:
        """Which columns the page leaves out as unknown, and why; empty where it shows all."""
        found = []
        for index, column in enumerate(self.columns):
            if column.on_page and self._is_unknown(index):
                first = self.rows[0][index]
                why = first.why_unknown if isinstance(first, Cell) else ""
                found.append(f"{column.name} ({why})" if why else column.name)
        return f"Not known, so left out: {', '.join(found)}." if found else ""

    @property
    def shown(self) -> tuple[tuple[Shown, ...], ...]:
        """The page's rows."""
        kept = set(self.on_page)
        return tuple(
            tuple(
                _shown(column, value)
                for column, value in zip(self.columns, row, strict=True)
                if column in kept
            )
            for row in self.rows
        )

    def _is_unknown(self, index: int) -> bool:
        values = [row[index] for row in self.rows]
        return bool(values) and all(
            value is None or (isinstance(value, Cell) and value.value is None) for value in values
        )

    def frame(self) -> pd.DataFrame:
        """Every column and row, numbers unrounded, unknown ones null."""
        columns: dict[str, pd.Series] = {}
        for index, column in enumerate(self.columns):
            columns |= _series(column, [row[index] for row in self.rows])
        return pd.DataFrame(columns)


def write_tables(tables: Sequence[DataTable], folder: Path) -> list[Path]:
    """Writes each table as NAME.parquet and NAME.csv.

    In CSV a text that a spreadsheet would read as a formula has an apostrophe put before it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    for table in tables:
        frame = table.frame()
        stored, plain = folder / f"{table.name}.parquet", folder / f"{table.name}.csv"
        write_table(stored, frame)
        texts = [name for name in frame.columns if frame[name].dtype == "string"]
        frame.assign(**{name: frame[name].map(_no_formula) for name in texts}).to_csv(
            plain, index=False
        )
        written += [stored, plain]
    return written


def amount(
    cell: Cell, *, scale: float = 1.0, is_count: bool = False, is_bare: bool = False
) -> Shown:
    """A number as the page shows it: value, class, and below it interval, source or reason.

    A published number has the digits that were published, every other one three, or as many as its
    interval needs. Limits that are one and the same number are no interval.
    """
    if cell.value is None:
        return Shown(NOT_AVAILABLE, note=cell.why_unknown)
    value = scale * cell.value
    text = tidy(value) if is_count else digits(value)
    interval = note = ""
    if cell.low is not None and cell.high is not None:
        low, high = scale * cell.low, scale * cell.high
        if is_count and low < high:
            interval = f"{tidy(low)} to {tidy(high)}"
        elif low < high:
            text, interval = told_apart(value, low, high)
    elif cell.kind is NumberClass.PUBLISHED:
        text, note = f"{value:,.10g}", cell.source
    else:
        note = cell.why_no_interval
    if is_bare:
        interval = note = ""
    return Shown(text, interval, note, str(cell.kind), repr(value))


def _shown(column: Column, value: Value) -> Shown:
    if isinstance(value, Cell):
        return amount(value, scale=column.scale, is_count=column.is_count, is_bare=column.is_bare)
    if value is None:
        return Shown(NOT_AVAILABLE, is_text=column.is_text)
    if isinstance(value, bool):
        return Shown("yes" if value else "no", is_text=column.is_text)
    if isinstance(value, int):
        return Shown(f"{value:,}", sort=str(value))
    if isinstance(value, float):
        words = percent(value) if column.scale == _PERCENT else tidy(column.scale * value)
        return Shown(words, sort=repr(column.scale * value))
    return Shown(value, is_text=True)


def _series(column: Column, values: Sequence[Value]) -> dict[str, pd.Series]:
    key = column.key
    cells = [value for value in values if isinstance(value, Cell)]
    if not cells:
        return {key: pd.Series(list(values), dtype=_dtype(column, values))}
    parts = {
        key: [_part(value, "value") for value in values],
        f"{key}_low": [_part(value, "low") for value in values],
        f"{key}_high": [_part(value, "high") for value in values],
    }
    found = {name: pd.Series(part, dtype="Float64") for name, part in parts.items()}
    kinds = [
        str(value.kind) if isinstance(value, Cell) and value.value is not None else None
        for value in values
    ]
    found[f"{key}_class"] = pd.Series(kinds, dtype="string")
    if any(cell.source for cell in cells):
        sources = [value.source if isinstance(value, Cell) else None for value in values]
        found[f"{key}_source"] = pd.Series(sources, dtype="string")
    return found


def _dtype(column: Column, values: Sequence[Value]) -> str:
    known = [value for value in values if value is not None]
    if known and all(isinstance(value, bool) for value in known):
        return "boolean"
    if known and all(isinstance(value, int) for value in known):
        return "Int64"
    return "string" if column.is_text else "Float64"


def _part(value: Value, name: str) -> float | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if name == "value" else None
    part = getattr(value, name) if isinstance(value, Cell) else None
    return None if part is None else float(part)


def _no_formula(text: object) -> object:
    is_formula = isinstance(text, str) and text.startswith(_FORMULA_STARTS)
    return f"'{text}" if is_formula else text
