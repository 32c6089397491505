"""Long prompts of one length in tokens, each with one question about one line of its document.

The line asked about stands at another depth in every prompt: the depths 1/2, 1/4, 3/4, 1/8, ...
fill the document evenly however many prompts there are. A prompt's text depends on the session's
tokenizer, so it is made once that is known (`Workload.fitted`).
"""

import hashlib
import json
from collections.abc import Callable
from functools import cache
from itertools import cycle, islice

from bench.workloads.answers import final_number, has_final_number
from bench.workloads.documents import GENRES, VERSION, document_lines, needle_line
from bench.workloads.prompt import Encode, Prompt, Workload

TOLERANCE = 0.01
"""Of the length asked for; a prompt is never longer."""

_FILLER = "and so it went on for a while with nothing that anybody cared to write down".split()
_SAMPLE, _MAX_GUESSES = 16, 20


def long_context(num_prompts: int, prompt_tokens: int) -> Workload:
    """Prompts that become `prompt_tokens` long, at most `TOLERANCE` shorter, once they are fitted.

    Its hash is that of the recipe: number, length, and the version of the documents' generator.
    """
    prompts = tuple(_prompt(index, prompt_tokens) for index in range(num_prompts))
    recipe = {"num_prompts": num_prompts, "prompt_tokens": prompt_tokens, "version": VERSION}
    digest = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode())
    return Workload("long_context", prompts, digest.hexdigest())


def depth_of(index: int) -> float:
    """Where the prompt's needle stands, as a share of the document: a van der Corput sequence."""
    depth, step, rest = 0.0, 0.5, index + 1
    while rest:
        depth, step, rest = depth + step * (rest % 2), step / 2, rest // 2
    return depth


def _prompt(index: int, prompt_tokens: int) -> Prompt:
    genre = list(GENRES)[index % len(GENRES)]
    document = Document(genre, str(index), depth_of(index))
    number = document.note.number
    return Prompt(
        index,
        genre,
        f"[{genre}, {prompt_tokens} tokens, at {document.depth:.1%}] {document.question}",
        f"Answer: {number}",
        lambda text: final_number(text) == number,
        form=has_final_number,
        fit=lambda encode: document.fit(prompt_tokens, encode),
    )


class Document:
    """A document that grows to any length, with its needle and its question.

    Attributes:
        depth: where the needle stands, as a share of the lines.
    """

    def __init__(self, genre: str, seed: str, depth: float) -> None:
        self.genre, self.seed, self.depth = genre, seed, depth
        self.note, self._stream = document_lines(genre, seed)
        self._lines: list[str] = []

    @property
    def question(self) -> str:
        return (
            f"Which number does the tag on the key of the {self.note.room} bear, according to the "
            "text above? Quote the sentence that says so, then finish with one line of the form "
            "Answer: <number>"
        )

    def text(self, num_lines: int, num_filler_words: int = 0) -> str:
        """The prompt with so many lines beside the needle, and some words to fill it up."""
        self._lines += islice(self._stream, max(num_lines - len(self._lines), 0))
        before = round(num_lines * self.depth)
        needle = needle_line(self.genre, self.seed, self.note, before)
        body = [*self._lines[:before], needle, *self._lines[before:num_lines]]
        if num_filler_words:
            body.append(" ".join(islice(cycle(_FILLER), num_filler_words)))
        return "\n".join([GENRES[self.genre].opening, "", *body, "", self.question])

    def fit(self, prompt_tokens: int, encode: Encode) -> list[int]:
        """Token ids of the longest text that fits: whole lines first, then words.

        Raises:
            ValueError: this tokenizer cannot meet the length.
        """
        num_lines = _most(lambda n: len(encode(self.text(n))), prompt_tokens)
        num_words = _most(lambda n: len(encode(self.text(num_lines, n))), prompt_tokens)
        ids = encode(self.text(num_lines, num_words))
        if not (1 - TOLERANCE) * prompt_tokens <= len(ids) <= prompt_tokens:
            raise ValueError(
                f"workload.prompt_tokens is {prompt_tokens}; the nearest prompt that this "
                f"tokenizer gives has {len(ids)} tokens"
            )
        return ids


def _most(tokens: Callable[[int], int], limit: int) -> int:
    """The largest size of at most `limit` tokens: guessed by their density, then walked to."""
    tokens = cache(tokens)
    per_item = (tokens(_SAMPLE) - tokens(0)) / _SAMPLE
    if per_item <= 0 or tokens(0) >= limit:
        return 0
    size = 0
    for _ in range(_MAX_GUESSES):
        step = int((limit - tokens(size)) / per_item)
        if step == 0:
            break
        size = max(0, size + step)
    while size and tokens(size) > limit:
        size -= 1
    while tokens(size + 1) <= limit:
        size += 1
    return size
