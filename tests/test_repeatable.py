"""What all tests share is the same for each, whichever ran before and however busy the machine."""

import pytest
import torch
from hypothesis import HealthCheck, settings


@pytest.mark.parametrize("turn", ["first", "second"])
def test_torch_draws_the_same_in_every_test(turn: str) -> None:
    own = torch.Generator().manual_seed(0)
    assert torch.equal(torch.rand(9), torch.rand(9, generator=own))


def test_properties_are_tried_on_the_same_examples_without_a_clock() -> None:
    given = settings(max_examples=7)
    assert (given.derandomize, given.deadline, given.database) == (True, None, None)
    assert HealthCheck.too_slow in given.suppress_health_check
