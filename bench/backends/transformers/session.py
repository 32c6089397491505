"""Upstream's implementation as a session: a call of `generate` a batch, watched from its hooks."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.backends import (
    Capabilities,
    Delivery,
    Forward,
    Mark,
    RowBlock,
    Steps,
    unmarked,
)
from bench.backends.in_process import InProcessSession
from bench.backends.transformers.config import TransformersConfig
from bench.backends.transformers.generation import diffusion_settings, greedy_settings
from bench.backends.transformers.hooks import Block, CanvasHooks, TokenHooks
from bench.backends.transformers.ledger import Ledger
from bench.backends.transformers.loading import Upstream
from model import EosPolicy, GreedySampling
from model.cost import weight_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformersSession(InProcessSession[Upstream]):
    """Upstream's implementation.

    Sessions may share a model; each sets its own implementations before it answers. What upstream
    compiled for one keeps that one's sampler, so a compiled session has its model for itself.
    """

    knobs: TransformersConfig

    @property
    def capabilities(self) -> Capabilities:
        return self.capable(
            Steps.PER_CANVAS, "no public hook shows which positions a step accepted"
        )

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        row_keys: Sequence[int],
        *,
        first_canvas: Sequence[Sequence[int]] | None = None,
        max_new_tokens: int | None = None,
        mark: Mark = unmarked,
    ) -> Iterator[Forward | Delivery]:
        """As the protocol has it; `row_keys` seed the batch's noise as a whole."""
        room = max_new_tokens or self.max_new_tokens
        hooks = self._generate(self.knobs, prompts, row_keys, first_canvas, room, mark)
        yield from self._events(hooks, len(prompts), room)

    def touched_experts(
        self, prompts: Sequence[Sequence[int]], row_keys: Sequence[int]
    ) -> Iterator[tuple[Forward, list[int]]]:
        """As the protocol has it; never compiled, as compiled routers cannot be watched."""
        uncompiled = TransformersConfig(
            experts=self.knobs.experts, attention=self.knobs.attention, cache=self.knobs.cache
        )
        touched: list[list[int]] = [[]]
        with _watched_routers(self.loaded.model, touched):
            hooks = self._generate(
                uncompiled, prompts, row_keys, None, self.watched_tokens, lambda: touched.append([])
            )
        for note, distinct in zip(hooks.notes, touched, strict=False):
            if isinstance(note, Forward):
                yield note, distinct

    def weight_bytes(self, distinct_experts: float) -> float:
        loaded = self.loaded
        groups = weight_bytes(loaded.config, loaded.applied.precision, distinct_experts)
        return sum(groups.values())

    def _generate(
        self,
        knobs: TransformersConfig,
        prompts: Sequence[Sequence[int]],
        row_keys: Sequence[int],
        first_canvas: Sequence[Sequence[int]] | None,
        max_new_tokens: int,
        mark: Mark,
    ) -> CanvasHooks | TokenHooks:
        """Calls upstream's `generate` once for a batch."""
        model, config = self.loaded.model, self.loaded.config
        eos = config.eos_token_ids if self.eos_policy is EosPolicy.STOP else None
        self.loaded.use(knobs.experts.name, knobs.attention.name)
        # What a call leaves open is taken from the model: no EOS would mean the model's own.
        model.generation_config.eos_token_id = None if eos is None else list(eos)
        ids, mask = left_padded(prompts, config.pad_token_id, model.device)
        torch.manual_seed(random.Random(f"{self.seed}/{list(row_keys)}").getrandbits(63))
        given: dict[str, Any] = {"attention_mask": mask}
        if isinstance(self.sampling, GreedySampling):
            tokens = TokenHooks(mark)
            settings = greedy_settings(config, max_new_tokens, eos, knobs)
            model.generate(
                ids, generation_config=settings, streamer=tokens, logits_processor=[tokens], **given
            )
            self._check_compiled()
            return tokens
        settings = diffusion_settings(config, self.sampling, max_new_tokens, eos, knobs)
        if first_canvas is not None:
            given["decoder_input_ids"] = torch.tensor(first_canvas, device=model.device)
        encoder = self.loaded.encoder
        assert encoder is not None
        if knobs.compiled and not hasattr(model, "_compiled_encoder"):
            # Compiles; only then can the passes that commit a canvas be told from the step after.
            model.generate(ids, generation_config=settings, **given)
        if knobs.compiled:
            encoder.watch(model._compiled_encoder)
        canvases = CanvasHooks(mark)
        encoder.listener = canvases
        try:
            model.generate(ids, generation_config=settings, streamer=canvases, **given)
        finally:
            encoder.listener = None
        self._check_compiled()
        return canvases

    def _check_compiled(self) -> None:
        """Some versions compile with every static cache, others where they see fit."""
        compiled = bool(compiled_parts(self.loaded.model))
        if compiled != self.knobs.compiled:
            raise ValueError(
                f"backend.compiled={str(self.knobs.compiled).lower()} has no effect with this "
                f"version of transformers here; valid: {str(compiled).lower()}"
            )

    def _events(
        self, hooks: CanvasHooks | TokenHooks, batch_size: int, max_new_tokens: int
    ) -> Iterator[Forward | Delivery]:
        eos = self.loaded.config.eos_token_ids if self.eos_policy is EosPolicy.STOP else ()
        ledger = Ledger(batch_size, max_new_tokens, eos)
        index, steps = 0, 0
        last = len(hooks.notes) - 1
        for position, note in enumerate(hooks.notes):
            if isinstance(note, Forward):
                steps = note.step
                yield note
                continue
            rows = self._rows(note, ledger, steps)
            scores = None
            if isinstance(hooks, TokenHooks) and position == last:
                scores = torch.stack(hooks.top_scores).cpu().numpy()
            yield Delivery(index, rows, None, scores)
            index += 1

    def _rows(self, block: Block, ledger: Ledger, steps: int) -> list[RowBlock]:
        reason = self._stop_reason(steps)
        pairs = zip(block.ids.tolist(), block.slots.tolist(), strict=True)
        return [
            ledger.deliver(row, ids, slots, steps, reason) for row, (ids, slots) in enumerate(pairs)
        ]

    def _stop_reason(self, steps: int) -> str | None:
        """Why a canvas ended; one that converges in its last possible step counts as capped."""
        if isinstance(self.sampling, GreedySampling):
            return None
        if not self.sampling.early_stop:
            return "forced"
        return "cap" if steps == self.sampling.max_denoising_steps else "converged"


def left_padded(
    prompts: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask [B, P]."""
    width = max(map(len, prompts))
    ids = [[pad] * (width - len(p)) + list(p) for p in prompts]
    mask = [[0] * (width - len(p)) + [1] * len(p) for p in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def compiled_parts(model: nn.Module) -> list[str]:
    """The names under which upstream keeps what it compiled."""
    return [name for name in [*vars(model), *model._modules] if name.startswith("_compiled")]


@contextmanager
def _watched_routers(model: nn.Module, touched: list[list[int]]) -> Iterator[None]:
    """Adds every router's number of distinct experts to the last list of `touched`."""

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        touched[-1].append(int(output[-1].unique().numel()))

    routers = [m for name, m in model.named_modules() if name.endswith(".router")]
    handles = [router.register_forward_hook(note) for router in routers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
