"""Failure rows: which process of which point could not be measured, why, and its log's tail."""

import errno
from datetime import UTC, datetime
from pathlib import Path

from bench import provenance
from bench.compose import Point
from bench.redact import redact
from bench.shards import failure_folders, write_failure
from bench.tables import frame

_TAIL_LINES = 40
_TAIL_CHARACTERS = 4000


class DiskFullError(ValueError):
    """The disk of a run folder is full; what was finished is kept."""

    def __init__(self, run_folder: Path) -> None:
        super().__init__(
            f"the disk of {run_folder} is full; free some and `canvasbench resume {run_folder}`"
        )


def raise_if_full(error: OSError, run_folder: Path) -> None:
    """Says it in one line where a write failed for want of space."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise DiskFullError(run_folder) from error


def record_failure(
    run_folder: Path, point: Point, process_id: int, *, reason: str, detail: str, log: Path
) -> None:
    """Adds a failure row; an earlier attempt's rows stay.

    Raises:
        DiskFullError: the row itself does not fit on the disk any more.
    """
    prefix = f"{point.config_hash}-p{process_id:03}-"
    earlier = [f for f in failure_folders(run_folder) if f.name.startswith(prefix)]
    row: dict[str, object] = {
        "process_id": process_id,
        "attempt": len(earlier) + 1,
        "reason": reason,
        "detail": redact(detail),
        "log_tail": log_tail(log),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    keys = {
        "config_hash": point.config_hash,
        "point_id": point.point_id,
        "host": provenance.host(),
    }
    try:
        write_failure(run_folder, point.config_hash, process_id, frame("failures", [row], keys))
    except OSError as error:
        raise_if_full(error, run_folder)
        raise


def log_tail(log: Path) -> str:
    """The last lines of a log, without home folders and secrets; empty where there is none."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    return redact("\n".join(text.splitlines()[-_TAIL_LINES:])[-_TAIL_CHARACTERS:])
