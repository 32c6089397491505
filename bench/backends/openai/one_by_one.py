"""A server behind the backend protocol: one request at a time, as events of canvases or tokens.

What the protocol has no word for: several requests under way with times of their own
(`session.OpenAiSession`), and requests that fail while others go on. What a server has no word for:
forwards, so no event tells of one and a canvas carries no steps, and the bytes of its weights.
Tokens that it counted and whose ids it showed nobody (an EOS, what lies after one) are `UNSEEN`.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self

from tokenizers import Tokenizer

from bench.backends import Delivery, Forward, Identity, Mark, RowBlock, unmarked
from bench.backends.openai.client import Client
from bench.backends.openai.config import OpenAiConfig
from bench.backends.openai.events import Ask, Failure
from bench.backends.openai.request import Endpoint
from bench.backends.openai.session import OpenAiSession, Outcome, deadlines
from bench.backends.openai.tokens import Source
from bench.thought import Thought
from bench.timing import HostStopwatch, Stopwatch

UNSEEN = -1
"""A token's id that nobody was shown."""


class RequestFailedError(Exception):
    """A request that has no answer."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.reason}: {failure.detail}")
        self.failure = failure


class OneByOneSession:
    """Answers a prompt at a time over one connection, kept open between prompts.

    Args:
        tokenizer: the served model's; turns texts into ids and back.
    """

    def __init__(
        self,
        config: OpenAiConfig,
        *,
        max_new_tokens: int,
        tokenizer: Tokenizer,
        ignore_eos: bool = False,
    ) -> None:
        self._config = config
        self._max_new_tokens = max_new_tokens
        self._tokenizer = tokenizer
        self._judge = OpenAiSession(
            config, max_new_tokens=max_new_tokens, ignore_eos=ignore_eos, tokenizer=tokenizer
        )
        self._texts: dict[tuple[int, ...], str] = {}
        self._arrived_s: float | None = None  # of the event that is being told
        self._runner = asyncio.Runner()
        self._client = Client(
            config.url,
            config.request(ignore_eos=ignore_eos),
            deadlines=deadlines(config),
            key_variable=config.key_variable,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.run(self._client.__aexit__(None, None, None))
        self._runner.close()

    @property
    def identity(self) -> Identity:
        length = self._config.canvas_length
        return Identity(
            model=self._config.served_model,
            decoding="autoregressive" if length is None else "diffusion",
            emulated=False,
            weights="served",
            weights_sha256=None,
            vocab_size=self._tokenizer.get_vocab_size(),
            canvas_length=length,
            device="served",
            eos_token_ids=(),
            thought=Thought.of(self._tokenizer.token_to_id),
        )

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Raises ValueError for ids that are no text, where the endpoint takes text alone."""
        for index, prompt in enumerate(prompts):
            self._asked(index, prompt)

    def encode(self, text: str) -> list[int]:
        """Token ids of the text alone: a chat template is the server's own."""
        ids = list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        self._texts[tuple(ids)] = text
        return ids

    def decode(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode([token for token in tokens if token != UNSEEN]))

    def vocabulary(self, token: int) -> str:
        return "" if token == UNSEEN else str(self._tokenizer.id_to_token(token))

    def stopwatch(self) -> Stopwatch:
        """Its marks are the times at which the events' bytes arrived."""
        return HostStopwatch(self._clock)

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        row_keys: Sequence[int],
        *,
        first_canvas: Sequence[Sequence[int]] | None = None,
        max_new_tokens: int | None = None,
        mark: Mark = unmarked,
    ) -> Iterator[Forward | Delivery]:
        """Asks for one answer and tells its deliveries.

        Raises:
            ValueError: several prompts, or a canvas to start from.
            RequestFailedError: there is no answer.
        """
        if len(prompts) != 1:
            raise ValueError(
                f"batch_size {len(prompts)} has no meaning for a server, which batches by itself; "
                "valid: batch_size=1, and backend.connections for several at a time"
            )
        if first_canvas is not None:
            raise ValueError("a server takes no canvas to start from; valid: measure.max_repairs=0")
        asked = self._asked(row_keys[0], prompts[0])
        room = max_new_tokens or self._max_new_tokens
        answer = self._runner.run(self._client.ask(Ask(row_keys[0], asked, room)))
        if answer.failure is not None:
            raise RequestFailedError(answer.failure)
        try:
            for at_s, delivery in self._deliveries(self._judge.outcome(answer)):
                self._arrived_s = answer.sent_s + at_s
                mark()
                yield delivery
        finally:
            self._arrived_s = None

    def touched_experts(
        self, prompts: Sequence[Sequence[int]], row_keys: Sequence[int]
    ) -> Iterator[tuple[Forward, list[int]]]:
        """Nothing: routers cannot be watched from here."""
        del prompts, row_keys
        return iter(())

    def _clock(self) -> float:
        return time.perf_counter() if self._arrived_s is None else self._arrived_s

    def _asked(self, request_id: int, prompt: Sequence[int]) -> str | tuple[int, ...]:
        """What the endpoint is given: the text that was encoded, or the ids."""
        text = self._texts.get(tuple(prompt))
        if text is None and self._config.endpoint is Endpoint.chat:
            raise ValueError(
                f"prompt {request_id} is token ids, which backend.endpoint=chat does not take; "
                "valid: backend.endpoint=completions"
            )
        return tuple(prompt) if text is None else text

    def _deliveries(self, outcome: Outcome) -> Iterator[tuple[float, Delivery]]:
        """Blocks in order: canvases where they can be told, else what each chunk brought."""
        ids, ledger = self._ids(outcome), outcome.ledger
        room = outcome.answer.max_tokens
        if ledger is not None and ledger.canvases is not None:
            blocks = [(canvas.at_s, canvas.tokens) for canvas in ledger.canvases]
            length = self._config.canvas_length or 0
        else:
            blocks = [(each.at_s, each.tokens or 0) for each in outcome.count.deliveries]
            length = 0
        begin = 0
        for index, (at_s, num_tokens) in enumerate(blocks):
            last = index == len(blocks) - 1
            shown = ids[begin:] if last else ids[begin : begin + num_tokens]
            begin += len(shown)
            tokens = shown[:room]
            room -= len(tokens)
            slots = shown + [UNSEEN] * (length - len(shown))
            unseen = len(slots) - len(shown)
            ended = outcome.finish_reason == "eos"
            row = RowBlock(
                tokens=tokens,
                slots=slots,
                after_eos=unseen if ended else 0,
                over_limit=len(shown) - len(tokens) + (0 if ended else unseen),
                row_ended=0,
                steps=0,
                stop_reason=None,
                finish_reason=outcome.finish_reason if last else None,
            )
            yield at_s, Delivery(index, [row], None)

    def _ids(self, outcome: Outcome) -> list[int]:
        """As many ids as were counted: the server's own, or the text's and then `UNSEEN` ones."""
        answer, count = outcome.answer, outcome.count
        if count.by_chunk is Source.TOKEN_IDS:
            return [each for chunk in answer.chunks for each in chunk.ids or ()]
        text = answer.reasoning + answer.text
        ids = list(self._tokenizer.encode(text, add_special_tokens=False).ids)
        num_counted = (count.delivered or 0) + count.over_limit
        return ids + [UNSEEN] * (num_counted - len(ids))
