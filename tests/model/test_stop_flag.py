"""Steps issued ahead stop where waiting for them would, and a word that never comes is survived."""

import pytest
import torch

from model import DiffusionSampling, generate, load
from model.execution import Unwrapped
from model.sampling import BlockDelivered
from model.stop_flag import StopFlag

PROMPTS = ["sort dacb=", "shuffle hello=", "add 23 45="]


class FixedShapes(Unwrapped):
    """Steps as a captured graph wants them, called as they are."""

    fixed_shapes = True


def steps_and_tokens(loaded, prompts: list[list[int]]) -> list[tuple[int, list[int]]]:
    events = generate(loaded.model, prompts, DiffusionSampling(), max_new_tokens=64)
    return [
        (row.steps, row.tokens)
        for event in events
        if isinstance(event, BlockDelivered)
        for row in event.rows
    ]


@pytest.mark.parametrize("together", [False, True])
def test_canvases_stop_at_the_same_step(together: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load("tiny-diffusion")
    assert loaded.tokenizer is not None
    ids = [[2, *loaded.tokenizer.encode(text).ids] for text in PROMPTS]
    batches = [ids] if together else [[own] for own in ids]
    waited = [steps_and_tokens(loaded, batch) for batch in batches]
    reads = []
    read = StopFlag.read
    monkeypatch.setattr(StopFlag, "read", lambda *given: reads.append(1) or read(*given))
    loaded.model.wrap_step = FixedShapes()
    ahead = [steps_and_tokens(loaded, batch) for batch in batches]
    assert ahead == waited
    assert len(reads) >= len(batches)
    assert len({steps for batch in ahead for steps, _ in batch}) > 1 or together


def test_a_word_is_unknown_until_its_step_writes_it() -> None:
    flag, device = StopFlag(), torch.device("cpu")
    for index, answer in enumerate((True, False)):
        flag.arm(device)
        flag.write(torch.tensor(index), torch.tensor([True, answer]))
        assert flag.read(index, torch.tensor([not answer])) is answer
    flag.arm(device)
    for answer in (True, False):  # nobody wrote: the device's own answer counts
        assert flag.read(0, torch.tensor([answer, True])) is answer


def test_what_an_earlier_step_writes_late_is_not_the_later_ones_answer() -> None:
    flag = StopFlag()
    flag.arm(torch.device("cpu"))
    flag.write(torch.tensor(4), torch.tensor([True]))
    assert flag.read(5, torch.tensor([False])) is False


def test_forced_steps_need_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("a forced step asked for the flag")

    monkeypatch.setattr(StopFlag, "arm", never)
    loaded = load("tiny-diffusion")
    loaded.model.wrap_step = FixedShapes()
    forced = DiffusionSampling(max_denoising_steps=2, early_stop=False)
    assert list(generate(loaded.model, [[2, 9, 10]], forced, max_new_tokens=8))
