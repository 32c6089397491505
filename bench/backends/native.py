"""Our own engine behind the backend protocol: torch tensors stop here."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

import model as engine
from bench.backends import (
    Capabilities,
    Delivery,
    Forward,
    Mark,
    RowBlock,
    Steps,
    Trace,
    unmarked,
)
from bench.backends.in_process import InProcessSession
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
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeSession(InProcessSession[LoadedModel]):
    """Our engine.

    Attributes:
        fused_commit: canvases are committed in the forward of the next one's first step.
    """

    trace: engine.TraceLevel
    fused_commit: bool = False

    @property
    def capabilities(self) -> Capabilities:
        if self.trace is engine.TraceLevel.COUNTS:
            return self.capable(Steps.PER_CANVAS, "trace=counts keeps no positions")
        return self.capable(Steps.PER_POSITION, None)

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
        with observed_routing(self.loaded.model) as touched:
            for event in self.answer(prompts, row_keys, max_new_tokens=self.watched_tokens):
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
