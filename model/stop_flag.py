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
    """One word that the device writes and the host waits for: a step's index and its answer.

    With the index in it, what an earlier step writes late is never taken for a later one's answer.
    """

    def __init__(self) -> None:
        self._word_1: Tensor | None = None
        self._device = torch.device("cpu")

    def settle(self) -> None:
        """Before a generation: what an abandoned one still has to write is written."""
        if self._device.type == "cuda":
            torch.cuda.current_stream(self._device).synchronize()

    def arm(self, device: torch.device) -> None:
        """Before a step is issued: its answer is not known."""
        if self._word_1 is None or self._device != device:
            pinned = device.type == "cuda"
            self._word_1 = torch.empty(1, dtype=torch.int64, pin_memory=pinned)
            self._device = device
        self._word_1.fill_(_UNKNOWN)

    def write(self, index: Tensor, done_B: Tensor) -> None:
        """Within step `index` (int64, one element) of a canvas: all done or not; does not wait."""
        assert self._word_1 is not None, "a flag is armed before its step"
        self._word_1.copy_((2 * index + done_B.all()).view(1), non_blocking=True)

    def read(self, index: int, done_B: Tensor) -> bool:
        """After a step was issued: waits for its answer alone, not for its end.

        Args:
            done_B: the same answer on the device, for the case that its word never comes.
        """
        assert self._word_1 is not None, "a flag is armed before its step"
        for polls in itertools.count(1):
            word = int(self._word_1)
            if word >> 1 == index:
                return bool(word & 1)
            if polls % _POLLS_A_QUERY == 0 and self._is_idle() and int(self._word_1) == word:
                break
        return bool(done_B.all())

    def _is_idle(self) -> bool:
        """Whether everything issued is done; an error of the device is raised here."""
        return self._device.type != "cuda" or torch.cuda.current_stream(self._device).query()
