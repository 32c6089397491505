"""Which of a point's rows tell of contents."""

import pandas as pd


def first_repeat(table: pd.DataFrame) -> pd.DataFrame:
    """The first repeat of the first process; all others repeat its contents exactly."""
    if table.empty:
        return table
    return table[(table["repeat"] == 0) & (table["process_id"] == table["process_id"].min())]
