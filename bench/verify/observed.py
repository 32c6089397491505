"""What either engine is asked and what it answered, on the host: nothing of either engine itself.

Legend: N denoise steps, L positions, V vocab.
"""

import random
from dataclasses import dataclass

from torch import Tensor

from bench.workloads.fixed_work import NEVER_ASKED
from model import ModelConfig

_NUM_PROMPT_TOKENS = 24
_NUM_NEW_TOKENS = 32


@dataclass(frozen=True, slots=True)
class Asked:
    """The same for both engines.

    Attributes:
        prompt: token ids.
        canvas: where the first denoise step starts; empty for the autoregressive sibling.
        max_new_tokens: one canvas, or some tokens.
        expected: a text that the answer is to contain; None where the prompt asks nothing.
    """

    prompt: list[int]
    canvas: list[int]
    max_new_tokens: int
    expected: str | None


@dataclass(frozen=True, slots=True)
class Observed:
    """What an engine computed.

    Attributes:
        logits_LV: of the canvas's first denoise step, or of the prompt's positions; fp32.
        accepted_NL, argmax_NL: of one canvas's steps; None for the autoregressive sibling.
        tokens: the text it delivered.
    """

    logits_LV: Tensor
    accepted_NL: Tensor | None
    argmax_NL: Tensor | None
    tokens: list[int]


def asked_of(config: ModelConfig, prompt: list[int] | None, expected: str | None) -> Asked:
    """The question's ids, or fixed random ones without a question, and a fixed random canvas."""
    draw = random.Random("canvasbench verify")
    plain = [token for token in range(config.vocab_size) if token not in NEVER_ASKED]
    if prompt is None:
        prompt = [config.bos_token_id, *draw.choices(plain, k=_NUM_PROMPT_TOKENS)]
    canvas = draw.choices(range(config.vocab_size), k=config.canvas_length or 0)
    return Asked(prompt, canvas, config.canvas_length or _NUM_NEW_TOKENS, expected)
