"""A session without a model: it replays scripted deliveries to test the harness alone."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from bench.backends import Delivery, Forward, Identity, RowBlock, Trace, unmarked
from bench.timing import HostStopwatch

EOS, LENGTH = 1, 8


@dataclass
class ScriptedSession:
    """Answers every prompt with the same canvases; text is the ids' letters.

    `canvases` hold (slots, steps) per canvas; the first EOS ends the row.
    """

    canvases: Sequence[tuple[Sequence[int], int]]
    asked: list[dict] = field(default_factory=list)

    @property
    def identity(self) -> Identity:
        return Identity(
            model="scripted",
            decoding="diffusion",
            emulated=False,
            weights="none",
            weights_sha256=None,
            vocab_size=30,
            canvas_length=LENGTH,
            device="cpu",
            eos_token_ids=(EOS,),
        )

    def stopwatch(self) -> HostStopwatch:
        """A clock that moves one second at every look."""
        ticks = itertools.count()
        return HostStopwatch(lambda: float(next(ticks)), "virtual")

    def touched_experts(
        self, prompts: Sequence[Sequence[int]], row_keys: Sequence[int]
    ) -> Iterator[tuple[Forward, list[int]]]:
        for event in self.answer(prompts, row_keys):
            if isinstance(event, Forward):
                yield event, [2, 3]

    def weight_bytes(self, distinct_experts: float) -> float:
        return 100 + 10 * distinct_experts

    def check(self, prompts: Sequence[Sequence[int]]) -> None:
        del prompts

    def encode(self, text: str) -> list[int]:
        return [2, *(ord(c) - 87 for c in text)]

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(chr(int(t) + 87) for t in tokens if t != EOS)

    def vocabulary(self, token: int) -> str:
        return "<eos>" if token == EOS else chr(token + 87)

    def answer(
        self,
        prompts: Sequence[Sequence[int]],
        row_keys: Sequence[int],
        *,
        first_canvas: Sequence[Sequence[int]] | None = None,
        max_new_tokens: int | None = None,
        mark: Callable[[], None] = unmarked,
    ) -> Iterator[Forward | Delivery]:
        self.asked.append({"prompts": prompts, "keys": row_keys, "first_canvas": first_canvas})
        for event in self.events(len(prompts)):
            mark()
            yield event

    def events(self, num_rows: int) -> Iterator[Forward | Delivery]:
        """What happens, to a batch of so many rows."""
        yield Forward("prefill", 0, 1)
        for index, (slots, steps) in enumerate(self.canvases):
            if index:
                yield Forward("commit", index, 1)
            for step in range(steps):
                yield Forward("denoise", index, step + 1)
            content = list(slots)[: slots.index(EOS) + 1] if EOS in slots else list(slots)
            is_last = index == len(self.canvases) - 1
            row = RowBlock(
                tokens=content,
                slots=list(slots),
                after_eos=len(slots) - len(content),
                over_limit=0,
                row_ended=0,
                steps=steps,
                stop_reason="converged",
                finish_reason="eos" if is_last else None,
            )
            yield Delivery(index, [row] * num_rows, self._trace(slots, steps, num_rows))

    def _trace(self, slots: Sequence[int], steps: int, rows: int) -> Trace:
        shape = (steps, rows, len(slots))
        argmax = np.broadcast_to(np.asarray(slots), shape)
        return Trace(
            accepted_slots=np.full(shape[:2], 3),
            mean_entropy_nat=np.full(shape[:2], 0.5),
            candidate=argmax,
            accepted=np.ones(shape, dtype=bool),
            argmax=argmax,
            entropy_nat=np.zeros(shape),
        )
