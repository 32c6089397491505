"""Tells a model's reasoning from its answer: what stands in a thought channel is not visible.

Gemma 4, and DiffusionGemma with it, writes its thoughts as `<|channel>thought ... <channel|>` ahead
of the answer; both markers are single special tokens (ids 100 and 101 in the released vocabulary).
Source: Google's page "Gemma 4 prompt formatting"
(https://ai.google.dev/gemma/docs/core/prompt-formatting-gemma4), read 2026-11-26.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

OPEN, CLOSE = "<|channel>", "<channel|>"


@dataclass(frozen=True, slots=True)
class Thought:
    """The ids of a vocabulary's two markers."""

    open_id: int
    close_id: int

    @classmethod
    def of(cls, token_id: Callable[[str], int | None]) -> "Thought | None":
        """The markers of a vocabulary that has both; `token_id` looks a token up."""
        open_id, close_id = token_id(OPEN), token_id(CLOSE)
        return None if open_id is None or close_id is None else cls(open_id, close_id)

    def visible(self, tokens: Sequence[int]) -> list[int]:
        """The tokens outside of every channel, markers left out.

        An answer begins outside of every channel, since no template of these models leaves one
        open. One that is never closed, as in an answer cut short, reaches to the end.
        """
        shown: list[int] = []
        inside = False
        for token in tokens:
            if token in (self.open_id, self.close_id):
                inside = token == self.open_id
            elif not inside:
                shown.append(token)
        return shown


def visible(thought: Thought | None, tokens: Sequence[int]) -> list[int]:
    """What a reader sees: everything where the model has no thought channel."""
    return list(tokens) if thought is None else thought.visible(tokens)
