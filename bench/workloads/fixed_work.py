"""Fixed work: prompts of random token ids, all of one length, that no content can change."""

import hashlib
import random
from collections.abc import Sequence

from bench.workloads.prompt import Prompt, Workload

NEVER_ASKED = frozenset({0, 1, 2, 50, 106})
"""Ids with a meaning of their own in the released vocabulary: padding, begin and ends of text."""


def fixed_work(num_prompts: int, prompt_tokens: int, vocab_size: int) -> Workload:
    """Prompts of random token ids without special ones, each the same whatever the others are.

    Raises:
        ValueError: the vocabulary has only special ids.
    """
    ids = [token for token in range(vocab_size) if token not in NEVER_ASKED]
    if not ids:
        raise ValueError(f"a vocabulary of {vocab_size} has only special ids")
    prompts = tuple(_random_prompt(index, prompt_tokens, ids) for index in range(num_prompts))
    text = "\0".join(",".join(map(str, prompt.token_ids or ())) for prompt in prompts)
    return Workload("fixed_work", prompts, hashlib.sha256(text.encode()).hexdigest())


def _random_prompt(index: int, length: int, ids: Sequence[int]) -> Prompt:
    chosen = random.Random(f"fixed_work/{index}").choices(ids, k=length)
    return Prompt(index, "fixed_work", "", None, token_ids=tuple(chosen))
