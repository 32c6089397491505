"""Our own engine behind the backend protocol: torch tensors stop here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

import model as engine
from bench.backends import (
    Capabilities,
    Delivery,
    Forward,
    Identity,
    Mark,
    RowBlock,
    Steps,
    Trace,
    unmarked,
)
from bench.backends.capabilities import OF_POSITIONS
from bench.chat_template import ChatTemplate, encode_prompt
from bench.thought import Thought
from bench.timing import CudaStopwatch, HostStopwatch, Stopwatch
from model.cost import weight_bytes
from model.kv_cache import SpareCache
from model.loading import LoadedModel
from model.routing import observed_routing
from model.sampling import (
    BlockDelivered,
    CanvasTrace,
    NoiseSource,
    RowDelivery,
    SeededNoise,
    StartingFrom,
    StepDone,
    TokenTrace,
    check_request,
)

_WATCHED_TOKENS = 64
"""New tokens of a request whose routing is watched; at least two canvases."""


@dataclass(frozen=True, slots=True)
class NativeSession:
    """A loaded model with everything a request needs but its prompt.

    Attributes:
        fused_commit: canvases are committed in the forward of the next one's first step.
        template: what a prompt is put into; None gives it as it is, after the begin of text.
    """

    loaded: LoadedModel
    sampling: engine.DiffusionSampling | engine.GreedySampling
    max_new_tokens: int
    eos_policy: engine.EosPolicy
    trace: engine.TraceLevel
    seed: int
    fused_commit: bool = False
    template: ChatTemplate | None = None

    @property
    def identity(self) -> Identity:
        loaded = self.loaded
        return Identity(
            model=loaded.config.name,
            decoding=loaded.config.decoding.value,
            emulated=loaded.applied.emulated,
            weights=loaded.weights.kind
            if loaded.weights.kind != "checkpoint"
            else str(loaded.weights.folder and loaded.weights.folder.name),
            weights_sha256=loaded.weights.sha256,
            vocab_size=loaded.config.vocab_size,
            canvas_length=loaded.config.canvas_length,
            device=str(loaded.model.device),
            eos_token_ids=loaded.config.eos_token_ids,
            thought=loaded.tokenizer and Thought.of(loaded.tokenizer.token_to_id),
            template_sha256=None if self.template is None else self.template.sha256,
        )

    @property
    def capabilities(self) -> Capabilities:
        diffusion = self.loaded.config.canvas_length is not None
        traced = self.trace is not engine.TraceLevel.COUNTS
        reason = "trace=counts keeps no positions"
        return Capabilities(
            steps=Steps.PER_POSITION if traced else Steps.PER_CANVAS,
            device_time=self.loaded.model.device.type == "cuda",
            seeds=True,
            step_cap=True,
            batch=True,
            missing=dict.fromkeys(OF_POSITIONS, reason) if diffusion and not traced else {},
        )

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        check_request(self.loaded.config, prompts, self.max_new_tokens)

    def encode(self, text: str) -> list[int]:
        assert self.loaded.tokenizer is not None
        bos = self.loaded.config.bos_token_id
        return encode_prompt(text, self.loaded.tokenizer, self.template, bos)

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

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        row_keys: Sequence[int],
        *,
        first_canvas: Sequence[Sequence[int]] | None = None,
        max_new_tokens: int | None = None,
        mark: Mark = unmarked,
    ) -> Iterator[Forward | Delivery]:
        model = self.loaded.model
        if model.spare_cache.owner is not self:
            # A larger cache, left by the point before, would make this one's steps slower.
            model.spare_cache = SpareCache(owner=self)
        events = engine.generate(
            model,
            prompts,
            self.sampling,
            max_new_tokens=max_new_tokens or self.max_new_tokens,
            eos_policy=self.eos_policy,
            trace=self.trace,
            noise=self._noise(row_keys, first_canvas),
            fused_commit=self.fused_commit,
        )
        for event in events:
            mark()
            if isinstance(event, StepDone):
                yield Forward(event.phase.value, event.block, event.step)
            else:
                yield _delivery(event)

    def touched_experts(
        self, prompts: Sequence[Sequence[int]], row_keys: Sequence[int]
    ) -> Iterator[tuple[Forward, list[int]]]:
        length = 2 * (self.loaded.config.canvas_length or 1)
        watched = min(self.max_new_tokens, max(_WATCHED_TOKENS, length))
        with observed_routing(self.loaded.model) as touched:
            for event in self.answer(prompts, row_keys, max_new_tokens=watched):
                if isinstance(event, Forward):
                    yield event, [int(experts.sum()) for experts in touched]
                    touched.clear()

    def weight_bytes(self, distinct_experts: float) -> float:
        loaded = self.loaded
        sampling = self.sampling
        feeds_back = isinstance(sampling, engine.GreedySampling) or sampling.self_conditioning
        groups = weight_bytes(
            loaded.config,
            loaded.applied.precision,
            distinct_experts,
            vocabulary=loaded.applied.vocabulary,
            self_conditioning=feeds_back,
        )
        return sum(groups.values())

    def _noise(
        self, row_keys: Sequence[int], first_canvas: Sequence[Sequence[int]] | None
    ) -> NoiseSource | None:
        config = self.loaded.config
        if config.canvas_length is None:
            return None
        noise = SeededNoise(self.seed, row_keys, config.canvas_length, config.vocab_size)
        if first_canvas is None:
            return noise
        return StartingFrom(noise, torch.tensor([list(row) for row in first_canvas]))


def _delivery(event: BlockDelivered) -> Delivery:
    trace = event.trace
    return Delivery(
        event.block,
        [_row(row) for row in event.rows],
        _trace(trace) if isinstance(trace, CanvasTrace) else None,
        trace.top_score.numpy() if isinstance(trace, TokenTrace) else None,
    )


def _row(row: RowDelivery) -> RowBlock:
    return RowBlock(
        tokens=row.tokens,
        slots=row.block_tokens,
        after_eos=row.after_eos,
        over_limit=row.over_limit,
        row_ended=row.row_ended,
        steps=row.steps,
        stop_reason=row.stop_reason and row.stop_reason.value,
        finish_reason=row.finish_reason and row.finish_reason.value,
    )


def _trace(trace: CanvasTrace) -> Trace:
    positions = (trace.candidate, trace.accepted, trace.argmax, trace.entropy)
    candidate, accepted, argmax, entropy = (
        None if tensor is None else tensor.numpy() for tensor in positions
    )
    return Trace(
        accepted_slots=trace.accepted_count.numpy(),
        mean_entropy_nat=trace.mean_entropy.numpy(),
        candidate=candidate,
        accepted=accepted,
        argmax=argmax,
        entropy_nat=entropy,
    )
