"""The one generation loop, for both siblings: a generator of events that never reads a clock.

Blocks come one after the other: a diffusion block is a canvas denoised over several steps, an
autoregressive block is one token. The host waits for the device in two named places only,
`Denoiser.all_done` (the stop check) and `_to_host` (a block's text, once a block).

Legend: B seqs, L block length, T steps.
"""

import itertools
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Protocol

import torch
from torch import Tensor

from model.config import ModelConfig
from model.diffusion import DiffusionTransformer
from model.kv_cache import KVCache
from model.sampling.autoregressive import GreedyDecoder, GreedySampling
from model.sampling.block_diffusion import CanvasState, Denoiser, DiffusionSampling, StepTrace
from model.sampling.events import (
    BlockDelivered,
    CanvasTrace,
    Event,
    FinishReason,
    Phase,
    RowDelivery,
    StepDone,
    StopReason,
    TokenTrace,
)
from model.sampling.noise import NoiseSource, SeededNoise
from model.transformer import Transformer


class EosPolicy(StrEnum):
    """Whether an end-of-sequence token ends a row or is a token like any other."""

    STOP = "stop"
    IGNORE = "ignore"


class TraceLevel(StrEnum):
    """How much of every step is kept: sums, positions, or positions and the canvases fed in."""

    COUNTS = "counts"
    POSITIONS = "positions"
    FULL = "full"


def generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    sampling: DiffusionSampling | GreedySampling,
    *,
    max_new_tokens: int,
    eos_policy: EosPolicy = EosPolicy.STOP,
    trace: TraceLevel = TraceLevel.COUNTS,
    noise: NoiseSource | None = None,
    seed: int = 0,
    fused_commit: bool = False,
) -> Iterator[Event]:
    """Generates for a batch of prompts (token ids, any lengths), yielding events as they happen.

    Args:
        noise: the sampler's randomness; by default seeded with `seed`, row b keyed by b.
        trace: how much a `BlockDelivered` of a diffusion model carries.
        fused_commit: a canvas is committed in the forward of the next one's first step, so that
            both take one reading of the weights; a diffusion model only.

    Yields:
        StepDone after every forward is issued; BlockDelivered when a block's text is in host
        memory.

    Raises:
        ValueError: no prompt, an empty one, one that does not fit the context, a token id outside
            the vocabulary, max_new_tokens < 1, or knobs of the other sibling.
    """
    config = model.config
    is_diffusion = isinstance(model, DiffusionTransformer)
    if is_diffusion != isinstance(sampling, DiffusionSampling):
        raise ValueError(
            f"{type(sampling).__name__} cannot drive the {config.decoding} {config.name}"
        )
    if fused_commit and not is_diffusion:
        raise ValueError(f"{config.name} is autoregressive and has no canvas to commit")
    check_request(config, prompts, max_new_tokens)
    return _generate(
        model,
        prompts,
        sampling,
        _Ledger(config, len(prompts), max_new_tokens, eos_policy),
        trace,
        noise,
        seed,
        fused_commit,
    )


@torch.inference_mode()  # as a decorator it is lifted at every yield
def _generate(
    model: Transformer,
    prompts: Sequence[Sequence[int]],
    sampling: DiffusionSampling | GreedySampling,
    ledger: "_Ledger",
    trace: TraceLevel,
    noise: NoiseSource | None,
    seed: int,
    fused_commit: bool,
) -> Iterator[Event]:
    config = model.config
    decoder: _BlockDecoder
    tokens_BP, start_B = _left_pad(prompts, config.pad_token_id, model.device)
    num_slots = tokens_BP.shape[1] + _num_slots(config, ledger.max_new_tokens)
    lent = model.spare_cache.lent(
        config,
        len(prompts),
        num_slots,
        dtype=model.dtype,
        device=model.device,
        start_B=start_B,
    )
    with lent as cache:
        hidden = model.encode(tokens_BP, cache)
        if isinstance(model, DiffusionTransformer):
            assert isinstance(sampling, DiffusionSampling)
            assert config.canvas_length is not None
            noise = noise or SeededNoise(
                seed, range(len(prompts)), config.canvas_length, config.vocab_size
            )
            decoder = _CanvasBlocks(model, sampling, cache, noise, trace, fused_commit)
        else:
            decoder = _TokenBlocks(model, cache, hidden)
        yield StepDone(Phase.PREFILL, 0, 1)
        for block in itertools.count():
            yield from decoder.run(block, ledger.ended_B)
            yield decoder.deliver(block, ledger)
            if ledger.all_ended:
                return


class _BlockDecoder(Protocol):
    """Produces one block after the other."""

    def run(self, block: int, ended: list[bool]) -> Iterator[Event]: ...

    def deliver(self, block: int, ledger: "_Ledger") -> BlockDelivered: ...


class _CanvasBlocks:
    """Canvases: commit the one before, denoise the next until every row is done or the cap."""

    def __init__(
        self,
        model: DiffusionTransformer,
        sampling: DiffusionSampling,
        cache: KVCache,
        noise: NoiseSource,
        level: TraceLevel,
        fused_commit: bool,
    ) -> None:
        self._model = model
        self._sampling = sampling
        self._cache = cache
        self._noise = noise
        self._level = level
        self._fused_commit = fused_commit
        self._denoiser = Denoiser(model, sampling)
        self._committed_BL: Tensor | None = None
        self._state: CanvasState | None = None
        self._traces: list[StepTrace] = []

    def run(self, block: int, ended: list[bool]) -> Iterator[Event]:
        # Committed at the start of the next canvas, so the last canvas of a request costs no
        # commit.
        finished_BL = self._committed_BL
        if finished_BL is not None and not self._fused_commit:
            self._model.commit(finished_BL, self._cache)
            finished_BL = None
            yield StepDone(Phase.COMMIT, block, 1)
        num_steps = self._sampling.max_denoising_steps
        noise = self._noise.canvas(block, num_steps).to(self._model.device)
        ended_B = torch.tensor(ended, device=self._model.device)
        state = CanvasState.fresh(noise.initial_BL, ended_B)
        self._traces = []
        for index in range(num_steps):
            phase = Phase.DENOISE if finished_BL is None else Phase.FUSED
            state, trace = self._denoiser.step(state, self._cache, noise, index, finished_BL)
            finished_BL = None
            self._traces.append(trace)
            yield StepDone(phase, block, index + 1)
            may_stop = self._sampling.early_stop and index + 1 < num_steps
            if may_stop and self._denoiser.all_done(state, index):
                break
        self._state = state

    def deliver(self, block: int, ledger: "_Ledger") -> BlockDelivered:
        assert self._state is not None
        state, traces = self._state, _stack(self._traces, self._level)
        argmax, done, steps = _to_host(state.argmax_BL, state.done_B, state.steps_B)
        rows = [
            ledger.deliver(row, tokens, int(row_steps), self._stop_reason(bool(row_done)))
            for row, (tokens, row_done, row_steps) in enumerate(
                zip(argmax.tolist(), done, steps, strict=True)
            )
        ]
        if not ledger.all_ended:
            committed = [ledger.committed(row, r) for row, r in enumerate(rows)]
            self._committed_BL = torch.tensor(committed, device=self._model.device)
        return BlockDelivered(block, rows, traces)

    def _stop_reason(self, done: bool) -> StopReason:
        if not self._sampling.early_stop:
            return StopReason.FORCED
        return StopReason.CONVERGED if done else StopReason.CAP


class _TokenBlocks:
    """Autoregressive tokens: the first comes from the prefill, each later one from its own step."""

    def __init__(self, model: Transformer, cache: KVCache, hidden_BPD: Tensor) -> None:
        self._decoder = GreedyDecoder(model)
        self._cache = cache
        self._token_B, score_B = self._decoder.choose(hidden_BPD)
        self._scores = [score_B]

    def run(self, block: int, ended: list[bool]) -> Iterator[Event]:
        del ended
        if block:
            self._token_B, score_B = self._decoder.step(self._token_B, self._cache)
            self._scores.append(score_B)
            yield StepDone(Phase.DECODE, block, 1)

    def deliver(self, block: int, ledger: "_Ledger") -> BlockDelivered:
        (token,) = _to_host(self._token_B)
        rows = [ledger.deliver(row, [t], 1, None) for row, t in enumerate(token.tolist())]
        if not ledger.all_ended:
            return BlockDelivered(block, rows, None)
        return BlockDelivered(block, rows, TokenTrace(*_to_host(torch.stack(self._scores))))


class _Ledger:
    """Cuts blocks at the end of sequence and at the limit; accounts for every slot."""

    def __init__(
        self, config: ModelConfig, batch_size: int, max_new_tokens: int, eos_policy: EosPolicy
    ) -> None:
        self.max_new_tokens = max_new_tokens
        self.ended_B = [False] * batch_size
        self._delivered = [0] * batch_size
        self._eos = set(config.eos_token_ids) if eos_policy is EosPolicy.STOP else set()
        self._pad = config.pad_token_id

    @property
    def all_ended(self) -> bool:
        return all(self.ended_B)

    def deliver(
        self, row: int, block: list[int], steps: int, stop_reason: StopReason | None
    ) -> RowDelivery:
        if self.ended_B[row]:
            return RowDelivery([], block, 0, 0, len(block), 0, None, None)
        num_content = next((i + 1 for i, t in enumerate(block) if t in self._eos), len(block))
        tokens = block[: min(num_content, self.max_new_tokens - self._delivered[row])]
        self._delivered[row] += len(tokens)
        finish = None
        if tokens[-1] in self._eos:
            finish = FinishReason.EOS
        elif self._delivered[row] == self.max_new_tokens:
            finish = FinishReason.LENGTH
        self.ended_B[row] = finish is not None
        return RowDelivery(
            tokens,
            block,
            len(block) - num_content,
            num_content - len(tokens),
            0,
            steps,
            stop_reason,
            finish,
        )

    def committed(self, row: int, delivery: RowDelivery) -> list[int]:
        """What the cache is given of a row's block: padding once the row is over."""
        if not self.ended_B[row]:
            return delivery.block_tokens
        num_padding = len(delivery.block_tokens) - len(delivery.tokens)
        return delivery.tokens + [self._pad] * num_padding


def _to_host(*tensors: Tensor) -> list[Tensor]:
    """A block's results in host memory."""
    return [tensor.cpu() for tensor in tensors]


def _stack(traces: list[StepTrace], level: TraceLevel) -> CanvasTrace:
    """The step trace at a level, copied once a canvas."""
    entropy = torch.stack([t.entropy_BL for t in traces])
    accepted = torch.stack([t.accepted_BL for t in traces])
    kept: dict[str, Tensor] = {}
    if level is not TraceLevel.COUNTS:
        kept = {"accepted": accepted, "entropy": entropy}
        kept["candidate"] = torch.stack([t.candidate_BL for t in traces])
        kept["argmax"] = torch.stack([t.argmax_BL for t in traces])
    if level is TraceLevel.FULL:
        kept["canvas"] = torch.stack([t.canvas_BL for t in traces])
    return CanvasTrace(
        accepted_count=accepted.sum(-1).cpu(),
        mean_entropy=entropy.mean(-1).cpu(),
        **{name: tensor.cpu() for name, tensor in kept.items()},
    )


def _num_slots(config: ModelConfig, max_new_tokens: int) -> int:
    """Cache slots beyond the prompt: whole canvases, or the tokens that are fed back."""
    length = config.canvas_length or 1
    return -(-max_new_tokens // length) * length


def check_request(
    config: ModelConfig, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> None:
    """Refuses a request that could not be answered, naming the value and what is valid.

    Raises:
        ValueError: as `generate` documents.
    """
    if max_new_tokens < 1:
        raise ValueError(f"max_new_tokens is {max_new_tokens}; it must be >= 1")
    if not prompts:
        raise ValueError("no prompts given; at least one is needed")
    room = config.max_positions - _num_slots(config, max_new_tokens)
    for row, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(f"prompt {row} is empty; it needs at least one token")
        if len(prompt) > room:
            raise ValueError(
                f"prompt {row} has {len(prompt)} tokens; with {max_new_tokens} new tokens "
                f"{config.name} takes at most {room} (context {config.max_positions})"
            )
        invalid = next((t for t in prompt if not 0 <= t < config.vocab_size), None)
        if invalid is not None:
            raise ValueError(
                f"prompt {row} has token id {invalid}; valid ids: 0 to {config.vocab_size - 1}"
            )


def _left_pad(
    prompts: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Prompts as one [B, P] tensor and each row's first real position, None when all are equal."""
    width = max(map(len, prompts))
    rows = [[pad] * (width - len(p)) + list(p) for p in prompts]
    starts = [width - len(p) for p in prompts]
    start_B = torch.tensor(starts, device=device) if any(starts) else None
    return torch.tensor(rows, device=device), start_B
