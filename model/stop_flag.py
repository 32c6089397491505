"""Whether all rows of a canvas are done, told to the host while the device goes on working.

A step writes the answer to pinned memory as soon as it has decided; what it computes after that
hides the time in which the host reads it and issues the next step. The flag's address is part of a
captured step, so there is one a model.
"""

import itertools

import torch
from torch import Tensor

_UNKNOWN = -1
_POLLS_A_QUERY = 1000


class StopFlag:
    """One word that the device writes and the host waits for."""

    def __init__(self) -> None:
        self._word_1: Tensor | None = None
        self._device = torch.device("cpu")

    def settle(self) -> None:
        """Before a generation: what an abandoned one still has to write is written."""
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()

    def arm(self, device: torch.device) -> None:
        """Before a step is issued: its answer is not known. Nothing may be writing any more."""
        if self._word_1 is None or self._device != device:
            pinned = device.type == "cuda"
            self._word_1 = torch.empty(1, dtype=torch.int64, pin_memory=pinned)
            self._device = device
        self._word_1.fill_(_UNKNOWN)

    def write(self, done_B: Tensor) -> None:
        """Within a step: all done or not, without waiting."""
        assert self._word_1 is not None, "a flag is armed before its step"
        self._word_1.copy_(done_B.all()[None], non_blocking=True)

    def read(self, done_B: Tensor) -> bool:
        """After a step was issued: waits for its answer alone, not for its end.

        Args:
            done_B: the same answer on the device, for the case that its word never comes.
        """
        assert self._word_1 is not None, "a flag is armed before its step"
        for polls in itertools.count(1):
            word = int(self._word_1)
            if word != _UNKNOWN:
                return bool(word)
            if polls % _POLLS_A_QUERY == 0 and self._is_idle() and int(self._word_1) == _UNKNOWN:
                break
        return bool(done_B.all())

    def _is_idle(self) -> bool:
        """Whether everything issued is done; an error of the device is raised here."""
        return self._device.type != "cuda" or torch.cuda.current_stream(self._device).query()
