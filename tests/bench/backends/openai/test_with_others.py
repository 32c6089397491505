"""A served run beside other things: a native run, a server that is started, older runs."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from bench.build import decoding_of
from bench.comparison import compare, print_comparison
from bench.compose import compose_points
from bench.memory import fits_together, need
from bench.parquet import read_table
from bench.plan import blocks
from bench.preview import print_plan
from tests.bench.backends.openai.running import (
    ANSWER,
    USUAL,
    changed,
    composed,
    every,
    measured,
    ran,
)
from tests.bench.backends.openai.scripted_server import Script, refuses, sends, text_event
from tests.bench.backends.openai.test_session import running


def test_a_native_and_a_served_run_are_compared_by_prompt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that answers as our engine did, but for one prompt, which it answers wrongly."""
    asked = [each for each in USUAL if not each.startswith("backend")]
    asked += ["measure.max_repairs=0", "measure.num_routing_prompts=0", "trace=counts"]
    asked += ["measure.max_warmup_prompts=0"]
    native = measured(tmp_path / "a", compose_points(asked, decoding_of, default_sweep=False))
    first = native.requests
    scripts: dict[str, Script] = {"/v1/models": refuses("404 No", b"")}
    for row in first.itertuples():
        text = "?" if row.request_id == first["request_id"].max() else row.text
        finish = "stop" if row.finish_reason == "eos" else "length"
        scripts[row.prompt] = sends(text_event(text, finish=finish, usage=row.delivered_tokens))
    with running(scripts) as server:
        own = replace(changed({"backend.url": server.url}), point_id=native.points["point_id"][0])
        measured(tmp_path / "b", [own])
    told = json.loads(native.points["capabilities"].iloc[0])
    assert (told["steps"], told["seeds"]) == ("per_canvas", True)
    assert told["missing"]["net_correction"] == "trace=counts keeps no positions"
    assert native.points["net_correction"].isna().all()
    found = compare(tmp_path / "a", tmp_path / "b")
    assert next(str(each) for each in found.environment) == "backend: native -> openai"
    (point,) = found.points
    assert any(note.startswith("different engines, native and openai") for note in point.notes)
    assert any(note.startswith("timed are other things") for note in point.notes)
    by_name = {judged.metric.name: judged for judged in point.judged}
    right = first["correct"].sum()
    accuracy, tokens = by_name["accuracy"], by_name["tokens_per_answer"]
    assert (accuracy.baseline, accuracy.candidate) == (right / 4, (right - 1) / 4)
    assert tokens.baseline == tokens.candidate == first["delivered_tokens"].mean()
    assert by_name["steps_per_canvas"].candidate is None
    print_comparison(found)
    assert "only the baseline has this metric" in " ".join(capsys.readouterr().out.split())


SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = json.dumps({"data": [{"id": "own"}]}).encode()
        self.send_response(200 if self.path == "/v1/models" else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        choice = {"index": 0, "text": "abcd", "finish_reason": "stop"}
        told = {"choices": [choice], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b"data: " + json.dumps(told).encode() + b"\\n\\n")

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def mine(marker: str) -> list[psutil.Process]:
    """Processes with a word in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(marker in argument for argument in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_server_is_started_for_the_points_of_a_process_and_ended(tmp_path: Path) -> None:
    script = tmp_path / "own_server.py"
    script.write_text(SERVER)
    own = [
        *(each for each in USUAL if "served_model" not in each),
        "backend.launch.engine=command",
        f"backend.launch.args=['{sys.executable}','-S','{script}','{{port}}']",
    ]
    (first,) = compose_points(own, decoding_of, default_sweep=False)
    run = measured(tmp_path / "run", [first, changed({"backend.connections": 2}, first)])
    points = run.points.to_dict("records")
    assert [point["validity"] for point in points] == ["valid", "valid"]
    for point in points:
        assert point["launched"]
        assert str(script) in point["server"]
        assert point["cpu"] is not None
        assert point["drafter"] != "none"  # a command of one's own may draft
    assert mine(str(script)) == []
    capped = changed({"sampler.max_denoising_steps": 8}, first)
    with pytest.raises(ValueError, match="max_denoising_steps cannot be set for engine=command"):
        measured(tmp_path / "other", [capped])


def test_what_a_started_server_shares() -> None:
    """Loads share a process and its server; other steps are another server, and one at a time."""
    own = [each for each in USUAL if "served_model" not in each]
    own += ["backend.launch.engine=transformers"]
    (one,) = compose_points(own, decoding_of, default_sweep=False)
    points = [
        changed({"backend.connections": load, "sampler.max_denoising_steps": steps}, one)
        for load in (1, 4)
        for steps in (8, 16)
    ]
    (tasks,) = blocks(points, set(), 0)
    assert [len(task.points) for task in tasks] == [2, 2]
    assert not fits_together([[p.config for p in task.points] for task in tasks])


def test_a_server_that_runs_needs_no_memory_here(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = [*USUAL, "backend.url=http://127.0.0.1:1/v1", "backend.connections=1,4"]
    assert need(composed().config).total == 0
    print_plan(own, default_sweep=False)
    assert "1 processes in 1 blocks" in capsys.readouterr().out


def test_requests_of_an_older_run_are_read(tmp_path: Path) -> None:
    """Version 5 knew neither loads nor unknown canvases."""
    run, _ = ran(tmp_path / "run", every(ANSWER))
    path = tmp_path / "old.parquet"
    added = ["sent_s", "canvases_unknown"]
    run.requests.assign(schema_version=5, prefill_s=0.1).drop(columns=added).to_parquet(path)
    found = read_table("requests", path)
    assert found["sent_s"].isna().all()
    assert found["slots_committed"].tolist() == [64] * 4
