"""Prompts with their answers: what a point is asked, in a fixed order, named by a hash."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from model.tiny.tasks import evaluation_set, parses


@dataclass(frozen=True, slots=True)
class Prompt:
    """One request. `answer` is a right text, None where nothing can be checked."""

    request_id: int
    task: str
    text: str
    answer: str | None
    check: Callable[[str], bool] | None = None

    def parses(self, text: str) -> bool:
        """Whether a text has the form of an answer."""
        return parses(self.task, text)

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
