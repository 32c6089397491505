"""What servers do to a point, in words: requests without an answer, another server half-way."""

from collections.abc import Sequence
from typing import Any

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


def other_servers(row: dict[str, Any], told: Sequence[str | None]) -> dict[str, Any]:
    """What changes in a point's row where its processes were answered by different servers.

    A run that is resumed later may find another version; its point is of low validity.

    Args:
        told: what each process's server says it is, "VERSION as COMMAND" where it was started for
            it: of these the version alone tells two apart, as each has a port of its own.
    """
    versions = list(dict.fromkeys((said or "unnamed").partition(" as ")[0] for said in told))
    if len(versions) < 2:
        return {}
    found: dict[str, Any] = {"server": ", ".join(versions)}
    if row["validity"] != "invalid":
        reason = f"answered by different servers: {', '.join(versions)}"
        found |= {
            "validity": "low_validity",
            "validity_reason": ", ".join(filter(None, (row["validity_reason"], reason))),
        }
    return found


def _counted(total: int, failed: pd.DataFrame) -> str:
    """The most frequent reason first: 3 of 100 requests failed: stalled 2, http_503 1."""
    counts = sorted(failed["failure"].value_counts().items(), key=lambda pair: (-pair[1], pair[0]))
    told = ", ".join(f"{reason} {count}" for reason, count in counts)
    return f"{len(failed)} of {total} requests failed: {told}"
