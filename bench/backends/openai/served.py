"""A server as the harness measures it: all prompts of a repeat as a load, and its records.

While a load runs its outcomes go to a spool; records are made of them when somebody reads them.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bench.backends import Identity, Loaded
from bench.backends.capabilities import Capabilities
from bench.backends.openai.arrivals import read_arrivals
from bench.backends.openai.config import OpenAiConfig
from bench.backends.openai.outcomes import answered_request, failed_request, was_measured
from bench.backends.openai.patience import Patience
from bench.backends.openai.reconcile import Seen, other_tools
from bench.backends.openai.request import Endpoint
from bench.backends.openai.session import OpenAiSession, Outcome, RunNote, token_ends
from bench.backends.openai.spool import Made, Spool
from bench.backends.openai.tokens import TokenCounter
from bench.chat_template import ChatTemplate, encode_prompt
from bench.records import FailedRequest, LoadRecord, Reconciled, RequestRecord
from bench.workloads import Prompt


@dataclass(frozen=True, kw_only=True, slots=True)
class ServedModel:
    """What the harness knows of the model behind a server.

    Attributes:
        weights: served where nobody but the server knows.
        tokenizer: None where the prompts are token ids and the server counts the answers.
        template: what prompts are put into before they go to the completions endpoint; the chat
            endpoint has the server's own.
        machine: of this machine where the server runs on it, by the names of
            `bench.provenance.machine`; empty for unknown.
    """

    name: str
    decoding: str
    vocab_size: int
    bos_token_id: int
    eos_token_ids: tuple[int, ...]
    tokenizer: Tokenizer | None
    max_new_tokens: int
    ignore_eos: bool
    seed: int
    weights: str = "served"
    weights_sha256: str | None = None
    template: ChatTemplate | None = None
    machine: dict[str, Any] = field(default_factory=dict)


class ServedSession:
    """Sends a point's load to one server.

    Args:
        config: with the canvas length of the model, None for an autoregressive one.
        server: what the server says it is, None for nothing.
        stack: ends the server with the session where it was started for it.
        folder: on whose disk a load's outcomes lie until they are read; None for the system's
            folder of temporary files.
    """

    def __init__(
        self,
        config: OpenAiConfig,
        model: ServedModel,
        *,
        server: str | None,
        stack: ExitStack,
        folder: Path | None = None,
    ) -> None:
        self._config, self._model, self._server = config, model, server
        self._stack, self._folder = stack, folder
        self._patience = Patience()
        tokenizer = model.tokenizer
        self._counter = TokenCounter(None if tokenizer is None else token_ends(tokenizer))

    @property
    def identity(self) -> Identity:
        model = self._model
        return Identity(
            model=model.name,
            decoding=model.decoding,
            emulated=False,
            weights=model.weights,
            weights_sha256=model.weights_sha256,
            vocab_size=model.vocab_size,
            canvas_length=self._config.canvas_length,
            device=self._config.device or str(model.machine.get("device", "served")),
            eos_token_ids=model.eos_token_ids,
            template_sha256=None if model.template is None else model.template.sha256,
        )

    @property
    def capabilities(self) -> Capabilities:
        return self._session(0).capabilities

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        """Refuses a file of times with fewer than there are prompts.

        Raises:
            ValueError: too few times.
        """
        if self._config.arrivals is not None:
            check_arrivals(self._config.arrivals, len(prompts))

    def encode(self, text: str) -> list[int]:
        """Token ids as our engine would be given them; what a server makes of a text is its own."""
        model = self._model
        assert model.tokenizer is not None
        return encode_prompt(text, model.tokenizer, model.template, model.bos_token_id)

    def decode(self, tokens: Sequence[int]) -> str:
        tokenizer = self._model.tokenizer
        return "" if tokenizer is None else str(tokenizer.decode(list(tokens)))

    def vocabulary(self, token: int) -> str:
        tokenizer = self._model.tokenizer
        return str(token if tokenizer is None else tokenizer.id_to_token(token))

    def machine(self) -> dict[str, Any]:
        """The server's, not the client's; unknown but for its device unless it runs here."""
        unknown = dict.fromkeys(("cpu", "torch", "cuda", "driver"))
        return unknown | self._model.machine | {"device": self.identity.device}

    def note(self) -> dict[str, Any]:
        config = self._config
        capped = config.canvas_length is not None and config.max_denoising_steps is not None
        arrivals = config.arrivals
        return {
            "connections": config.connections if config.closed else None,
            "rate_per_s": config.rate_per_s,
            "arrivals_sha256": None if arrivals is None else read_arrivals(arrivals).sha256,
            "server": self._server,
            "launched": bool(self._model.machine),
            "drafter": config.drafter,
            "max_denoising_steps": config.max_denoising_steps if capped else None,
            "early_stop": config.early_stop if capped else None,
        }

    def warm(self, prompts: Sequence[Prompt], num_requests: int) -> None:
        """Sends so many requests, as many at a time as the load has; what fails, fails untold."""
        closed = replace(self._config, rate_per_s=None, arrivals=None, metrics_url=None)
        asked = [prompts[i % len(prompts)] for i in range(num_requests)]
        self._session(0, closed).run(self._given(asked), lambda _: None)

    def answer_all(
        self,
        prompts: Sequence[Prompt],
        *,
        process_id: int,
        repeat: int,
        on_outcome: Callable[[], None],
    ) -> Loaded:
        by_id = {prompt.request_id: prompt for prompt in prompts}
        answers, failures = Spool[Outcome](self._folder), Spool[Outcome](self._folder)

        def told(outcome: Outcome) -> None:
            (answers if was_measured(outcome) else failures).append(outcome)
            on_outcome()

        session = self._session(f"{self._model.seed}/{process_id}/{repeat}")
        note = session.run(self._given(prompts), told)
        begin_s = note.window_s[0]

        def answered(outcome: Outcome) -> RequestRecord:
            prompt = by_id[outcome.request_id]
            record = self._answered(outcome, prompt, process_id, repeat)
            record.sent_s = outcome.answer.sent_s - begin_s
            return record

        def failed(outcome: Outcome) -> FailedRequest:
            record = failed_request(outcome, by_id[outcome.request_id], process_id, repeat)
            record.sent_s -= begin_s
            return record

        load = self._load(note, process_id, repeat, len(answers), len(failures))
        seen = map(_seen, chain(answers, failures))
        figures = other_tools(seen, load.window_s, self._folder)
        reconciled = [
            Reconciled(process_id, repeat, tool, name, value)
            for tool, own in figures.items()
            for name, value in own
        ]
        return Loaded(
            note.window_s, Made(answers, answered), Made(failures, failed), load, reconciled
        )

    def close(self) -> None:
        """Ends the server where it was started for this session; once is enough."""
        self._stack.close()

    def _session(self, seed: int | str, config: OpenAiConfig | None = None) -> OpenAiSession:
        return OpenAiSession(
            config or self._config,
            max_new_tokens=self._model.max_new_tokens,
            ignore_eos=self._model.ignore_eos,
            seed=seed,
            patience=self._patience,
            counter=self._counter,
        )

    def _given(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """A templated prompt goes to the completions endpoint as the ids our engine is given."""
        if self._model.template is None or self._config.endpoint is Endpoint.chat:
            return list(prompts)
        return [replace(p, token_ids=tuple(p.ids(self.encode))) for p in prompts]

    def _answered(
        self, outcome: Outcome, prompt: Prompt, process_id: int, repeat: int
    ) -> RequestRecord:
        return answered_request(
            outcome,
            prompt,
            process_id,
            repeat,
            prompt_tokens=len(prompt.ids(self.encode)),
            canvas_length=self._config.canvas_length,
        )

    def _load(
        self, note: RunNote, process_id: int, repeat: int, num_answers: int, num_failures: int
    ) -> LoadRecord:
        config, work = self._config, note.work
        return LoadRecord(
            process_id=process_id,
            repeat=repeat,
            connections=config.connections if config.closed else None,
            rate_per_s=config.rate_per_s,
            window_s=note.window_s[1] - note.window_s[0],
            num_answers=num_answers,
            num_failures=num_failures,
            late_s=note.late_s,
            canvases=note.canvases if config.canvas_length is not None else None,
            tokens=note.tokens,
            server_canvases=None if work is None else work.canvases,
            server_denoise_steps=None if work is None else work.denoise_steps,
            server_tokens=None if work is None else work.generated_tokens,
            server_reason=None if work is None else work.reason,
            contradictions=",".join(note.contradictions) or None,
        )


def check_arrivals(path: str, num_prompts: int) -> None:
    """Refuses a file with fewer times than prompts.

    Raises:
        ValueError: the file cannot be read, or it is too short.
    """
    found = len(read_arrivals(path).seconds)
    if found < num_prompts:
        raise ValueError(
            f"backend.arrivals={path} holds {found} times for {num_prompts} prompts; valid: "
            f"workload.num_prompts of at most {found}"
        )


def _seen(outcome: Outcome) -> Seen:
    count = outcome.count
    told = (count.reported, count.retokenised, count.delivered)
    tokens, text_tokens = (
        next((n for n in order if n is not None), 0) for order in (told, (told[1], told[0]))
    )
    return Seen.of(outcome.answer, tokens, text_tokens)
