"""How the rows of every pane are ordered and typed."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from bench.profile.names import PHASES

_WORDS = ("phase", "op_group", "operator", "kernel", "device")


def sorted_rows(rows: Sequence[Mapping[str, Any]], columns: list[str], by: str) -> pd.DataFrame:
    """Phases in their order, the largest first in each; a number that is not known is a NaN."""
    order = {phase: index for index, phase in enumerate(PHASES)}
    ranked = sorted(rows, key=lambda row: (order[row["phase"]], -row[by]))
    numbers = [c for c in columns if c not in _WORDS]
    return pd.DataFrame(ranked, columns=columns).astype(dict.fromkeys(numbers, float))
