"""A run's tables in SQL: every table is a view of DuckDB by its name."""

import duckdb
import pandas as pd
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from bench.store import Run
from bench.tables import COLUMNS

_MOST_ROWS = 200
_LOG_WIDTH = 100
_BETWEEN = 3
"""Characters between two columns."""


def answer(run: Run, sql: str) -> pd.DataFrame:
    """What a statement finds; it sees the run's tables and no files.

    Raises:
        ValueError: DuckDB cannot answer it, with DuckDB's first line and the tables there are.
    """
    tables = {name: run.table(name) for name in COLUMNS}
    present = {name: table for name, table in tables.items() if table is not None}
    with duckdb.connect(config={"enable_external_access": "false"}) as connection:
        for name, table in present.items():
            connection.register(name, table)
        try:
            return connection.execute(sql).fetchdf()
        except duckdb.Error as error:
            first = str(error).splitlines()[0]
            raise ValueError(f"SQL: {first}; tables: {', '.join(present)}") from error


def print_answer(found: pd.DataFrame, console: Console | None = None) -> None:
    """A row a line, or, where the columns do not fit side by side, a line a column.

    Long answers are cut and say so. A log that is no terminal has 100 columns.
    """
    out = console or Console()
    if console is None and not out.is_terminal:
        out.width = _LOG_WIDTH
    rows = [
        ["n/a" if pd.isna(value) else str(value) for value in row]
        for row in found.head(_MOST_ROWS).itertuples(index=False)
    ]
    names = [str(name) for name in found.columns]
    widths = [max(map(cell_len, cells)) for cells in zip(names, *rows, strict=True)]
    if sum(widths) + _BETWEEN * (len(widths) - 1) <= out.width:
        table = RichTable(show_edge=False)
        for name in names:
            table.add_column(Text(name))
        for row in rows:
            table.add_row(*map(Text, row))
        out.print(table)
    else:
        for number, row in enumerate(rows, start=1):
            out.print(Text(f"row {number}", style="bold"))
            out.print(_one_row(names, row))
    if len(found) > _MOST_ROWS:
        out.print(f"{_MOST_ROWS} of {len(found)} rows; --csv writes all of them")


def _one_row(names: list[str], values: list[str]) -> RichTable:
    table = RichTable.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in zip(names, values, strict=True):
        table.add_row(Text(name), Text(value))
    return table
