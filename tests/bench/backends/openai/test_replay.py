"""What real servers sent, replayed with their TCP boundaries: the right answer or reason."""

import pytest

from bench.backends.openai.canvases import in_canvases
from bench.backends.openai.events import Answer, Usage
from bench.backends.openai.request import Endpoint, RequestKnobs
from bench.backends.openai.tokens import Source, UsageCheck, count_tokens
from tests.bench.backends.openai.asking import ask_one, reason, token_ends
from tests.bench.backends.openai.captured import exchanges
from tests.bench.backends.openai.scripted_server import replayed

CHAT = RequestKnobs(Endpoint.chat, "dg")
CONTINUOUS = "completions stream, continuous_usage_stats, ignore_eos"


def replay(name: str, title: str, *, max_tokens: int = 64, speed: float = 1e9) -> Answer:
    titles = [each for each in exchanges(name) if each.startswith(title)]
    knobs = CHAT if title.startswith("chat") else RequestKnobs(Endpoint.completions, "dg")
    return ask_one(
        replayed(exchanges(name)[titles[0]], speed=speed), knobs=knobs, max_tokens=max_tokens
    )


def test_captures_are_read_to_the_byte() -> None:
    found = exchanges("vllm_cpu_diffusiongemma")[CONTINUOUS]
    assert [len(read.data) for read in found.reads] == [182, 372, 369, 250, 5]


def test_vllm_sends_a_canvas_a_chunk_and_counts_it() -> None:
    answer = replay("vllm_cpu_diffusiongemma", CONTINUOUS)
    assert (reason(answer), answer.finish_reason, answer.done) == (None, "length", True)
    assert answer.usage == Usage(8, 64)
    count = count_tokens(answer, token_ends)
    assert (count.delivered, count.source, count.usage) == (
        64,
        Source.RUNNING_USAGE,
        UsageCheck.AGREES,
    )
    assert [delivery.tokens for delivery in count.deliveries] == [32, 32]
    ledger = in_canvases(count, 32, ended=False)
    assert ledger.canvases is not None
    assert ([c.tokens for c in ledger.canvases], ledger.slots, ledger.after_eos) == (
        [32, 32],
        64,
        0,
    )


def test_a_chat_that_ends_in_its_first_canvas() -> None:
    answer = replay("vllm_cpu_diffusiongemma", "chat stream")
    assert (reason(answer), answer.text, answer.finish_reason) == (None, ")", "stop")
    assert [chunk.characters for chunk in answer.chunks] == [0, 1]
    count = count_tokens(answer, token_ends)
    # The EOS is no text but a token; the chunk is not taken for one.
    assert (count.delivered, count.retokenised, count.source) == (2, 1, Source.USAGE)
    assert len(count.deliveries) == 1
    ledger = in_canvases(count, 32, ended=True)
    assert ledger.canvases is not None
    assert (len(ledger.canvases), ledger.slots, ledger.after_eos) == (1, 32, 30)


def test_vllm_autoregressive_hides_a_token_in_an_empty_chunk() -> None:
    answer = replay("vllm_cpu_gemma4", CONTINUOUS, max_tokens=6)
    assert answer.chunks[0].characters == 0
    count = count_tokens(answer, None)
    assert count.delivered == 6
    assert [delivery.tokens for delivery in count.deliveries] == [1] * 6


def test_transformers_counts_canvases_when_streaming() -> None:
    """It reports 1 token for a canvas of text, ends without `[DONE]`, and that is an answer."""
    answer = replay("transformers_diffusiongemma", "chat stream")
    assert (reason(answer), answer.finish_reason, answer.done) == (None, "stop", False)
    assert answer.usage == Usage(42, 1)
    count = count_tokens(answer, token_ends)
    assert (count.usage, count.source) == (UsageCheck.COUNTS_CHUNKS, Source.RETOKENISED)
    assert count.delivered == count.retokenised == len(token_ends(answer.text))
    assert count.delivered > 20
    # Nobody can tell without a tokenizer; the number of chunks is never given for tokens.
    blind = count_tokens(answer, None)
    assert blind.usage is UsageCheck.UNCHECKED


def test_transformers_rounds_up_to_whole_canvases() -> None:
    answer = replay("transformers_diffusiongemma", "negative temperature", max_tokens=4)
    count = count_tokens(answer, token_ends)
    assert count.delivered == 4
    assert count.over_limit == len(token_ends(answer.text)) - 4
    ledger = in_canvases(count, 32, ended=False)
    assert ledger.slots == 32 == 4 + (ledger.after_eos or 0) + (ledger.over_limit or 0)


def test_transformers_autoregressive_counts_tokens() -> None:
    answer = replay("transformers_gemma4", "chat stream")
    assert reason(answer) is None
    assert answer.usage is not None
    count = count_tokens(answer, token_ends)
    assert (count.usage, count.source) == (UsageCheck.AGREES, Source.USAGE)
    assert count.delivered == answer.usage.completion_tokens


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("vLLM: engine process killed", "in_band_error"),
        ("vLLM: API server SIGTERM", "in_band_error"),
        ("transformers serve: SIGKILL", "reset"),
        ("vLLM: API server SIGKILL", "reset"),
        ("transformers serve: SIGTERM", None),
    ],
)
def test_a_server_dies(title: str, expected: str | None) -> None:
    """vLLM sends an error event and then `[DONE]`, as if all were well."""
    answer = replay("server_death_mid_stream", title)
    assert reason(answer) == expected
    assert answer.text
    if expected == "in_band_error":
        assert answer.failure is not None
        assert answer.failure.detail.startswith("EngineCore encountered an issue")


def test_an_error_that_is_no_json_is_an_error() -> None:
    """transformers splices an exception's words in unescaped; here they hold a raw 0x03."""
    answer = replay("transformers_inband_error", "transformers serve")
    assert reason(answer) == "in_band_error"
    assert answer.failure is not None
    assert answer.failure.detail.startswith("Invalid prefix encountered")
    assert answer.text == "_\x03"


@pytest.mark.parametrize(
    ("name", "title", "expected", "words"),
    [
        ("vllm_cpu_diffusiongemma", "bad model", "http_404", "The model `nope` does not exist"),
        ("vllm_cpu_diffusiongemma", "temperature+seed", "http_400", "The temperature, min_p, seed"),
        ("vllm_cpu_diffusiongemma", "too long prompt", "http_400", "This model's maximum context"),
        ("transformers_diffusiongemma", CONTINUOUS, "http_422", "Unexpected fields"),
        ("transformers_diffusiongemma", "malformed json", "http_422", '[{"type": "json_invalid"'),
        ("transformers_diffusiongemma", "missing messages", "http_500", "Internal Server Error"),
        ("transformers_diffusiongemma", "completions not streamed", "http_500", "Internal Server"),
        ("vllm_cpu_diffusiongemma", "completions not streamed", "not_a_stream", "the server sent"),
    ],
)
def test_refusals_say_why(name: str, title: str, expected: str, words: str) -> None:
    answer = replay(name, title)
    assert reason(answer) == expected
    assert answer.failure is not None
    assert answer.failure.detail.startswith(words)


def test_arrivals_are_those_of_the_wire() -> None:
    """A capture at five times its speed: no canvas is said to have come before it was sent."""
    title = "four concurrent diffusion streams"
    answer = replay("vllm_cpu_diffusion_concurrent", title, max_tokens=128, speed=5.0)
    sent_s = [1.20654 / 5, 1.96619 / 5, 2.567 / 5, 3.25923 / 5]
    arrived_s = [chunk.at_s for chunk in answer.chunks]
    assert len(arrived_s) == 4
    for sent, arrived in zip(sent_s, arrived_s, strict=True):
        # Late by what a busy machine may take; the gap to the next canvas is not hidden by it.
        assert sent - 0.002 <= arrived < sent + 0.1
    assert answer.opened_s is not None
    assert answer.opened_s < arrived_s[0]
