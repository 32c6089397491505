"""Devices by name: what is unknown or not here is refused in a sentence."""

import pytest
import torch

from bench.torch_device import torch_device


def test_a_device_that_is_here() -> None:
    assert torch_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "num_gpus", "said"),
    [
        ("tpu?", 0, "device 'tpu\\?' is unknown; valid: cpu, cuda, cuda:N"),
        ("cuda", 0, "device 'cuda' is not available here; valid: cpu"),
        ("cuda:2", 2, "device 'cuda:2' is not here; valid: cpu, cuda:0 to cuda:1"),
    ],
)
def test_others_are_refused(
    name: str, num_gpus: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: num_gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: num_gpus)
    with pytest.raises(ValueError, match=said):
        torch_device(name)
