"""Runs tasks in worker processes on this machine and survives whatever happens to them.

The workers of a block are loaded together where memory allows and then take turns, repeat by
repeat, so that a slow moment of the machine falls on no point alone. A worker that fails, dies or
falls silent costs its point a failure row; the points it had not finished get a new process.
"""

import contextlib
import json
import queue
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.budget import Budget
from bench.compose import Point
from bench.failures import DiskFullError, record_failure
from bench.plan import Task
from bench.shards import discard_process, finished_processes, set_aside, shards
from bench.worker import describe

_LOAD_TIMEOUT_S = 3600.0
_STOP_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Trouble(Exception):
    """Why a worker cannot go on."""

    reason: str  # exception | out_of_memory | disk_full | killed | timeout
    detail: str


class RefusedError(ValueError):
    """A worker found the configuration or a checkpoint unusable; the message is for the user."""


class Worker:
    """A process of `bench.worker`, its pipes and its log."""

    def __init__(self, task: Task, log: Path) -> None:
        self.task = task
        self.log = log
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # Ctrl-C is for the supervisor alone
            )
        self._replies: queue.Queue[dict[str, Any] | None] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()
        self._send(describe(task) | {"log": str(log)})

    def await_ready(self) -> None:
        """Waits until the model is loaded.

        Raises:
            RefusedError: the user can mend it.
            Trouble: anything else.
        """
        self._reply(_LOAD_TIMEOUT_S)

    def measure(
        self, point: Point, repeat: int, run_folder: Path, on_batch: Callable[[], None]
    ) -> None:
        """Measures one repeat; raises Trouble where that fails."""
        self._send(
            {"config_hash": point.config_hash, "repeat": repeat, "run_folder": str(run_folder)}
        )
        while self._reply(point.config.measure.timeout_s)["kind"] == "batch":
            on_batch()

    def stop(self) -> None:
        """Ends the process, politely where it listens."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # where it died, the next reply tells how
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._replies.put(json.loads(line))
        self._replies.put(None)

    def _reply(self, timeout_s: float) -> dict[str, Any]:
        try:
            reply = self._replies.get(timeout=timeout_s)
        except queue.Empty:
            self.kill()
            raise Trouble("timeout", f"no sign of life for {timeout_s:g} s") from None
        if reply is None:
            raise self._death()
        if reply["kind"] == "refused":
            raise RefusedError(reply["detail"])
        if reply["kind"] == "failed":
            raise Trouble(reply["reason"], reply["detail"])
        return reply

    def _death(self) -> Trouble:
        code = self._process.wait()
        if code < 0:
            return Trouble("killed", f"ended by signal {-code} ({signal.Signals(-code).name})")
        return Trouble("exception", f"the process ended with exit code {code}")


@dataclass(slots=True)
class Supervisor:
    """Runs blocks of tasks.

    Attributes:
        fits_together: whether the workers of these tasks may all be loaded at once.
        on_batch: called after every timed batch.
        budget: once it is spent, what is left stays unmeasured.
    """

    run_folder: Path
    seed: int
    fits_together: Callable[[Sequence[Task]], bool]
    on_batch: Callable[[], None]
    budget: Budget
    _workers: dict[str, Worker] = field(default_factory=dict)

    def run(self, block: Sequence[Task], *, refusable: bool) -> None:
        """Measures a block to its end.

        Args:
            refusable: nothing was measured yet, so what the user can mend ends the run instead of
                becoming a failure.

        Raises:
            RefusedError: only where `refusable`.
            DiskFullError: the run folder's disk is full.
        """
        together = [list(block)] if self.fits_together(block) else [[task] for task in block]
        while together and self.budget.allows_another():
            tasks = together.pop(0)
            with self.budget.spent_on():
                try:
                    loaded = self._load(tasks, refusable)
                    together += [[task] for task in self._measure(loaded)]
                except BaseException:
                    self.kill_all()
                    raise
                self._stop_all()

    def kill_all(self) -> None:
        """Ends every worker at once."""
        for worker in self._workers.values():
            worker.kill()
        self._workers.clear()

    def _load(self, tasks: Sequence[Task], refusable: bool) -> list[Task]:
        """Starts the workers side by side; those whose model could not be loaded are left out."""
        for task in tasks:
            self._workers[task.task_id] = Worker(
                task, self.run_folder / "logs" / f"{task.task_id}.log"
            )
        loaded = []
        for task in tasks:
            try:
                self._workers[task.task_id].await_ready()
                loaded.append(task)
            except (RefusedError, Trouble) as error:
                if refusable and isinstance(error, RefusedError):
                    raise
                trouble = error if isinstance(error, Trouble) else Trouble("refused", str(error))
                for point in task.points:
                    self._fail(task, point, trouble)
        return loaded

    def _measure(self, tasks: Sequence[Task]) -> list[Task]:
        """Repeat by repeat in random order; returns what needs a new process."""
        again: list[Task] = []
        live = {task.task_id: task for task in tasks}
        num_repeats = max((_repeats(p) for t in tasks for p in t.points), default=0)
        order = random.Random(self.seed)
        for repeat in range(num_repeats):
            for task in order.sample(list(live.values()), len(live)):
                points = [p for p in task.points if repeat < _repeats(p)]
                for point in order.sample(points, len(points)):
                    worker = self._workers[task.task_id]
                    try:
                        worker.measure(point, repeat, self.run_folder, self.on_batch)
                    except Trouble as trouble:
                        self._fail(task, point, trouble)
                        again += self._unfinished(task, point)
                        del live[task.task_id]
                        break
        return again

    def _unfinished(self, task: Task, failed: Point) -> list[Task]:
        """The task's other points that still lack repeats, to be measured from their first on.

        Finished points stay; a process is measured whole or not at all.
        """
        repeats = {p.config_hash: _repeats(p) for p in task.points}
        done = finished_processes(shards(self.run_folder), repeats)
        others = tuple(
            p
            for p in task.points
            if p is not failed and (p.config_hash, task.process_id) not in done
        )
        for point in others:
            set_aside(self.run_folder, point.config_hash, task.process_id)
        discard_process(self.run_folder, failed.config_hash, task.process_id)
        return [Task(f"{task.task_id}x", task.process_id, others)] if others else []

    def _fail(self, task: Task, point: Point, trouble: Trouble) -> None:
        worker = self._workers[task.task_id]
        worker.kill()
        record_failure(
            self.run_folder,
            point,
            task.process_id,
            reason=trouble.reason,
            detail=trouble.detail,
            log=worker.log,
        )
        if trouble.reason == "disk_full":
            raise DiskFullError(self.run_folder)

    def _stop_all(self) -> None:
        for worker in self._workers.values():
            worker.stop()
        self._workers.clear()


def _repeats(point: Point) -> int:
    return point.config.measure.num_repeats
