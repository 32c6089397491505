"""`transformers serve` of both siblings: real streams counted and judged; answers as ours.

What this server does otherwise than others: it sends no [DONE], reports canvases as tokens when it
streams a diffusion model, rounds an answer up to whole canvases, and answers 200 when it fails.
"""

import asyncio
from collections.abc import Hashable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import model as engine
from bench import compare
from bench.backends.openai.client import Client
from bench.backends.openai.events import Answer, Ask
from bench.backends.openai.request import Endpoint, RequestKnobs
from bench.backends.openai.session import OpenAiSession, Outcome, RunNote
from bench.backends.openai.tokens import Source, UsageCheck
from bench.servers import Running
from bench.servers.export import export
from bench.stats import PromptSums, Status, content_verdict
from bench.store import Run
from tests.bench.servers.answers import LIMIT, NUM_PROMPTS, config, native, ours, prompts
from tests.bench.servers.command_line import argument_list, run_command

RUN_PROMPTS = 12


@pytest.fixture(scope="module")
def outcomes(served: dict[str, Running]) -> dict[str, tuple[list[Outcome], RunNote]]:
    """Every prompt asked of both servers, four at a time; by decoding."""
    found = {}
    for decoding, running in served.items():
        told: list[Outcome] = []
        session = OpenAiSession(
            config(running, decoding, connections=4),
            max_new_tokens=LIMIT,
            tokenizer=native(decoding).loaded.tokenizer,
        )
        note = session.run(prompts(), told.append)
        found[decoding] = (sorted(told, key=lambda o: o.request_id), note)
    return found


def test_the_exported_pair_is_the_shipped_one(checkpoints: dict[str, Path]) -> None:
    for decoding, folder in checkpoints.items():
        exported, shipped = engine.load(str(folder)), native(decoding).loaded
        assert exported.config == replace(
            shipped.config, name=folder.name, sibling=exported.config.sibling
        )
        theirs, own = exported.model.state_dict(), shipped.model.state_dict()
        assert theirs.keys() == own.keys()
        assert all(torch.equal(theirs[name], own[name]) for name in own)


def test_only_the_tiny_pair_in_what_it_can_be_is_exported(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="valid: tiny-diffusion, tiny-autoregressive"):
        export("diffusiongemma-26b-a4b", tmp_path / "one")
    with pytest.raises(ValueError, match="fp8"):
        export("tiny-diffusion", tmp_path / "two", precision="fp8")


Outcomes = dict[str, tuple[list[Outcome], RunNote]]


@pytest.mark.parametrize("decoding", ["diffusion", "autoregressive"])
def test_every_answer_is_complete_without_done(outcomes: Outcomes, decoding: str) -> None:
    told, note = outcomes[decoding]
    assert [outcome.failure for outcome in told] == [None] * NUM_PROMPTS
    assert (note.num_answers, note.num_failures, note.work) == (NUM_PROMPTS, 0, None)
    assert not any(outcome.answer.done for outcome in told)


def test_greedy_answers_are_ours_token_by_token(outcomes: Outcomes) -> None:
    told, _ = outcomes["autoregressive"]
    for outcome, record in zip(told, ours("autoregressive"), strict=True):
        assert outcome.answer.text == record.text
        assert outcome.finish_reason == record.finish_reason
        assert outcome.count.usage is UsageCheck.AGREES
        assert outcome.count.delivered == outcome.count.reported == record.delivered_tokens
        # The server counts the end of text, and does not show it.
        hidden = record.finish_reason == "eos"
        assert outcome.count.retokenised == record.delivered_tokens - hidden
    right = [p.is_correct(o.answer.text) for p, o in zip(prompts(), told, strict=True)]
    assert right == [record.correct for record in ours("autoregressive")]
    assert sum(map(bool, right)) > 0.8 * NUM_PROMPTS


def test_a_diffusion_servers_usage_counts_canvases_and_is_found_out(outcomes: Outcomes) -> None:
    """From the first answer on that is long enough for the text alone to tell."""
    told, _ = outcomes["diffusion"]
    found_out = 0
    for outcome in told:
        count = outcome.count
        with_text = [chunk for chunk in outcome.answer.chunks if chunk.characters]
        assert count.reported == len(with_text)
        assert count.retokenised == len(outcome.answer.text)
        assert outcome.ledger is not None
        assert outcome.ledger.canvases is not None
        assert len(outcome.ledger.canvases) == len(with_text)
        if count.retokenised > count.reported + 2:
            found_out += 1
            assert count.usage is UsageCheck.COUNTS_CHUNKS
            assert count.source is Source.RETOKENISED
            assert count.delivered == count.retokenised
    # Of the right answers 14 are long enough; which are right is chance.
    assert found_out > 0.5 * NUM_PROMPTS
    caught_s = min(o.ended_s for o in told if o.count.usage is UsageCheck.COUNTS_CHUNKS)
    later = [outcome.count for outcome in told if outcome.ended_s > caught_s]
    # The server draws its own noise: whether a short answer comes after the first caught is chance.
    assert {count.usage for count in later} <= {UsageCheck.COUNTS_CHUNKS, UsageCheck.DISTRUSTED}
    assert {count.source for count in later} == {Source.RETOKENISED}
    assert any((outcome.count.reported or 0) > 1 for outcome in told)


def test_diffusion_answers_are_as_often_right_and_as_long_as_ours(outcomes: Outcomes) -> None:
    """As distributions, by prompt: its noise is its own. At a level that chance hardly reaches."""
    told, _ = outcomes["diffusion"]
    records = ours("diffusion")
    right = (
        [bool(p.is_correct(o.answer.text)) for p, o in zip(prompts(), told, strict=True)],
        [bool(record.correct) for record in records],
    )
    tokens = [len(o.answer.text) for o in told], [len(record.text) for record in records]
    ones = np.ones(NUM_PROMPTS)
    for theirs, mine in (right, tokens):
        arms = (PromptSums(np.asarray(arm, dtype=float), ones) for arm in (theirs, mine))
        found = content_verdict(*arms, 0.02, None, relative=False, level=1e-4).verdict
        assert found.interval is not None
        assert found.interval[0] <= 0 <= found.interval[1], found
    assert min(map(np.mean, right)) > 0.6


def run_of(running: Running, decoding: str, folder: Path) -> tuple[Run, dict[Hashable, Any]]:
    """The command's own run of a server, and its point: what no server tells is unknown."""
    run = run_command(
        folder,
        *(f"model=tiny-{decoding}", f"workload.num_prompts={RUN_PROMPTS}"),
        *("backend=openai", f"backend.url={running.url}", "backend.connections=3"),
        f"backend.served_model={running.served_model}",
    )
    (point,) = run.points.to_dict("records")
    assert point["validity"] != "invalid", point["validity_reason"]
    assert (point["backend"], point["connections"]) == ("openai", 3)
    assert len(run.requests) == RUN_PROMPTS
    for unknown in ("step_ms", "prefill_ms", "steps_per_canvas_median", "net_correction"):
        assert np.isnan(point[unknown]), unknown
    return run, point


def test_a_run_has_the_servers_answers_and_says_what_it_cannot_tell(
    served: dict[str, Running], tmp_path: Path
) -> None:
    run, point = run_of(served["autoregressive"], "autoregressive", tmp_path)
    rows = run.requests.sort_values("request_id")
    records = ours("autoregressive")[:RUN_PROMPTS]
    assert rows["text"].tolist() == [record.text for record in records]
    assert point["accuracy"] == np.mean([bool(record.correct) for record in records])
    assert rows["delivered_tokens"].tolist() == [r.delivered_tokens for r in records]


@pytest.mark.slow
def test_runs_of_two_engines_are_compared_by_their_contents(
    served: dict[str, Running], tmp_path: Path
) -> None:
    """Noise cannot be shared over HTTP: accuracy and tokens are judged by prompt."""
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    theirs, served_point = run_of(served["diffusion"], "diffusion", tmp_path / "theirs")
    assert served_point["accuracy"] > 0.5
    mine = run_command(
        tmp_path / "ours", "model=tiny-diffusion", f"workload.num_prompts={RUN_PROMPTS}"
    )
    found = compare(mine.path, theirs.path, bound=0.5)
    assert any(str(each) == "backend: native -> openai" for each in found.environment)
    (point,) = found.points
    judged = {each.metric.name: each for each in point.judged}
    for name in ("accuracy", "tokens_per_answer"):
        status = judged[name].verdict.status
        assert status in (Status.EQUIVALENT, Status.AMBIGUOUS), judged[name]
    assert judged["accuracy"].verdict.n == RUN_PROMPTS
    assert judged["steps_per_canvas"].candidate is None


def asked(running: Running, ask: Ask, **knobs: object) -> Answer:
    async def run() -> Answer:
        known = {"endpoint": Endpoint.chat, "model": running.served_model}
        request = RequestKnobs(**(known | knobs))  # type: ignore[arg-type]
        async with Client(running.url, request) as client:
            return await client.ask(ask)

    return asyncio.run(run())


def reason(answer: Answer) -> str:
    assert answer.failure is not None
    return answer.failure.reason


def test_an_error_within_a_stream_of_status_200_is_a_failure(served: dict[str, Running]) -> None:
    """No tokens asked for: generation refuses when the stream has long begun."""
    for running in served.values():
        answer = asked(running, Ask(0, "add 12+34=", 0))
        assert reason(answer) == "in_band_error"
        assert answer.opened_s is not None
        assert answer.finish_reason is None


def test_what_it_refuses_is_told_with_its_words(served: dict[str, Running]) -> None:
    running = served["autoregressive"]
    ask = Ask(0, "add 12+34=", 8)
    answer = asked(running, ask, model="nope")
    assert reason(answer) == "http_400"
    assert answer.failure is not None
    assert "'nope'" in answer.failure.detail
    assert reason(asked(running, ask, ignore_eos=True)) == "http_422"
    tokens = Ask(0, (5, 6, 7), 8)
    assert reason(asked(running, tokens, endpoint=Endpoint.completions)) == "http_400"


def test_a_canvas_over_the_limit_is_told_from_what_was_asked_for(
    served: dict[str, Running],
) -> None:
    """Asked for 4 tokens it sends the whole canvas; 4 of them are delivered."""
    running, prompt = served["diffusion"], prompts()[0]
    session = OpenAiSession(
        config(running, "diffusion"),
        max_new_tokens=4,
        tokenizer=native("diffusion").loaded.tokenizer,
    )
    told: list[Outcome] = []
    session.run([prompt], told.append)
    assert told[0].count.delivered == 4
    assert told[0].count.over_limit == len(told[0].answer.text) - 4 > 0
    assert told[0].finish_reason == "length"


def test_running_servers_say_what_they_are(served: dict[str, Running]) -> None:
    for decoding, running in served.items():
        assert running.version == f"transformers {version('transformers')}"
        assert (running.served_model, running.metrics_url) == (f"tiny-{decoding}", None)
        assert "--trust-remote-code" not in running.command


@pytest.mark.slow
def test_the_command_starts_a_server_for_each_model_and_ends_it(tmp_path: Path) -> None:
    run = run_command(
        tmp_path,
        *("model=tiny-diffusion,tiny-autoregressive", "workload.num_prompts=4"),
        *("backend=openai", "backend.launch.engine=transformers"),
        argument_list(["--device", "cpu"]),
    )
    points = run.points.to_dict("records")
    assert len(points) == 2
    for point in points:
        assert point["validity"] != "invalid", point["validity_reason"]
        assert point["launched"]
        assert str(point["server"]).startswith(f"transformers {version('transformers')} as ")
        assert point["accuracy"] >= 0.5
    logs = [path for path in (run.path / "logs").iterdir() if path.name.endswith(".server.log")]
    assert len(logs) == 2
    assert all("Loading tiny-" in log.read_text() for log in logs)
