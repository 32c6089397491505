"""A task as a job somewhere else: measured whole, its shards carried home as bytes.

Jobs share nothing with the run folder but what they return, so a cluster needs no shared disk; the
shards are put in place here, each once.
"""

import os
import tempfile
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.failures import raise_if_full, record_failure
from bench.launch import Launch
from bench.plan import Task, num_batches
from bench.redact import redact
from bench.refusal import is_refusal
from bench.shards import SHARDS, adopt_shard
from bench.supervise import RefusedError

Files = dict[str, bytes]


@dataclass(slots=True)
class Outcome:
    """What a job brings home.

    Attributes:
        shards: files by shard name.
        trouble: reason and detail of what ended the job early, by the point's hash.
        refused: what the user can mend.
    """

    shards: dict[str, Files] = field(default_factory=dict)
    trouble: dict[str, tuple[str, str]] = field(default_factory=dict)
    log: str = ""
    refused: str | None = None


def run_job(description: Mapping[str, Any]) -> Outcome:
    """Measures every repeat of every point of a task in this process."""
    from bench.worker import close, measure, prepare, reason_of

    outcome = Outcome()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        try:
            runs = prepare(description)
        except ValueError as error:
            if not is_refusal(error):
                raise
            outcome.refused = str(error)
            return outcome
        for run in runs:
            try:
                for repeat in range(run.point.config.measure.num_repeats):
                    measure(run, repeat, folder, lambda: None, own_pid=os.getpid())
            except Exception as error:
                detail = redact(f"{type(error).__name__}: {error}")
                outcome.trouble[run.point.config_hash] = (reason_of(error), detail[:500])
                outcome.log = redact(traceback.format_exc())
        close(run.session for run in runs)
        for shard in sorted((folder / SHARDS).glob("*")):
            outcome.shards[shard.name] = {f.name: f.read_bytes() for f in shard.iterdir()}
    return outcome


def bring_home(given: Launch, task: Task, outcome: Outcome) -> None:
    """Puts a job's shards into the run folder; troubles become failure rows.

    Raises:
        RefusedError: the configuration cannot be used and nothing was measured yet.
        DiskFullError: the run folder's disk is full.
    """
    if outcome.refused is not None:
        if given.refusable:
            raise RefusedError(outcome.refused)
        fail_task(given, task, "refused", outcome.refused)
        return
    failed = set(outcome.trouble)
    for name, files in outcome.shards.items():
        if name.split("-")[0] not in failed:
            try:
                adopt_shard(given.run_folder, name, files)
            except OSError as error:
                raise_if_full(error, given.run_folder)
                raise
    for point in task.points:
        if point.config_hash in failed:
            reason, detail = outcome.trouble[point.config_hash]
            log = given.run_folder / "logs" / f"{task.task_id}.log"
            log.parent.mkdir(exist_ok=True)
            log.write_text(outcome.log)
            record_failure(
                given.run_folder, point, task.process_id, reason=reason, detail=detail, log=log
            )
        else:
            for _ in range(num_batches(point)):
                given.on_batch()


def fail_task(given: Launch, task: Task, reason: str, detail: str) -> None:
    """Every point of a task whose job brought nothing home."""
    log = given.run_folder / "logs" / f"{task.task_id}.log"
    for point in task.points:
        record_failure(
            given.run_folder, point, task.process_id, reason=reason, detail=detail, log=log
        )
