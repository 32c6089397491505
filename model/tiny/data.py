"""Training batches: problems turned into left-padded prefixes and target canvases or sequences.

Legend: B examples, P prefix, L canvas, S sequence.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer
from torch import Tensor

from model.config import ModelConfig
from model.tiny.tasks import TINY, TINY_HARD, Problem, problems

_POOL_BATCHES = 32
_HARD_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class CanvasBatch:
    """A causal prefix and the clean canvas that follows it.

    `prefix_BP` is left-padded; row b starts at `start_B[b]`.
    """

    prefix_BP: Tensor
    start_B: Tensor
    canvas_BL: Tensor


@dataclass(frozen=True, slots=True)
class SequenceBatch:
    """Right-padded token sequences and which of their positions are answers (EOS included)."""

    token_BS: Tensor
    is_answer_BS: Tensor


def problem_stream(seed: int) -> Iterator[Problem]:
    """Training problems: a quarter of them hard ones, none held out."""
    rng = random.Random(seed)
    easy = problems(TINY, rng, held_out=False)
    hard = problems(TINY_HARD, rng, held_out=False)
    while True:
        yield next(hard if rng.random() < _HARD_SHARE else easy)


def encode_prompt(tokenizer: Tokenizer, config: ModelConfig, prompt: str) -> list[int]:
    """BOS and the prompt's characters."""
    return [config.bos_token_id, *tokenizer.encode(prompt).ids]


def _answer_ids(tokenizer: Tokenizer, config: ModelConfig, problem: Problem) -> list[int]:
    return [*tokenizer.encode(problem.answer).ids, config.eos_token_ids[0]]


def canvas_batches(
    tokenizer: Tokenizer, config: ModelConfig, batch_size: int, seed: int
) -> Iterator[CanvasBatch]:
    """One canvas of each problem, drawn uniformly; batches hold prefixes of similar length."""
    assert config.canvas_length is not None
    length, pad = config.canvas_length, config.pad_token_id
    rng, stream = random.Random(seed), problem_stream(seed)
    while True:
        pool: list[tuple[list[int], list[int]]] = []
        while len(pool) < batch_size * _POOL_BATCHES:
            problem = next(stream)
            answer = _answer_ids(tokenizer, config, problem)
            begin = rng.randrange((len(answer) + length - 1) // length) * length
            prefix = encode_prompt(tokenizer, config, problem.prompt) + answer[:begin]
            canvas = answer[begin : begin + length]
            pool.append((prefix, canvas + [pad] * (length - len(canvas))))
        for chunk in _shuffled_chunks(pool, batch_size, rng):
            width = max(len(prefix) for prefix, _ in chunk)
            starts = [width - len(prefix) for prefix, _ in chunk]
            padded = [[pad] * start + p for start, (p, _) in zip(starts, chunk, strict=True)]
            yield CanvasBatch(
                torch.tensor(padded), torch.tensor(starts), torch.tensor([c for _, c in chunk])
            )


def sequence_batches(
    tokenizer: Tokenizer, config: ModelConfig, batch_size: int, seed: int
) -> Iterator[SequenceBatch]:
    """Whole problems, prompt and answer, in batches of similar length."""
    pad, rng, stream = config.pad_token_id, random.Random(seed), problem_stream(seed)
    while True:
        pool = [
            (
                encode_prompt(tokenizer, config, problem.prompt),
                _answer_ids(tokenizer, config, problem),
            )
            for problem, _ in zip(stream, range(batch_size * _POOL_BATCHES), strict=False)
        ]
        for chunk in _shuffled_chunks(pool, batch_size, rng):
            width = max(len(p) + len(a) for p, a in chunk)
            rows = [p + a + [pad] * (width - len(p) - len(a)) for p, a in chunk]
            answers = [[len(p) <= i < len(p) + len(a) for i in range(width)] for p, a in chunk]
            yield SequenceBatch(torch.tensor(rows), torch.tensor(answers))


def _shuffled_chunks(
    pool: list[tuple[list[int], list[int]]], batch_size: int, rng: random.Random
) -> list[list[tuple[list[int], list[int]]]]:
    """Cuts a pool into batches of similar total length, in random order."""
    pool.sort(key=lambda pair: len(pair[0]) + len(pair[1]))
    chunks = [pool[i : i + batch_size] for i in range(0, len(pool), batch_size)]
    rng.shuffle(chunks)
    return chunks
