"""The tiny pair's tasks: one line in, one line out, held out from training."""

import hashlib
from functools import partial

from bench.workloads.prompt import Prompt, Workload
from model.tiny.tasks import evaluation_set, parses


def make_workload(tasks: str, num_prompts: int) -> Workload:
    """The held-out problems of a task set, tasks in equal shares.

    Raises:
        ValueError: the task set is unknown; the message lists the valid ones.
    """
    prompts = tuple(
        Prompt(
            index,
            problem.task,
            problem.prompt,
            problem.answer,
            problem.is_correct,
            form=partial(parses, problem.task),
        )
        for index, problem in enumerate(evaluation_set(tasks, num_prompts))
    )
    digest = hashlib.sha256("\0".join(f"{p.text}\1{p.answer}" for p in prompts).encode())
    return Workload(tasks, prompts, digest.hexdigest())
