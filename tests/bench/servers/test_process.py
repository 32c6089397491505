"""A server's life, with one that leaves processes everywhere: nothing of it outlives anybody."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.servers import Engine, LaunchConfig, ServerFailedError, launched

FAKE = Path(__file__).with_name("fake.py")
STOP_S = 0.5


def fake(folder: Path, *flags: str, **knobs: Any) -> LaunchConfig:
    command = [sys.executable, str(FAKE), "{port}", str(folder / "pids"), *flags]
    return LaunchConfig(engine=Engine.command, args=command, stop_s=STOP_S, **knobs)


def pids(folder: Path) -> list[int]:
    """The server's, its child's and its orphan's."""
    found: list[int] = json.loads((folder / "pids").read_text())
    assert len(found) == 3
    return found


def living(numbers: list[int]) -> list[int]:
    return [number for number in numbers if _lives(number)]


def _lives(number: int) -> bool:
    try:
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(holds: Callable[[], bool], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.02)
    assert holds()


def test_a_server_is_waited_for_told_of_and_ended_with_all_it_started(tmp_path: Path) -> None:
    said: list[str] = []
    log, waited = tmp_path / "logs" / "server.log", tmp_path / "waited"

    def say(line: str) -> None:
        said.append(line)
        if line.endswith("s: loading weights"):
            waited.touch()

    config = fake(tmp_path, "--until", str(waited), ready_s=60.0)
    with launched(config, log=log, say=say) as running:
        assert running.url.startswith("http://127.0.0.1:")
        assert running.url.endswith("/v1")
        assert running.metrics_url == running.url.removesuffix("/v1") + "/metrics"
        assert (running.served_model, running.version) == ("fake-model", None)
        assert running.command[0] == sys.executable
        assert living(pids(tmp_path)) == pids(tmp_path)
        groups = {os.getpgid(number) for number in pids(tmp_path)}
        assert len(groups) == 2
        assert os.getpgid(0) not in groups
    assert living(pids(tmp_path)) == []
    assert "loading weights" in log.read_text()
    assert str(log) in said[0]
    assert said[-2].startswith("waiting for command, ")
    assert "ready after" in said[-1]


def test_it_is_ended_when_the_block_fails_even_where_it_is_deaf(tmp_path: Path) -> None:
    with (
        pytest.raises(RuntimeError, match="the block"),
        launched(fake(tmp_path, "--deaf"), log=tmp_path / "log", say=print),
    ):
        raise RuntimeError("the block")
    assert living(pids(tmp_path)) == []


ASKS = """
import json, signal, sys, time
from pathlib import Path
from bench.servers import LaunchConfig, launched, Engine
folder = Path(sys.argv[1])
args = json.loads(sys.argv[2])
config = LaunchConfig(engine=Engine.command, args=args, stop_s=float(sys.argv[3]))
with launched(config, log=folder / "log", say=print):
    (folder / "up").touch()
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("up", [True, False], ids=["answering", "loading"])
def test_nothing_is_left_when_the_asking_process_is_signalled(
    tmp_path: Path, number: signal.Signals, up: bool
) -> None:
    config = fake(tmp_path, *([] if up else ["--silent"]))
    process = subprocess.Popen(
        [sys.executable, "-c", ASKS, str(tmp_path), json.dumps(config.args), str(STOP_S)],
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        # A job in the background of a script inherits an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    ready = tmp_path / ("up" if up else "pids")
    wait_until(lambda: ready.exists() and (tmp_path / "pids").read_text().endswith("]"))
    guardians = [
        p for p in psutil.Process(process.pid).children() if "guardian.py" in p.cmdline()[2]
    ]
    assert len(guardians) == 1
    process.send_signal(number)
    wait_until(lambda: not living([*pids(tmp_path), guardians[0].pid]))
    assert process.wait(60.0) != 0


def test_what_its_main_process_leaves_behind_is_ended_and_told(tmp_path: Path) -> None:
    said: list[str] = []
    with launched(fake(tmp_path), log=tmp_path / "log", say=said.append):
        server, *others = pids(tmp_path)
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: not living(others))
    assert said[-1].startswith("command ended by signal 9; its log ")


def test_one_that_ends_at_once_is_told_at_once_with_the_end_of_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailedError, match=r"exit code 3; .*no room on the device"),
        launched(fake(tmp_path, "--dies-at-once", ready_s=60.0), log=tmp_path / "log", say=print),
    ):
        pytest.fail("it never answered")
    assert living(pids(tmp_path)) == []


def test_one_that_never_answers_is_ended_at_its_deadline(tmp_path: Path) -> None:
    others = psutil.Process().children(recursive=True)
    config = fake(tmp_path, "--silent", ready_s=0.8)
    with (
        pytest.raises(ServerFailedError, match=r"within backend\.launch\.ready_s \(0\.8 s\)"),
        launched(config, log=tmp_path / "log", say=print),
    ):
        pytest.fail("it never answered")
    assert set(psutil.Process().children(recursive=True)) <= set(others)
    assert not (tmp_path / "pids").exists() or living(pids(tmp_path)) == []


def test_a_guardian_that_is_killed_leaves_no_server(tmp_path: Path) -> None:
    others = psutil.Process().children()
    with launched(fake(tmp_path), log=tmp_path / "log", say=print):
        (guardian,) = set(psutil.Process().children()) - set(others)
        guardian.kill()
        wait_until(lambda: not _lives(guardian.pid))
    server, child, orphan = pids(tmp_path)
    wait_until(lambda: not living([server, child]))
    os.kill(orphan, signal.SIGKILL)  # nobody is left who knows of it


def test_a_missing_program_a_missing_package_and_a_port_in_use_are_one_line_each(
    tmp_path: Path,
) -> None:
    def refused(config: LaunchConfig, message: str) -> None:
        with (
            pytest.raises(ValueError, match=message) as found,
            launched(config, log=tmp_path / "log", say=print),
        ):
            pytest.fail("it never ran")
        assert "\n" not in str(found.value)

    missing = LaunchConfig(engine=Engine.command, args=["no-such-server", "{port}"])
    refused(missing, "no-such-server cannot be started: No such file")
    sglang = LaunchConfig(engine=Engine.sglang, model="some/model")
    refused(sglang, "sglang is not installed for .*backend.launch.executable=PYTHON")
    nowhere = LaunchConfig(engine=Engine.vllm, model="some/model", executable="/no/python")
    refused(nowhere, "/no/python cannot be asked for its packages")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        refused(fake(tmp_path, port=port), f"port is {port}, which cannot be had")
