"""A server's life: started, waited for, and ended with everything that it started.

Between this process and the server stands a guardian (`bench.servers.guardian`), which ends the
server's whole tree when it is told to and when this process is gone, however that came about.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.redact import redact
from bench.servers.config import Engine, LaunchConfig
from bench.servers.engines import FOLDER, HOST, Checkpoint, Start, start
from bench.servers.preparing import installed_version, make_files, take_port

Say = Callable[[str], None]

_GUARDIAN = Path(__file__).with_name("guardian.py")
_POLL_S = 0.1
_ANSWER_S = 5.0
_FIRST_WORD_S, _LONGEST_SILENCE_S = 1.0, 15.0
_TO_KILL_S = 30.0
_TAIL_LINES, _TAIL_BYTES, _LINE_CHARACTERS = 5, 8192, 200


class ServerFailedError(RuntimeError):
    """A server that did not come up; the message ends with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers.

    Attributes:
        url: where its API begins.
        metrics_url: of its Prometheus page, None where it has none.
        served_model: what requests call the model.
        version: of the engine, as its environment names it; None for a command of the user's own.
        command: its command line, home folders and secrets taken out.
    """

    url: str
    metrics_url: str | None
    served_model: str
    version: str | None
    command: tuple[str, ...]


@contextmanager
def launched(config: LaunchConfig, *, log: Path, say: Say) -> Iterator[Running]:
    """Starts a server, yields it once it answers, and always ends all of it.

    Args:
        log: gets what the server writes; it is kept.
        say: told in one line each how far it is.

    Raises:
        ValueError: a configuration that cannot be started here: a missing program, package or
            model, or a port in use.
        ServerFailedError: it ended, or did not answer within `ready_s`.
    """
    checkpoint = None
    if config.model is not None and config.engine not in (Engine.command, Engine.llama_cpp):
        folder = Path(config.model).expanduser()
        checkpoint = Checkpoint.read(folder.absolute()) if folder.is_dir() else None
    port = take_port(config.port)
    begun = start(config, checkpoint, port)
    version = installed_version(begun)
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"starting {version or config.engine.name} at {HOST}:{port}, log {log}")
    server = _Server(config, begun, port, log)
    try:
        server.await_ready(say)
        yield Running(
            url=f"http://{HOST}:{port}/v1",
            metrics_url=server.metrics_url(),
            served_model=begun.served_model or server.first_model(),
            version=version,
            command=tuple(map(redact, server.command)),
        )
    finally:
        if (early := server.stop()) is not None:
            say(early)


class _Server:
    """The guardian with the server below it."""

    def __init__(self, config: LaunchConfig, begun: Start, port: int, log: Path) -> None:
        self._config, self._begun, self._port, self._log = config, begun, port, log
        self._begin_s = time.monotonic()
        self._scratch = scratch = Path(tempfile.mkdtemp(prefix="canvasbench-server-"))
        make_files(begun, scratch)
        self.command = [argument.replace(FOLDER, str(scratch)) for argument in begun.arguments]
        asked = {
            "command": self.command,
            "folder": str(scratch) if begun.inside else None,
            "scratch": str(scratch),
            "stop_s": config.stop_s,
            "parent": os.getpid(),
        }
        with log.open("wb") as errors:
            self._guardian = subprocess.Popen(
                [sys.executable, "-P", str(_GUARDIAN), json.dumps(asked)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={**os.environ, **begun.environment},
                start_new_session=True,  # a Ctrl-C is for this process alone
            )
        self._pid: int | None = None
        self._ready = False

    def await_ready(self, say: Say) -> None:
        """Waits until the server answers.

        Raises:
            ValueError: it could not be started at all.
            ServerFailedError: it ended or is too slow.
        """
        assert self._guardian.stdout is not None
        how, _, what = self._guardian.stdout.readline().decode().strip().partition(" ")
        if how != "started":
            raise ValueError(f"{self.command[0]} cannot be started: {what}{self._tail()}")
        self._pid = int(what)
        name, silence_s = self._config.engine.name, _FIRST_WORD_S
        next_word_s = silence_s
        while not self._answers():
            if self._guardian.poll() is not None:
                raise ServerFailedError(f"{name} {self._left()}{self._tail()}")
            waited_s = time.monotonic() - self._begin_s
            if waited_s > self._config.ready_s:
                limit = f"backend.launch.ready_s ({self._config.ready_s:g} s)"
                raise ServerFailedError(f"{name} did not answer within {limit}{self._tail()}")
            if waited_s > next_word_s:
                silence_s = min(2 * silence_s, _LONGEST_SILENCE_S)
                next_word_s = waited_s + silence_s
                last = (_last_lines(self._log) or ["it has said nothing yet"])[-1]
                say(f"waiting for {name}, {waited_s:.0f} s: {last}")
            time.sleep(_POLL_S)
        self._ready = True
        say(f"{name} is ready after {time.monotonic() - self._begin_s:.0f} s")

    def metrics_url(self) -> str | None:
        """Where a Prometheus page is, None where there is none."""
        told = self._get("/metrics")
        is_page = told is not None and told[0] == 200 and b"# TYPE " in told[1]
        return f"http://{HOST}:{self._port}/metrics" if is_page else None

    def first_model(self) -> str:
        """The first model that the server lists.

        Raises:
            ServerFailedError: it lists none.
        """
        told = self._get("/v1/models")
        with suppress(ValueError, LookupError, TypeError):
            return str(json.loads(told[1] if told else b"")["data"][0]["id"])
        raise ServerFailedError(f"{self._config.engine.name} names no model at /v1/models")

    def stop(self) -> str | None:
        """Ends the server and all that descends from it; says how, where it had ended early."""
        guardian = self._guardian
        assert guardian.stdin is not None
        with suppress(BrokenPipeError):
            # A byte rather than only closing: a forked child may hold the pipe open as well.
            os.write(guardian.stdin.fileno(), b"\n")
        guardian.stdin.close()
        try:
            guardian.wait(self._config.stop_s + _TO_KILL_S)
        except subprocess.TimeoutExpired:
            guardian.kill()
            guardian.wait()
        early = self._left() if self._ready else None
        return early and f"{self._config.engine.name} {early}{self._tail()}"

    def _left(self) -> str | None:
        """How the server ended by itself, by its guardian's last word; None where it was told to.

        Reads that word once, and clears up as far as it can where the guardian was killed itself.
        """
        assert self._guardian.stdout is not None
        if self._guardian.stdout.closed:
            return None
        how, _, code = self._guardian.stdout.read().decode().strip().partition(" ")
        self._guardian.stdout.close()
        if how == "stopped":
            return None
        if how == "left":
            number = int(code)
            return f"ended by signal {-number}" if number < 0 else f"ended with exit code {number}"
        if self._pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)
        shutil.rmtree(self._scratch, ignore_errors=True)
        return "lost its guardian"

    def _answers(self) -> bool:
        told = self._get(self._begun.ready_path)
        return told is not None and told[0] == 200

    def _get(self, path: str) -> tuple[int, bytes] | None:
        """Status and body, None where nobody answers."""
        connection = http.client.HTTPConnection(HOST, self._port, timeout=_ANSWER_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def _tail(self) -> str:
        lines = _last_lines(self._log)
        return f"; its log {self._log} ends: {' | '.join(lines)}" if lines else ""


def _last_lines(log: Path) -> list[str]:
    """The last lines of a log that are not blank, fit for one line each."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    lines = [" ".join(line.split()) for line in text.replace("\r", "\n").splitlines()]
    return [redact(line)[:_LINE_CHARACTERS] for line in lines if line][-_TAIL_LINES:]
