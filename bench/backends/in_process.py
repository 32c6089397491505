"""What sessions share whose model runs in this process: a tokenizer, a clock, who they are."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import torch
from tokenizers import Tokenizer

from bench.backends import Capabilities, Identity, Steps
from bench.backends.capabilities import OF_POSITIONS
from bench.chat_template import ChatTemplate, encode_prompt
from bench.thought import Thought
from bench.timing import CudaStopwatch, HostStopwatch, Stopwatch
from model import DiffusionSampling, EosPolicy, GreedySampling, ModelConfig, Weights
from model.precision import Applied
from model.sampling import check_request

_WATCHED_TOKENS = 64


class Loaded(Protocol):
    """A model, ours or upstream's, how it was loaded, and its tokenizer."""

    @property
    def model(self) -> Any: ...
    @property
    def config(self) -> ModelConfig: ...
    @property
    def weights(self) -> Weights: ...
    @property
    def applied(self) -> Applied: ...
    @property
    def tokenizer(self) -> Tokenizer | None: ...


Kind = TypeVar("Kind", bound=Loaded)


@dataclass(frozen=True, slots=True, kw_only=True)
class InProcessSession(Generic[Kind]):
    """A loaded model with everything a request needs but its prompt.

    Attributes:
        template: what a prompt is put into; None gives it as it is, after the begin of text.
    """

    loaded: Kind
    sampling: DiffusionSampling | GreedySampling
    max_new_tokens: int
    eos_policy: EosPolicy
    seed: int
    template: ChatTemplate | None = None

    @property
    def identity(self) -> Identity:
        loaded = self.loaded
        folder = loaded.weights.folder if loaded.weights.kind == "checkpoint" else None
        return Identity(
            model=loaded.config.name,
            decoding=loaded.config.decoding.value,
            emulated=loaded.applied.emulated,
            weights=loaded.weights.kind if folder is None else folder.name,
            weights_sha256=loaded.weights.sha256,
            vocab_size=loaded.config.vocab_size,
            canvas_length=loaded.config.canvas_length,
            device=str(loaded.model.device),
            eos_token_ids=loaded.config.eos_token_ids,
            thought=loaded.tokenizer and Thought.of(loaded.tokenizer.token_to_id),
            template_sha256=None if self.template is None else self.template.sha256,
        )

    def capable(self, steps: Steps, no_positions: str | None) -> Capabilities:
        """Args: no_positions: why no step's positions are known; None where they are."""
        is_diffusion = self.loaded.config.canvas_length is not None
        return Capabilities(
            steps=steps,
            device_time=self.loaded.model.device.type == "cuda",
            seeds=True,
            step_cap=True,
            batch=True,
            missing=dict.fromkeys(OF_POSITIONS, no_positions)
            if is_diffusion and no_positions
            else {},
        )

    @property
    def watched_tokens(self) -> int:
        """New tokens of a request whose routing is watched; two canvases where it may have them."""
        length = 2 * (self.loaded.config.canvas_length or 1)
        return min(self.max_new_tokens, max(_WATCHED_TOKENS, length))

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        check_request(self.loaded.config, prompts, self.max_new_tokens)

    def encode(self, text: str) -> list[int]:
        tokenizer = self.loaded.tokenizer
        assert tokenizer is not None
        return encode_prompt(text, tokenizer, self.template, self.loaded.config.bos_token_id)

    def decode(self, tokens: Sequence[int]) -> str:
        tokenizer = self.loaded.tokenizer
        return "" if tokenizer is None else str(tokenizer.decode(list(tokens)))

    def vocabulary(self, token: int) -> str:
        tokenizer = self.loaded.tokenizer
        return str(token if tokenizer is None else tokenizer.id_to_token(token))

    def stopwatch(self) -> Stopwatch:
        if self.loaded.model.device.type == "cuda":
            return CudaStopwatch(partial(torch.cuda.Event, enable_timing=True))
        return HostStopwatch()
