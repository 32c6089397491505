"""Served runs that do not go to their end: a server that goes, an interruption, a resumption."""

import asyncio
import json
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench import open_run
from bench.backends.openai.load import open_loop
from bench.cli import main
from bench.launch import Launch
from bench.metrics import other_servers
from bench.report import print_summary
from bench.report.notices import notices
from bench.report.view import View
from bench.shards import SHARDS
from bench.sweep import resume_sweep, run_sweep
from bench.worker import close, describe, measure, prepare
from tests.bench.backends.openai.running import ANSWER, USUAL, Scripts, every, tabled
from tests.bench.backends.openai.scripted_server import Script, Wire, refuses, stalls_after
from tests.bench.backends.openai.test_load import ASKS, Counted
from tests.bench.backends.openai.test_session import running


def asked(requests: list[Any]) -> int:
    """Requests with a prompt; the others are pages."""
    return len([request for request in requests if request.body])


def test_a_hanging_server_is_not_waited_for_by_every_request() -> None:
    """One waits for its first byte, three more do; of the next repeat a single one."""
    script = stalls_after(b"")
    point, tables, server = tabled(
        lambda i: ANSWER if i < 2 else script, prompts=30, repeats=2, first_byte_s=0.4
    )
    assert asked(server.requests) == 2 + 4 + 1
    reason = "requests_failed: 58 of 60 requests failed: not_sent 53, no_first_byte 5"
    assert (point["validity"], point["validity_reason"]) == ("invalid", reason)
    unsent = tables["failed_requests"].query("failure == 'not_sent'")["failure_detail"]
    assert set(unsent) == {
        "nobody answered 4 in a row, the last no_first_byte",
        "nobody answered 1 in a row, the last no_first_byte",
    }
    assert point["delivered_tok_per_s"] > 0


def test_a_server_that_ends_half_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """It answers three requests and is gone: all others are refused by the system."""
    server_of: list[Callable[[], None]] = []
    real = asyncio.start_server

    async def started(*args: Any, **more: Any) -> asyncio.Server:
        listening = await real(*args, **more)
        server_of.append(listening.close)
        return listening

    async def dies(wire: Wire) -> None:
        server_of[0]()
        wire.reset()

    monkeypatch.setattr(asyncio, "start_server", started)
    begin_s = time.monotonic()
    point, tables, _ = tabled(
        lambda i: ANSWER if i < 3 else dies, prompts=40, repeats=2, rate_per_s=5.0
    )
    assert time.monotonic() - begin_s < 10  # and not the 16 s of its times
    counts = tables["failed_requests"]["failure"].value_counts().to_dict()
    assert counts.pop("disconnected") == 1
    assert counts == {"connect_refused": counts["connect_refused"], "not_sent": counts["not_sent"]}
    assert sum(counts.values()) == 76
    assert counts["not_sent"] > 60
    assert point["validity"] == "invalid"
    assert point["validity_reason"].startswith("requests_failed: 77 of 80 requests failed: not_se")


def test_a_server_that_is_back_is_asked_everything() -> None:
    """Refusals that are answers of a server, and single silences, give nothing up."""
    silent, busy = stalls_after(b""), refuses("503 Unavailable", b"busy")
    scripts = [silent, silent, silent, ANSWER] * 2 + [busy] * 8
    point, _, server = tabled(lambda i: scripts[i], prompts=16, first_byte_s=0.4)
    assert asked(server.requests) == 16
    assert point["num_requests"] == 2


def test_a_load_that_is_given_up_waits_for_no_times() -> None:
    counted = Counted()
    late_s = asyncio.run(
        open_loop(
            ASKS[:4],
            [0.0, 0.05, 900.0, 1800.0],
            counted.ask,
            print,
            at_once=lambda: counted.most > 0,
        )
    )
    assert len(counted.begun_s) == 4
    assert late_s < 60


@pytest.mark.parametrize(
    ("told", "server"),
    [
        (["vllm 1", "vllm 1"], None),
        (["vllm 1 as vllm serve --port 4", "vllm 1 as vllm serve --port 5"], None),
        ([None, None], None),
        (["vllm 1", "vllm 2"], "vllm 1, vllm 2"),
        (["vllm 1", None], "vllm 1, unnamed"),
    ],
)
def test_processes_behind_different_servers(told: list[str | None], server: str | None) -> None:
    row = {"validity": "valid", "validity_reason": None}
    found = other_servers(row, told)
    assert found.get("server") == server
    assert found.get("validity") == (server and "low_validity")
    invalid = {"validity": "invalid", "validity_reason": "why"}
    assert "validity" not in other_servers(invalid, told)


def here(most_tasks: int | None = None) -> Callable[[object, Launch], None]:
    """A launcher that measures in this process and is interrupted after so many tasks."""

    def launch(config: object, given: Launch) -> None:
        left = most_tasks
        for task in (task for block in given.blocks for task in block):
            if left == 0:
                raise KeyboardInterrupt
            left = None if left is None else left - 1
            runs = prepare(describe(task))
            try:
                for run in runs:
                    for repeat in range(run.point.config.measure.num_repeats):
                        measure(run, repeat, given.run_folder, given.on_batch, own_pid=1)
            finally:
                close(run.session for run in runs)

    return launch


def test_a_resumed_run_is_completed_and_says_that_the_server_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two points of two processes each, of which the last is measured with a newer server."""
    version = ["1.2"]

    async def told(wire: Wire) -> None:
        page = json.dumps({"version": version[0]}).encode()
        await refuses("200 OK", page)(wire)

    folder = tmp_path / "run"
    monkeypatch.setattr("bench.sweep.render", lambda run: run.path)
    monkeypatch.setattr("bench.sweep.launch", here(most_tasks=3))
    with running(Scripts(every(ANSWER), {"/version": told})) as server:
        own = [*USUAL, f"backend.url={server.url}", f"run_dir={folder}"]
        own += ["backend.endpoint=chat,completions", "measure.num_processes=2"]
        with pytest.raises(KeyboardInterrupt):
            run_sweep(own, default_sweep=False)
        left = open_run(folder)
        assert (left.info["interrupted"], left.info["finished"]) == (True, False)
        assert len(left.requests) == 3 * 4
        version[0] = "1.3"
        monkeypatch.setattr("bench.sweep.launch", here())
        resume_sweep(folder)
    run = open_run(folder)
    assert run.info["finished"]
    keys = ["point_id", "process_id", "request_id"]
    assert (len(run.requests), run.requests.duplicated(keys).any()) == (16, False)
    (mixed,) = run.points[run.points["server"] != "scripted 1.2"].to_dict("records")
    assert (mixed["server"], mixed["validity"]) == ("scripted 1.2, scripted 1.3", "low_validity")
    told_of = "answered by different servers: scripted 1.2, scripted 1.3"
    assert mixed["validity_reason"] == told_of
    titles = [notice.title for notice in notices(View.of(run))]
    assert "The server changed" in titles
    capsys.readouterr()
    print_summary(run)
    printed = " ".join(capsys.readouterr().out.split())
    assert told_of in printed
    assert "different servers answered: scripted 1.2" in printed


def test_interrupting_a_load_keeps_its_finished_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal of Ctrl-C while requests of the second repeat are under way."""
    folder = tmp_path / "run"

    def interrupt() -> None:
        while not list((folder / SHARDS).glob("*-r000")) or asked(server.requests) < 5:
            time.sleep(0.02)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def choose(i: int) -> Script:
        return ANSWER if i < 4 else stalls_after(b"")

    # A job in the background of a script inherits an ignored SIGINT.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    with running(Scripts(choose, {})) as server:
        own = [*USUAL, f"backend.url={server.url}", f"run_dir={folder}", "measure.num_repeats=3"]
        monkeypatch.setattr("sys.argv", ["canvasbench", "run", *own])
        stopping = threading.Thread(target=interrupt, daemon=True)
        stopping.start()
        try:
            with pytest.raises(SystemExit) as left:
                main()
        finally:
            signal.signal(signal.SIGINT, inherited)
    assert left.value.code == 130
    run = open_run(folder)
    assert (run.info["interrupted"], run.info["finished"]) == (True, False)
    assert isinstance(run.requests, pd.DataFrame)
    assert run.requests["repeat"].tolist() == [0] * 4
    assert (folder / SHARDS).is_dir()


def test_a_refused_resumption_leaves_the_folder_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same process: an error on the way must not keep the run's lock."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"schema_version": 1}))
    for _ in range(2):
        with pytest.raises(ValueError, match="holds no configuration to resume"):
            resume_sweep(folder)
