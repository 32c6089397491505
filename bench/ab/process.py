"""Fresh processes of the arms: a pair of them takes turns, and each gives its metrics' values.

A process is a worker of the harness (`bench.worker`) of the arm's own code: it loads, warms up and
then measures a repeat whenever it is told to. On a processor both of a pair are there at once and
take turns repeat by repeat (A B, B A, A B, ...), so that what else the machine does falls on both.
On a GPU, whose memory may not hold two models, one ends before the other begins.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pandas as pd

from bench.ab.prepared import AskedPoint, Prepared
from bench.comparison.metrics import METRICS, Tables, process_values
from bench.merge import empty
from bench.parquet import read_parts
from bench.redact import redact
from bench.shards import Shard, shards

BY_PROCESS = tuple(metric for metric in METRICS.values() if metric.by_process)
_TABLES = ("requests", "steps")
_TO_END_S = 10


class ProcessFailedError(Exception):
    """A process did not measure what it was to; the message says why in one line."""


@dataclass(frozen=True, slots=True)
class Half:
    """One process of a pair, to be measured.

    Attributes:
        process_id: of the run; it also sets the order of the prompts, so that both halves of a pair
            have the same.
        run_folder: where its shards go.
    """

    prepared: Prepared
    point: AskedPoint
    process_id: int
    run_folder: Path


Measured = dict[str, float] | ProcessFailedError | None
"""The speeds that a point has, and its memory, by name, in their metric's unit; or why there are
none; None where the other process of the pair failed."""


def measure_pair(first: Half, second: Half) -> tuple[Measured, Measured]:
    """Measures a point in two processes of their own, into shards of their run folders.

    Where one fails, the other is not measured to its end.

    Raises:
        ValueError: what a process wrote cannot be read.
    """
    halves = (first, second)
    failed: dict[int, ProcessFailedError] = {}
    if all(str(half.point.resolved.get("device", "cpu")) == "cpu" for half in halves):
        _in_turns(halves, failed)
    else:
        for place, half in enumerate(halves):
            _in_turns([half], failed, place)
    if failed:
        return failed.get(0), failed.get(1)
    ours, theirs = (
        values(half.run_folder, half.point.config_hash, half.process_id) for half in halves
    )
    return ours, theirs


def _in_turns(
    halves: Sequence[Half], failed: dict[int, ProcessFailedError], first_place: int = 0
) -> None:
    """Every repeat of each, the order turned round each time; the first failure ends it."""
    places = range(first_place, first_place + len(halves))
    with contextlib.ExitStack() as open_:
        workers = [open_.enter_context(_worker(half)) for half in halves]
        turns = list(zip(places, workers, strict=True))
        repeats = max(worker.num_repeats for worker in workers)
        for repeat in (None, *range(repeats)):
            for place, worker in turns[::-1] if (repeat or 0) % 2 else turns:
                try:
                    worker.expect("ready") if repeat is None else worker.measure(repeat)
                except ProcessFailedError as error:
                    failed[place] = error
                    return


class _Worker:
    """A running process."""

    def __init__(self, half: Half, process: subprocess.Popen[str], log: IO[str]) -> None:
        self._half, self._process, self._log = half, process, log
        measure = half.point.resolved["measure"]
        self.num_repeats = int(measure["num_repeats"])
        self._timeout_s = float(measure["timeout_s"])
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._tell(
            {
                "task_id": f"{half.point.point_id}-p{half.process_id:03}",
                "process_id": half.process_id,
                "points": [
                    {
                        "point_id": half.point.point_id,
                        "config_hash": half.point.config_hash,
                        "resolved": dict(half.point.resolved),
                    }
                ],
            }
        )

    def measure(self, repeat: int) -> None:
        """One repeat; none where the point has fewer.

        Raises:
            ProcessFailedError: it died, fell silent or refused.
        """
        if repeat >= self.num_repeats:
            return
        half = self._half
        self._tell(
            {
                "config_hash": half.point.config_hash,
                "repeat": repeat,
                "run_folder": str(half.run_folder),
            }
        )
        self.expect("done")

    def expect(self, kind: str) -> None:
        """Reads replies up to one of this kind.

        Raises:
            ProcessFailedError: another ending.
        """
        until = time.monotonic() + self._timeout_s
        while True:
            reply = self._reply(until)
            found = reply.get("kind")
            if found == kind:
                return
            if found in ("refused", "failed"):
                raise ProcessFailedError(str(reply.get("detail")))

    def _reply(self, until: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=max(0.0, until - time.monotonic()))
        except queue.Empty:
            raise ProcessFailedError(f"it said nothing within {self._timeout_s:g} s") from None
        if line is None:
            self._process.wait()
            self._log.seek(0)
            last = (self._log.read().strip().splitlines() or ["it said nothing"])[-1]
            raise ProcessFailedError(redact(f"exit code {self._process.returncode}: {last}"[:500]))
        try:
            reply = json.loads(line)
            return {**reply, "kind": str(reply["kind"])}
        except (ValueError, KeyError, TypeError):
            raise ProcessFailedError("it does not answer as a worker of canvasbench") from None

    def _tell(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # then its end is what is read next
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)


@contextlib.contextmanager
def _worker(half: Half) -> Iterator[_Worker]:
    """A worker that has ended when the context does, whatever happens."""
    with tempfile.TemporaryFile("w+", errors="replace") as log:
        process = half.prepared.arm.start("-m", "bench.worker", log=log)
        try:
            yield _Worker(half, process, log)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """A worker ends with its input; one that does not is killed with its children."""
    with contextlib.suppress(BrokenPipeError):
        assert process.stdin is not None
        process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_TO_END_S)
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def values(run_folder: Path, config_hash: str, process_id: int) -> dict[str, float]:
    """The speeds and peaks of memory of a process, by name; those it does not have are missing.

    Raises:
        ValueError: a shard's table is damaged or of a future version.
    """
    key = config_hash, process_id
    own = [s for s in shards(run_folder) if (s.key.config_hash, s.key.process_id) == key]
    tables: Tables = {}
    for name in _TABLES:
        paths = [path for s in own if (path := s.path / f"{name}.parquet").exists()]
        tables[name] = read_parts(name, paths) if paths else empty(name)
    tables["windows"] = pd.DataFrame([_peaks(shard) for shard in own])
    found = {metric.name: process_values(metric, tables) for metric in BY_PROCESS}
    return {name: float(value[0]) for name, value in found.items() if value is not None}


def _peaks(shard: Shard) -> dict[str, int | None]:
    """A row of `windows` from what a shard notes, which older versions' shards do, too."""
    note = shard.note()
    device = note.get("device_memory") or {}
    return {
        "process_id": shard.key.process_id,
        "peak_rss_bytes": note.get("peak_rss_bytes"),
        "peak_device_allocated_bytes": device.get("peak_allocated_bytes"),
    }
