"""What a call of upstream's `generate` shows while it runs, and when: its public hooks.

`generate` returns when all is done, so each hook marks the harness's clock in the moment it is
called and notes what happened; the notes become events afterwards. No hook waits for the device.

What a lap holds, from the mark before it:
- prefill: preparing the call, and the encoder (autoregressive: the model) over the prompts.
- denoise: the decoder, upstream's whole sampler and its stop criterion, and in the first step of a
  canvas its masks and fresh noise. Upstream hands every step's argmax to a streamer that takes
  drafts, [B, L] ids copied to the host: a wait right before the one its own stop check makes in
  every step. `torch.multinomial` makes another one of its own on a GPU.
- commit: after the canvas before is delivered the check for the end of all rows, masks, and the
  encoder over that canvas.
- decode: the stop check of the token before, preparing inputs, and the model; without the argmax.

Which positions a step accepted and their entropies are in no public hook, nor which rows of a batch
had ended their canvas.

Legend: B rows, P prompt width, L canvas.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from bench.backends import Forward, Mark


@dataclass(frozen=True, slots=True)
class Block:
    """A block's ids on the host: a canvas [B, L], or one token for every row [B, 1].

    Attributes:
        slots: every position as denoised; `ids` has padding after the first EOS.
    """

    ids: Tensor
    slots: Tensor


class CanvasHooks:
    """A streamer that takes drafts, told besides when the encoder is done."""

    def __init__(self, mark: Mark) -> None:
        self.notes: list[Forward | Block] = []
        self._mark = mark
        self._has_prompt = False
        self._index = 0
        self._step = 0
        self._draft: Tensor | None = None

    def encoded(self) -> None:
        """The prompt, or the canvas before, is in the cache."""
        self._note(Forward("commit" if self._index else "prefill", self._index, 1))

    def put_draft(self, value: Tensor) -> None:
        """A denoise step's argmax [B, L]."""
        self._draft, self._step = value, self._step + 1
        self._note(Forward("denoise", self._index, self._step))

    def put(self, value: Tensor) -> None:
        """The prompts [B, P], then every finished canvas [B, L]."""
        if not self._has_prompt:
            self._has_prompt = True
            return
        assert self._draft is not None
        self._note(Block(value, self._draft))
        self._index, self._step = self._index + 1, 0

    def end(self) -> None:
        """Nothing comes after the last canvas."""

    def _note(self, note: Forward | Block) -> None:
        self._mark()
        self.notes.append(note)


class TokenHooks:
    """A streamer, and a logits processor that changes nothing."""

    def __init__(self, mark: Mark) -> None:
        self.notes: list[Forward | Block] = []
        self.top_scores: list[Tensor] = []
        self._mark = mark
        self._has_prompt = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """A forward's scores [B, V], before the argmax."""
        index = len(self.top_scores)
        self._mark()
        self.notes.append(Forward("decode" if index else "prefill", index, 1))
        self.top_scores.append(scores.amax(-1))
        return scores

    def put(self, value: Tensor) -> None:
        """The prompts [B, P], then every token [B]."""
        if not self._has_prompt:
            self._has_prompt = True
            return
        self._mark()
        self.notes.append(Block(value[:, None], value[:, None]))

    def end(self) -> None:
        """Nothing comes after the last token."""


class EncoderHook:
    """Tells whoever listens when the encoder has run, compiled or not.

    A module's hooks are traced with it, where they do nothing; upstream's compiled encoder, a
    module of its own, is hooked besides once it exists.
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.listener: CanvasHooks | None = None
        self._hooked: list[nn.Module] = []
        self.watch(encoder)

    def watch(self, encoder: nn.Module) -> None:
        if not any(encoder is each for each in self._hooked):
            encoder.register_forward_hook(self._done)
            self._hooked.append(encoder)

    def _done(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if not torch.compiler.is_compiling() and self.listener is not None:
            self.listener.encoded()
