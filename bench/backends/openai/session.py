"""A server as a session: prompts in, an outcome a request out, its counters read around them.

A request is an answer or a failure with a reason; one that fails leaves the others alone. Nothing
is kept of an outcome once it has been handed over.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from tokenizers import Tokenizer

from bench.backends.capabilities import Capabilities
from bench.backends.openai.arrivals import poisson, read_arrivals
from bench.backends.openai.canvases import CanvasLedger, in_canvases
from bench.backends.openai.capabilities import capabilities
from bench.backends.openai.client import Client, Deadlines
from bench.backends.openai.config import OpenAiConfig
from bench.backends.openai.events import Answer, Ask, Failure
from bench.backends.openai.fetch import FetchError, get
from bench.backends.openai.judge import FINISHES, one_line
from bench.backends.openai.load import closed_loop, open_loop
from bench.backends.openai.metrics import ServerWork, contradicts, server_work, totals
from bench.backends.openai.patience import Patience
from bench.backends.openai.request import Endpoint
from bench.backends.openai.tokens import TokenCount, TokenCounter, TokenEnds
from bench.workloads import Prompt


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request came to.

    Attributes:
        failure: None for a complete answer; a failed one has the tokens that came before.
        finish_reason: eos or length, None for a failed one. `transformers serve` says stop at its
            limit, too, when streaming a diffusion model; tokens over the limit tell.
        wall_s: to the last chunk with text; None where none came.
        ended_s: to the end of the stream, or the failure.
        ledger: None for a failed request and an autoregressive model.
        answer: everything that came of it.
    """

    request_id: int
    failure: Failure | None
    finish_reason: str | None
    wall_s: float | None
    ended_s: float
    count: TokenCount
    ledger: CanvasLedger | None
    answer: Answer


@dataclass(frozen=True, slots=True)
class RunNote:
    """What is known of a run as a whole.

    Attributes:
        window_s: of the requests, on time.perf_counter.
        late_s: the most by which a request was sent after its time; None in a closed loop.
        canvases, tokens: of all requests; None where one of them left it unknown, as a failed one.
        work: by the server's counters, of all its clients; None where they were not read.
        contradictions: what these hold against the run, as reasons: it is invalid with any.
    """

    window_s: tuple[float, float]
    num_answers: int
    num_failures: int
    late_s: float | None
    canvases: int | None
    tokens: int | None
    work: ServerWork | None
    contradictions: list[str]


class OpenAiSession:
    """Asks one server.

    Timed is from handing a request to the client until bytes were read from the socket: connecting,
    queueing, prefill, detokenisation and the network included.

    Args:
        tokenizer: the served model's, to hold the server's counts against; None leaves what the
            server does not tell chunk by chunk unknown.
        ignore_eos: whether answers go on after an end.
        seed: of the times at which requests are sent, where they are random.
        patience, counter: shared with other loads of the same server; a counter given has a
            tokenizer of its own.
    """

    def __init__(
        self,
        config: OpenAiConfig,
        *,
        max_new_tokens: int,
        ignore_eos: bool = False,
        tokenizer: Tokenizer | None = None,
        seed: int | str = 0,
        patience: Patience | None = None,
        counter: TokenCounter | None = None,
    ) -> None:
        self._config = config
        self._seed = seed
        self._patience = patience or Patience()
        self._max_new_tokens = max_new_tokens
        self._knobs = config.request(ignore_eos=ignore_eos)
        self._counter = counter or TokenCounter(
            None if tokenizer is None else token_ends(tokenizer)
        )

    @property
    def capabilities(self) -> Capabilities:
        return capabilities(self._config)

    def check(self, prompts: Iterable[Prompt]) -> None:
        """Refuses prompts that the endpoint cannot be given.

        Raises:
            ValueError: token ids for the chat endpoint.
        """
        for prompt in prompts:
            if prompt.token_ids is not None and self._config.endpoint is Endpoint.chat:
                raise ValueError(
                    f"prompt {prompt.request_id} ({prompt.task}) is token ids, which "
                    "backend.endpoint=chat does not take; valid: backend.endpoint=completions"
                )

    def run(self, prompts: Iterable[Prompt], on_outcome: Callable[[Outcome], None]) -> RunNote:
        """Asks every prompt once, in order, and hands outcomes over as they come.

        Raises:
            ValueError: the variable that should hold the key holds none.
            Exception: what `on_outcome` raises, a full disk as OSError; no more is asked then.
        """
        try:
            return asyncio.run(self._run(prompts, on_outcome))
        except ExceptionGroup as group:  # of a loop's tasks
            raise group.exceptions[0] from None

    async def _run(
        self, prompts: Iterable[Prompt], on_outcome: Callable[[Outcome], None]
    ) -> RunNote:
        total = _Total()

        def judged(answer: Answer) -> None:
            outcome = self.outcome(answer)
            total.add(outcome)
            on_outcome(outcome)

        config = self._config
        client = Client(
            config.url,
            self._knobs,
            connections=config.connections if config.closed else None,
            deadlines=deadlines(config),
            key_variable=config.key_variable,
        )
        patience = self._patience
        patience.begin()

        async def ask(asked: Ask) -> Answer:
            if patience.over is not None:
                return patience.unsent(asked)
            answer = await client.ask(asked)
            patience.note(answer)
            return answer

        async with client:
            arrivals_s = None if config.closed else self._arrivals()
            before = await self._counters()
            begin_s = time.perf_counter()
            late_s = None
            if arrivals_s is None:
                await closed_loop(self._asks(prompts), config.connections, ask, judged)
            else:
                late_s = await open_loop(
                    self._asks(prompts),
                    arrivals_s,
                    ask,
                    judged,
                    at_once=lambda: patience.over is not None,
                )
            window_s = begin_s, time.perf_counter()
            after = await self._counters()
        work = self._work(before, after)
        return RunNote(
            window_s,
            total.num_answers,
            total.num_failures,
            late_s,
            total.canvases,
            total.tokens,
            work,
            [] if work is None else self._contradictions(work, total),
        )

    def _arrivals(self) -> Iterable[float]:
        config = self._config
        if config.rate_per_s is not None:
            return poisson(config.rate_per_s, self._seed)
        assert config.arrivals is not None
        return read_arrivals(config.arrivals).seconds

    def outcome(self, answer: Answer) -> Outcome:
        """Judges an answer: its tokens, its canvases."""
        count = self._counter.count(answer)
        finish = None if answer.failure else FINISHES.get(answer.finish_reason or "")
        if finish is not None and count.over_limit:
            finish = "length"
        length = self._config.canvas_length
        return Outcome(
            request_id=answer.request_id,
            failure=answer.failure,
            finish_reason=finish,
            wall_s=count.deliveries[-1].at_s if count.deliveries else None,
            ended_s=answer.ended_s,
            count=count,
            ledger=None
            if length is None or finish is None
            else in_canvases(count, length, ended=finish == "eos"),
            answer=answer,
        )

    def _asks(self, prompts: Iterable[Prompt]) -> Iterator[Ask]:
        for prompt in prompts:
            asked = prompt.text if prompt.token_ids is None else prompt.token_ids
            yield Ask(prompt.request_id, asked, self._max_new_tokens)

    async def _counters(self) -> dict[str, float] | str | None:
        """The server's counters, or why they could not be read; None where nobody asked."""
        url = self._config.metrics_url
        if url is None:
            return None
        try:
            page = await get(url, self._config.connect_s)  # without the key: it may be another's
        except FetchError as error:
            return f"metrics_unreadable: {error.reason}"
        if page.status != 200:
            return f"metrics_unreadable: http_{page.status}"
        try:
            return totals(page.content.decode(errors="replace"), self._config.served_model)
        except ValueError as error:
            return one_line(f"metrics_unreadable: {error}")

    def _work(
        self, before: dict[str, float] | str | None, after: dict[str, float] | str | None
    ) -> ServerWork | None:
        for reading in (before, after):
            if isinstance(reading, str):
                return ServerWork(None, None, reading)
        if not isinstance(before, dict) or not isinstance(after, dict):
            return None
        return server_work(before, after, self._config.canvas_length)

    def _contradictions(self, work: ServerWork, total: "_Total") -> list[str]:
        return contradicts(
            work,
            canvases=total.canvases,
            tokens=total.tokens,
            max_denoising_steps=self._config.max_denoising_steps,
            forced=not self._config.early_stop,
        )


class _Total:
    """A run's sums; what one request leaves unknown is unknown of all."""

    def __init__(self) -> None:
        self.num_answers = self.num_failures = 0
        self.canvases: int | None = 0
        self.tokens: int | None = 0

    def add(self, outcome: Outcome) -> None:
        failed = outcome.failure is not None
        self.num_failures += failed
        self.num_answers += not failed
        own = None if outcome.ledger is None else outcome.ledger.canvases
        self.canvases = None if own is None or self.canvases is None else self.canvases + len(own)
        reported = None if failed else outcome.count.reported
        self.tokens = None if reported is None or self.tokens is None else self.tokens + reported


def deadlines(config: OpenAiConfig) -> Deadlines:
    """As configured."""
    return Deadlines(
        connect_s=config.connect_s,
        first_byte_s=config.first_byte_s,
        gap_s=config.gap_s,
        whole_s=config.whole_s,
    )


def token_ends(tokenizer: Tokenizer) -> TokenEnds:
    """Where a text's tokens end; the tokenizer adds none of its own."""

    def ends(text: str) -> list[int]:
        offsets = tokenizer.encode(text, add_special_tokens=False).offsets
        return [end for _, end in offsets]

    return ends
