"""Requests without an answer: what they make of a point, in words."""

import pandas as pd

MOST_FAILED_SHARE = 0.05
"""Above it a point is invalid; below it, with any at all, of low validity."""


def many_failed(num_answers: int, failed: pd.DataFrame) -> list[str]:
    """The reason that makes a point invalid, where too many of its requests failed."""
    total = num_answers + len(failed)
    if total and len(failed) > MOST_FAILED_SHARE * total:
        return [f"requests_failed: {_counted(total, failed)}"]
    return []


def few_failed(num_answers: int, failed: pd.DataFrame) -> list[str]:
    """The reason that lowers a point's validity, where some of its requests failed."""
    total = num_answers + len(failed)
    if failed.empty or many_failed(num_answers, failed):
        return []
    return [_counted(total, failed)]


def _counted(total: int, failed: pd.DataFrame) -> str:
    """The most frequent reason first: 3 of 100 requests failed: stalled 2, http_503 1."""
    counts = sorted(failed["failure"].value_counts().items(), key=lambda pair: (-pair[1], pair[0]))
    told = ", ".join(f"{reason} {count}" for reason, count in counts)
    return f"{len(failed)} of {total} requests failed: {told}"
