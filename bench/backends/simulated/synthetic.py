"""Recordings made from a description: for tests, and to plan a sweep before there is a run.

Everything countable comes out exactly as described: token and step counts are dealt like cards, in
shuffled order but each as often as the others, and so are right answers and revised tokens. Same
description and seed, same recording.
"""

import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from bench.backends.simulated.recording import (
    EOS,
    PAD,
    RecordedCanvas,
    RecordedRequest,
    Recording,
    Vocabulary,
    prompt_ids,
)
from bench.backends.simulated.traces import make_canvas, plain_counts
from bench.phases import FUSED


class Asked(Protocol):
    """A prompt as a workload has it."""

    @property
    def request_id(self) -> int: ...

    @property
    def task(self) -> str: ...

    @property
    def text(self) -> str: ...

    @property
    def answer(self) -> str | None: ...


@dataclass(kw_only=True, slots=True)
class SyntheticConfig:
    """A model and a workload, in numbers.

    Attributes:
        tasks, num_prompts: of the prompts that are made up; without effect where prompts are given.
        answer_tokens: delivered tokens of a prompt's answer, the EOS included, dealt over prompts;
            a prompt that is given with its answer has a token a character.
        steps: denoise steps of a canvas, dealt over canvases; those at `max_denoising_steps` stop
            there by the cap.
        accuracy: share of right answers; that of the prompts with a known answer, rounded.
        revised_share: share of a canvas's content that its last step still edits, rounded.
        prefill_ms, step_ms, commit_ms, fused_ms, decode_ms: of one forward.

    Raises:
        ValueError: a value out of range; it is named with its valid range.
    """

    tasks: list[str] = field(default_factory=lambda: ["reverse", "sort"])
    num_prompts: int = 20
    answer_tokens: list[int] = field(default_factory=lambda: [8])
    canvas_length: int = 32
    steps: list[int] = field(default_factory=lambda: [4])
    max_denoising_steps: int = 48
    accuracy: float = 1.0
    revised_share: float = 0.0
    prefill_ms: float = 10.0
    step_ms: float = 10.0
    commit_ms: float = 10.0
    fused_ms: float = 10.0
    decode_ms: float = 10.0

    def __post_init__(self) -> None:
        times = ("prefill_ms", "step_ms", "commit_ms", "fused_ms", "decode_ms")
        for name, valid, rule in (
            ("tasks", bool(self.tasks), "at least one"),
            ("num_prompts", self.num_prompts >= 1, ">= 1"),
            ("answer_tokens", min(self.answer_tokens, default=0) >= 2, "numbers >= 2"),
            ("canvas_length", self.canvas_length >= 1, ">= 1"),
            (
                "steps",
                min(self.steps, default=0) >= 1 and max(self.steps) <= self.max_denoising_steps,
                f"numbers from 1 to max_denoising_steps ({self.max_denoising_steps})",
            ),
            ("accuracy", 0 <= self.accuracy <= 1, "from 0 to 1"),
            ("revised_share", 0 <= self.revised_share <= 1, "from 0 to 1"),
            *((name, getattr(self, name) >= 0, ">= 0") for name in times),
        ):
            if not valid:
                raise ValueError(f"synthetic.{name} is {getattr(self, name)}; it must be {rule}")


def make_recording(
    config: SyntheticConfig,
    *,
    decoding: str = "diffusion",
    model: str = "synthetic",
    prompts: Sequence[Asked] | None = None,
    seed: int = 0,
) -> Recording:
    """A recording as described, of the given prompts or of made-up ones.

    Raises:
        ValueError: an unknown decoding.
    """
    if decoding not in ("diffusion", "autoregressive"):
        raise ValueError(f"decoding is {decoding!r}; valid: diffusion, autoregressive")
    is_diffusion = decoding == "diffusion"
    rng = random.Random(f"{seed}/synthetic")
    vocabulary = Vocabulary()
    answers = _answers(config, prompts, rng)
    checked = [prompt.request_id for prompt, _ in answers if prompt.answer is not None]
    wrong = set(rng.sample(checked, len(checked) - round(config.accuracy * len(checked))))
    steps = _dealt(config.steps, rng)
    requests = []
    for prompt, text in answers:
        tokens = vocabulary.pieces(text, len(text))
        if prompt.request_id in wrong:
            tokens = [*tokens[:-1], vocabulary.wrong(0)]
        tokens.append(EOS)
        canvases = _canvases(config, vocabulary, tokens, steps, f"{seed}/{prompt.request_id}")
        requests.append(
            RecordedRequest(
                request_id=prompt.request_id,
                task=prompt.task,
                prompt=prompt.text,
                answer=prompt.answer,
                prompt_ids=prompt_ids(vocabulary, prompt.text, len(prompt.text) + 1),
                canvases=tuple(canvases) if is_diffusion else (),
                tokens=() if is_diffusion else tuple(tokens),
            )
        )
    return Recording(
        model=model,
        decoding=decoding,
        canvas_length=config.canvas_length if is_diffusion else None,
        weights="synthetic",
        weights_sha256=None,
        emulated=False,
        max_new_tokens=max(len(text) for _, text in answers) + 1,
        eos_policy="stop",
        trace="positions",
        vocabulary=vocabulary,
        requests=tuple(requests),
        phase_s={
            "prefill": config.prefill_ms / 1e3,
            "denoise": config.step_ms / 1e3,
            "commit": config.commit_ms / 1e3,
            FUSED: config.fused_ms / 1e3,
            "decode": config.decode_ms / 1e3,
        },
    )


@dataclass(frozen=True, slots=True)
class _Prompt:
    request_id: int
    task: str
    text: str
    answer: str | None


def _answers(
    config: SyntheticConfig, prompts: Sequence[Asked] | None, rng: random.Random
) -> list[tuple[Asked, str]]:
    """Prompts with the text that answers them, a token a character."""
    lengths = _dealt(config.answer_tokens, rng)

    def text() -> str:
        return "".join(rng.choices(string.ascii_lowercase, k=next(lengths) - 1))

    if prompts is not None:
        return [(p, text() if p.answer is None else p.answer) for p in prompts]
    made = []
    for index in range(config.num_prompts):
        task, answer = config.tasks[index % len(config.tasks)], text()
        made.append((_Prompt(index, task, f"{task} {index}=", answer), answer))
    return list(made)


def _dealt(values: Sequence[int], rng: random.Random) -> Iterator[int]:
    """The values in shuffled order, again and again."""
    while True:
        yield from rng.sample(values, len(values))


def _canvases(
    config: SyntheticConfig,
    vocabulary: Vocabulary,
    tokens: list[int],
    steps: Iterator[int],
    seed: str,
) -> Iterator[RecordedCanvas]:
    length = config.canvas_length
    for begin in range(0, len(tokens), length):
        content = tokens[begin : begin + length]
        num_steps = next(steps)
        counts = plain_counts(num_steps, len(content), round(config.revised_share * len(content)))
        yield make_canvas(
            counts,
            content + [PAD] * (length - len(content)),
            len(content),
            stop_reason="cap" if num_steps == config.max_denoising_steps else "converged",
            accepted_slots=np.array(counts.accepted) + length - len(content),
            mean_entropy_nat=1.0 - np.arange(1, num_steps + 1) / num_steps,
            wrong=lambda run: vocabulary.wrong(run + 1),
            seed=f"{seed}/{begin}",
        )
