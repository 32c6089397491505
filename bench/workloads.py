"""Prompts with their answers: what a point is asked, in a fixed order, named by a hash."""

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from model.tiny.tasks import evaluation_set, parses

_NEVER_ASKED = frozenset({0, 1, 2, 50, 106})
"""Ids with a meaning of their own in the released vocabulary: padding, begin and ends of text."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request. `answer` is a right text, None where nothing can be checked.

    Attributes:
        token_ids: the prompt itself where it is no text; `text` is empty then.
    """

    request_id: int
    task: str
    text: str
    answer: str | None
    check: Callable[[str], bool] | None = None
    token_ids: tuple[int, ...] | None = None

    def ids(self, encode: Callable[[str], list[int]]) -> list[int]:
        """What the model is given; `encode` turns text into ids."""
        return encode(self.text) if self.token_ids is None else list(self.token_ids)

    def parses(self, text: str) -> bool:
        """Whether a text has the form of an answer."""
        return self.check is not None and parses(self.task, text)

    def is_correct(self, text: str) -> bool | None:
        return None if self.check is None else self.check(text)


@dataclass(frozen=True, slots=True)
class Workload:
    """A fixed prompt set.

    Attributes:
        sha256: of all prompts and answers; two runs with the same one asked the same questions.
    """

    name: str
    prompts: tuple[Prompt, ...]
    sha256: str

    @property
    def needs_tokenizer(self) -> bool:
        return any(prompt.token_ids is None for prompt in self.prompts)


def make_workload(tasks: str, num_prompts: int) -> Workload:
    """The held-out problems of a task set, tasks in equal shares.

    Raises:
        ValueError: the task set is unknown; the message lists the valid ones.
    """
    prompts = tuple(
        Prompt(index, problem.task, problem.prompt, problem.answer, problem.is_correct)
        for index, problem in enumerate(evaluation_set(tasks, num_prompts))
    )
    digest = hashlib.sha256("\0".join(f"{p.text}\1{p.answer}" for p in prompts).encode())
    return Workload(tasks, prompts, digest.hexdigest())


def fixed_work(num_prompts: int, prompt_tokens: int, vocab_size: int) -> Workload:
    """Prompts of random token ids without special ones, each the same whatever the others are.

    Raises:
        ValueError: the vocabulary has only special ids.
    """
    ids = [token for token in range(vocab_size) if token not in _NEVER_ASKED]
    if not ids:
        raise ValueError(f"a vocabulary of {vocab_size} has only special ids")
    prompts = tuple(_random_prompt(index, prompt_tokens, ids) for index in range(num_prompts))
    text = "\0".join(",".join(map(str, prompt.token_ids or ())) for prompt in prompts)
    return Workload("fixed_work", prompts, hashlib.sha256(text.encode()).hexdigest())


def _random_prompt(index: int, length: int, ids: Sequence[int]) -> Prompt:
    chosen = random.Random(f"fixed_work/{index}").choices(ids, k=length)
    return Prompt(index, "fixed_work", "", None, token_ids=tuple(chosen))
