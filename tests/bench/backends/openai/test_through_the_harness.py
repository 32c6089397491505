"""Whole runs of `backend=openai`: their tables, their validity and their pages."""

import json
from collections import Counter
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bench.backends.openai.metrics import COMMITTED, GENERATED, POSITIONS, STEPS
from bench.build import build_sessions, check_points
from bench.report import print_summary
from bench.store import Run
from tests.bench.backends.openai.running import (
    ANSWER,
    Knobs,
    changed,
    composed,
    every,
    ran,
    slow,
    tabled,
)
from tests.bench.backends.openai.scripted_server import (
    DONE,
    Script,
    Wire,
    event,
    refuses,
    sends,
    text_event,
)
from tests.bench.backends.openai.test_bad_servers import BAD

SHORT = {"connect_s": 1.0, "first_byte_s": 1.0, "gap_s": 0.8, "whole_s": 1.6}
NO_SHORT_LINE = "too long a line"  # is one for the limit by itself, of 10 MB
TEN_MEGABYTES = sends(*[b"data: " + b"x" * 1_000_000] * 11)


def only(run: Run) -> dict[str, Any]:
    (point,) = run.points.to_dict("records")
    return {str(name): None if pd.isna(value) else value for name, value in point.items()}


def test_every_bad_server_is_a_row_and_the_others_go_on(tmp_path: Path) -> None:
    """Eight requests under way at a time: a bad answer, then a good one, and so on."""
    cases = [case for name, case in BAD.items() if name != NO_SHORT_LINE]
    cases.append((TEN_MEGABYTES, "too_long_line"))
    scripts = [script for case, _ in cases for script in (case, ANSWER)]
    run, _ = ran(
        tmp_path / "run",
        lambda i: scripts[i],
        {"backend.connections": 8, "workload.num_prompts": len(scripts)}
        | {f"backend.{name}": seconds for name, seconds in SHORT.items()},
    )
    failed = run.table("failed_requests")
    assert failed is not None
    assert Counter(failed["failure"]) == Counter(reason for _, reason in cases)
    assert run.requests["delivered_tokens"].tolist() == [35] * len(cases)
    point = only(run)
    assert (point["validity"], point["failed_requests"]) == ("invalid", len(cases))
    told = f"requests_failed: {len(cases)} of {len(scripts)} requests failed: malformed_event"
    assert point["validity_reason"].startswith(told)
    print_summary(run)


def test_a_run_knows_what_a_server_tells_and_nothing_else(tmp_path: Path) -> None:
    run, _ = ran(tmp_path / "run", every(ANSWER), {"measure.num_repeats": 2}, page=True)
    point = only(run)
    assert (point["validity"], point["num_canvases"], point["num_requests"]) == ("valid", 8, 8)
    assert run.requests["slots_committed"].tolist() == [64] * 8
    assert run.requests["prompt_tokens"].tolist() == [8] * 8  # as the server says
    assert point["delivered_tok_per_s"] > 0
    assert point["decode_tok_per_s"] > 0
    told = json.loads(point["capabilities"])
    assert (told["steps"], told["device_time"], told["seeds"]) == ("none", False, False)
    for unknown in (
        *told["missing"],
        "max_denoising_steps",
        "early_stop",
        "torch",
        "cpu",
        "driver",
    ):
        assert point[unknown] is None, unknown
    assert (point["device"], point["weights"]) == ("served", "served")
    assert (point["server"], point["launched"]) == ("scripted 1.2", False)
    assert "until the bytes of its last text were read" in point["timed"]
    page = (tmp_path / "run" / "report.html").read_text()
    for metric, reason in told["missing"].items():
        assert metric in page
        assert escape(reason).replace("&#x27;", "&#39;") in page
    assert not {"steps", "canvas", "repair"} & {p.stem for p in (tmp_path / "run/plots").iterdir()}
    print_summary(run)


def test_connections_are_an_axis_of_one_process(tmp_path: Path) -> None:
    axis = [{"workload.num_prompts": 8, "backend.connections": n} for n in (1, 4)]
    run, _ = ran(tmp_path / "run", every(slow(0.1)), *axis)
    by_id = run.points.set_index("point_id")
    one, four = (by_id[by_id["connections"] == n].iloc[0] for n in (1, 4))
    for n, row in ((1, one), (4, four)):
        own = run.requests[run.requests["point_id"] == row.name].sort_values("sent_s")
        ends = own["sent_s"] + own["wall_s"]
        together = max(int(((own["sent_s"] <= t) & (ends > t)).sum()) for t in own["sent_s"])
        assert together == n
        loads = run.table("loads")
        assert loads is not None
        window_s = float(loads.loc[loads["point_id"] == row.name, "window_s"].iloc[0])
        assert row["system_tok_per_s"] == pytest.approx(8 * 35 / window_s)
        assert row["delivered_tok_per_s"] == pytest.approx(8 * 35 / own["wall_s"].sum())
    # A stall of the machine lengthens a load's requests and its window alike.
    assert one["system_tok_per_s"] <= one["delivered_tok_per_s"]
    assert four["system_tok_per_s"] > 2 * four["delivered_tok_per_s"]


def test_requests_at_the_times_of_a_file(tmp_path: Path) -> None:
    times = tmp_path / "times.txt"
    times.write_text("0\n0.02\n0.1\n0.12\n")
    point, tables, _ = tabled(every(slow(0.6)), arrivals=str(times))
    sent = sorted(tables["requests"]["sent_s"])
    for at_s, got in zip((0.0, 0.02, 0.1, 0.12), sent, strict=True):
        assert at_s - 0.001 <= got < at_s + 0.5  # and not after the answer before it
    assert (point["connections"], point["rate_per_s"]) == (None, None)
    assert len(point["arrivals_sha256"]) == 64


def test_requests_at_random_times_differ_from_repeat_to_repeat() -> None:
    point, tables, _ = tabled(every(slow(0.1)), rate_per_s=100.0, repeats=2)
    assert (point["connections"], point["rate_per_s"]) == (None, 100.0)
    sent = [sorted(own["sent_s"]) for _, own in tables["requests"].groupby("repeat")]
    assert sent[0] != pytest.approx(sent[1], abs=1e-4)


@pytest.mark.parametrize(
    ("num_failed", "validity", "reason"),
    [
        (1, "low_validity", "1 of 30 requests failed: http_503 1"),
        (2, "invalid", "requests_failed: 2 of 30 requests failed: http_503 1, in_band_error 1"),
        (30, "invalid", "requests_failed: 30 of 30 requests failed: http_503 29, in_band_error 1"),
    ],
)
def test_failures_and_validity(num_failed: int, validity: str, reason: str) -> None:
    error = sends(event({"error": {"message": "gone"}}))

    def choose(i: int) -> Script:
        if i >= num_failed:
            return ANSWER
        return error if i == 1 else refuses("503 Unavailable", b"later")

    point, _, _ = tabled(choose, prompts=30)
    assert (point["validity"], point["validity_reason"]) == (validity, reason)
    assert (point["num_prompts"], point["num_requests"]) == (30, 30 - num_failed)
    assert (point["delivered_tok_per_s"] is None) == (num_failed == 30)


def test_a_run_without_any_answer_has_a_page(tmp_path: Path) -> None:
    run, _ = ran(tmp_path / "run", every(refuses("503 Unavailable", b"later")), page=True)
    point = only(run)
    assert (run.requests, point["delivered_tok_per_s"], point["accuracy"]) == (None, None, None)
    assert (point["validity"], point["num_processes"], point["num_prompts"]) == ("invalid", 1, 4)
    assert "4 of 4 requests failed" in (tmp_path / "run" / "report.html").read_text()
    print_summary(run)


def counters(*readings: tuple[int, int, int]) -> Script:
    """A page of metrics a reading: steps with commits, committed tokens, generated tokens."""
    left = iter(readings)

    async def script(wire: Wire) -> None:
        steps, committed, generated = next(left)
        values = {STEPS: steps, POSITIONS: steps * 32, COMMITTED: committed, GENERATED: generated}
        page = "".join(f'{name}{{model_name="dg"}} {value}\n' for name, value in values.items())
        await refuses("200 OK", page.encode(), "content-type: text/plain")(wire)

    return script


@pytest.mark.parametrize(
    ("after", "knobs", "expected"),
    [
        # 8 canvases of 5 denoise steps and a commit each, 140 tokens.
        (
            (48, 256, 140),
            {"max_denoising_steps": 5, "early_stop": False},
            (5, "valid", None),
        ),
        ((48, 256, 140), {"max_denoising_steps": 6}, (6, "valid", None)),
        (
            (48, 256, 140),
            {"max_denoising_steps": 4},
            (4, "invalid", "max_denoising_steps_without_effect"),
        ),
        (
            (48, 256, 140),
            {"max_denoising_steps": 6, "early_stop": False},
            (6, "invalid", "early_stop_without_effect"),
        ),
        ((60, 320, 140), {}, (None, "invalid", "canvases_differ_from_the_servers")),
        ((48, 256, 141), {}, (None, "invalid", "tokens_differ_from_the_servers")),
    ],
)
def test_the_servers_counters_are_held_against_a_run(
    after: tuple[int, int, int],
    knobs: dict[str, Any],
    expected: tuple[int | None, str, str | None],
) -> None:
    point, tables, _ = tabled(
        every(ANSWER),
        metrics_url="http://127.0.0.1:PORT/metrics",
        pages={"/metrics": counters((0, 0, 0), after)},
        **knobs,
    )
    found = (point["max_denoising_steps"], point["validity"], point["validity_reason"])
    assert found == expected
    assert point["server_canvases"] == after[1] // 32
    assert point["server_steps_per_canvas"] == 5.0
    assert tables["canvases"]["steps"].isna().all()


@pytest.mark.parametrize(("generated", "validity"), [(8, "valid"), (9, "invalid")])
def test_an_autoregressive_servers_tokens_are_held_against_its_own(
    generated: int, validity: str
) -> None:
    script = sends(text_event("a", usage=1), text_event("", finish="stop", usage=2))
    point, tables, _ = tabled(
        every(script),
        model="tiny-autoregressive",
        metrics_url="http://127.0.0.1:PORT/metrics",
        pages={"/metrics": counters((0, 0, 0), (0, 0, generated))},
    )
    assert (point["validity"], point["server_canvases"]) == (validity, None)
    assert tables["loads"]["server_tokens"].tolist() == [generated]


def test_a_step_cap_without_counters_is_unknown() -> None:
    point, tables, _ = tabled(
        every(ANSWER),
        max_denoising_steps=5,
        early_stop=False,
        metrics_url="http://127.0.0.1:PORT/metrics",
        pages={"/metrics": refuses("404 Not Found", b"")},
    )
    assert (point["max_denoising_steps"], point["early_stop"]) == (None, None)
    assert tables["loads"]["server_reason"].tolist() == ["metrics_unreadable: http_404"]


def test_an_answer_that_cannot_be_cut_into_canvases() -> None:
    """No running count and a chunk of more than a canvas: its tokens are known, its slots not."""
    usage = event({"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 51}})
    script = sends(text_event("a" * 50), text_event("", finish="stop"), usage)
    point, tables, _ = tabled(every(script), running_usage=False)
    assert (point["validity"], point["num_canvases"]) == ("valid", None)
    requests = tables["requests"]
    assert requests["delivered_tokens"].tolist() == [51] * 4
    assert requests["slots_committed"].isna().all()
    assert set(requests["canvases_unknown"]) == {"a_chunk_holds_more_than_a_canvas"}
    assert (point["slot_tok_per_s"], point["canvas_fill"]) == (None, None)


def test_what_other_tools_would_print() -> None:
    _, tables, _ = tabled(every(ANSWER))
    theirs = tables["reconciled"].set_index(["tool", "name"])["value"]
    load = tables["loads"].iloc[0]
    assert theirs["vllm bench serve", "Total generated tokens"] == 140
    assert theirs["vllm bench serve", "Output token throughput (tok/s)"] == pytest.approx(
        140 / load["window_s"]
    )
    first_s = tables["requests"]["first_canvas_s"].mean()
    assert theirs["vllm bench serve", "Mean TTFT (ms)"] == pytest.approx(1e3 * first_s)
    assert theirs["AIPerf", "Time to First Token (ms), avg"] == pytest.approx(1e3 * first_s)


KEY = "k3y-of-mine-0123456789"
HOSTILE = "<script>alert(1)</script>"


def test_the_key_is_nowhere_in_a_run_and_hostile_text_is_escaped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that repeats the key, and scripts of its own, wherever it can say something."""
    monkeypatch.setenv("MY_ENDPOINT", KEY)
    said = f"{KEY} {HOSTILE}"
    loud = (
        sends(text_event(said, usage=32), text_event("", finish="stop", usage=33)),
        sends(text_event(said, usage=32), event({"error": {"message": said}})),
        refuses("500 Internal Server Error", said.encode()),
        refuses("307 Temporary Redirect", b"", f"location: http://{KEY}.example/<i>"),
    )
    models = json.dumps({"data": [{"id": "dg", "owned_by": said}]}).encode()
    run, server = ran(
        tmp_path / "run",
        lambda i: loud[i],
        {"backend.key_variable": "MY_ENDPOINT"},
        page=True,
        pages={
            "/v1/models": refuses("200 OK", models),
            "/version": refuses("200 OK", json.dumps({"version": KEY}).encode()),
        },
    )
    print_summary(run)
    assert all(r.headers["authorization"] == f"Bearer {KEY}" for r in server.requests)
    assert len(run.table("failed_requests")) == 3
    tables = {f.stem: pd.read_parquet(f).to_csv() for f in run.path.glob("*.parquet")}
    files = {str(f): f.read_bytes() for f in run.path.rglob("*") if f.is_file()}
    printed = capsys.readouterr()
    assert not [name for name, text in tables.items() if KEY in text]
    assert not [name for name, content in files.items() if KEY.encode() in content]
    assert KEY not in printed.out + printed.err
    page = (run.path / "report.html").read_text()
    assert "Requests without an answer (3)" in page
    assert "&lt;script&gt;alert(1)" in page
    assert HOSTILE not in page


FIXED = ("workload=fixed_work", "weights=dummy")


@pytest.mark.parametrize(
    ("group", "knobs", "words"),
    [
        ((), {"batch_size": 2}, "batch_size with backend=openai is 2; it must be 1"),
        ((), {"backend.canvas_length": 16}, "backend.canvas_length is 16; valid: 32"),
        ((), {"sampler.max_denoising_steps": 8}, "sampler.max_denoising_steps=8 is told to no"),
        ((), {"sampler.entropy_bound": 0.2}, "sampler.entropy_bound=0.2 is told to no server"),
        ((), {"sampler.min_belief": 0.1}, "sampler.min_belief=0.1 is told to no server; valid: 0"),
        ((), {"measure.timeout_s": 1500.0}, "measure.timeout_s is 1500, which ends the process"),
        (FIXED, {}, "valid: backend.endpoint=completions"),
        (
            FIXED,
            {"backend.endpoint": "completions"},
            "needs backend.max_denoising_steps=N backend.early_stop=false",
        ),
        ((), {"weights": "dummy"}, "weights=dummy has no tokenizer"),
        (
            ("model=tiny-autoregressive",),
            {"backend.max_denoising_steps": 4},
            "belong to a diffusion model",
        ),
        ((), {"backend.connections": 2, "backend.rate_per_s": 3.0}, "are different loads"),
        ((), {"backend.arrivals": "/nowhere"}, "backend.arrivals=/nowhere cannot be read"),
        (
            (),
            {"backend.launch.engine": "vllm"},
            "backend.url is http://127.0.0.1:1/v1 with backend.launch.engine=vllm",
        ),
    ],
)
def test_what_is_refused_before_anything_is_asked(
    group: tuple[str, ...], knobs: Knobs, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        check_points([changed(knobs, composed(*group)).config])


def test_one_server_serves_one_model() -> None:
    other = {"precision": "bf16"}
    with pytest.raises(ValueError, match="precision is fp32 and bf16 with one server"):
        check_points([composed().config, changed(other).config])
    sibling = composed("model=tiny-autoregressive")
    with pytest.raises(ValueError, match="model is tiny-diffusion and tiny-auto"):
        check_points([composed().config, sibling.config])


def test_too_few_times_are_refused(tmp_path: Path) -> None:
    (tmp_path / "times.txt").write_text("0\n1\n")
    point = changed({"backend.arrivals": f"{tmp_path}/times.txt"})
    with pytest.raises(ValueError, match="holds 2 times for 4 prompts"):
        check_points([point.config])


@pytest.mark.parametrize(
    ("models", "words"),
    [
        (refuses("401 Unauthorized", b""), "http_401; valid: the server's key"),
        (refuses("200 OK", b'{"data": [{"id": "other"}]}'), "served_model is 'dg'; served: other"),
    ],
)
def test_a_server_that_cannot_be_asked_ends_the_run(models: Script, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tabled(every(ANSWER), pages={"/v1/models": models})


def test_nobody_listens() -> None:
    with pytest.raises(ValueError, match="connect_refused"):
        build_sessions(["p"], [composed().config], 0)


@pytest.mark.parametrize("page", [refuses("404 No", b"x"), refuses("200 OK", b"[" * 99_999)])
def test_a_server_that_says_nothing_of_itself_is_asked(page: Script) -> None:
    point, _, _ = tabled(every(ANSWER), pages={"/v1/models": page, "/version": page})
    assert (point["server"], point["validity"]) == (None, "valid")


def test_an_autoregressive_server() -> None:
    script = sends(
        *(text_event(c, usage=i + 1) for i, c in enumerate("abc")),
        text_event("", finish="stop", usage=4),
    )
    point, tables, server = tabled(every(script), model="tiny-autoregressive")
    assert (point["validity"], point["decoding"]) == ("valid", "autoregressive")
    assert tables["requests"]["delivered_tokens"].tolist() == [4] * 4
    assert tables["canvases"].empty
    assert point["decode_tok_per_s"] > 0
    asked = [r.body for r in server.requests if r.body]
    assert [body["temperature"] for body in asked] == [0.0] * 4  # as sampler=greedy has it


def test_warm_up_counts_for_nothing() -> None:
    """Requests before the timed ones; that some fail is nobody's failure."""
    point, tables, server = tabled(
        lambda i: refuses("503 Unavailable", b"") if i < 3 else ANSWER, warm_up=3
    )
    assert len([r for r in server.requests if r.body]) == 3 + 4
    assert (point["num_requests"], point["failed_requests"]) == (4, 0)
    assert len(tables["loads"]) == 1


def test_a_server_caught_in_its_warm_up_is_believed_no_total_afterwards() -> None:
    """A chunk counted as one token: by "ab" alone that cannot be told."""
    long, short = (
        sends(text_event(text, usage=1, finish="stop"), DONE) for text in ("abcdefghij", "ab")
    )

    def tokens(warm_up: int) -> list[int]:
        _, tables, _ = tabled(
            lambda i: long if i < warm_up else short, prompts=2, warm_up=warm_up, connections=1
        )
        return [int(value) for value in tables["requests"]["delivered_tokens"]]

    assert tokens(warm_up=1) == [2, 2]
    assert tokens(warm_up=0) == [1, 1]
