"""Milliseconds of a whole captured step of the released shape with random weights."""

import itertools
import statistics

import torch

import model as engine
from model.execution import make_wrapper
from model.kernels.block import retile
from model.kernels.tiles import TileTable
from model.sampling import StepDone
from model.sampling.noise import SeededNoise

_PROMPT_TOKENS = 1024
_DECODED = 64
_CANVASES = 2
_TIMED = ("denoise", "decode")


class WholeStep:
    """A model, loaded once, whose steps are captured anew with every table."""

    def __init__(self, name: str, precision: str, device: torch.device) -> None:
        self.loaded = engine.load(
            name,
            precision=precision,
            kernels="triton",
            execution="cuda_graph",
            device=str(device),
            weights="dummy",
        )
        self._device = device
        generator = torch.Generator().manual_seed(5)
        vocabulary = self.loaded.config.vocab_size
        ids = torch.randint(vocabulary // 2, vocabulary, (_PROMPT_TOKENS,), generator=generator)
        self._prompt: list[int] = ids.tolist()

    @property
    def tokens(self) -> int:
        """Of a step."""
        return self.loaded.config.canvas_length or 1

    def __call__(self, table: TileTable) -> float:
        """The median step, after a generation that captures it."""
        retile(self.loaded.model, table)
        self.loaded.model.wrap_step = make_wrapper("cuda_graph", self._device)
        canvas = self.loaded.config.canvas_length
        self._steps_ms(4 if canvas is None else canvas + 1)
        return statistics.median(self._steps_ms(_DECODED if canvas is None else canvas * _CANVASES))

    def _steps_ms(self, new_tokens: int) -> list[float]:
        config = self.loaded.config
        is_diffusion = config.canvas_length is not None
        events = engine.generate(
            self.loaded.model,
            [self._prompt],
            engine.DiffusionSampling(max_denoising_steps=16, early_stop=False)
            if is_diffusion
            else engine.GreedySampling(),
            max_new_tokens=new_tokens,
            eos_policy=engine.EosPolicy.IGNORE,
            trace=engine.TraceLevel.COUNTS,
            noise=SeededNoise(0, [7], config.canvas_length or 1, config.vocab_size)
            if is_diffusion
            else None,
        )
        marks: list[tuple[bool, torch.cuda.Event]] = []
        for event in events:
            mark = torch.cuda.Event(enable_timing=True)
            mark.record()
            is_step = isinstance(event, StepDone) and event.phase.value in _TIMED
            marks.append((is_step, mark))
        torch.cuda.synchronize(self._device)
        return [
            before.elapsed_time(mark)
            for (_, before), (is_step, mark) in itertools.pairwise(marks)
            if is_step
        ]
