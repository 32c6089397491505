"""A run's tables in SQL: every table is a view of DuckDB by its name."""

import duckdb
import pandas as pd
from rich.console import Console
from rich.table import Table as RichTable

from bench.store import Run
from bench.tables import COLUMNS

_MOST_ROWS = 200


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


def print_answer(found: pd.DataFrame) -> None:
    """A table on the terminal; long answers are cut and say so."""
    table = RichTable(show_edge=False)
    for name in found.columns:
        table.add_column(str(name))
    for row in found.head(_MOST_ROWS).itertuples(index=False):
        table.add_row(*("n/a" if pd.isna(value) else str(value) for value in row))
    console = Console()
    console.print(table)
    if len(found) > _MOST_ROWS:
        console.print(f"{_MOST_ROWS} of {len(found)} rows; --csv writes all of them")
