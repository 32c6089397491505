"""The probe reaches rates of a plausible size, once a process, and none it has no units for."""

import torch

from bench.probe import probe
from model.precision import has_bf16_units


def test_a_processor_reaches_something() -> None:
    found = probe("cpu")
    assert 1e8 < found.copy_bytes_per_s < 1e13
    assert 1e8 < found.fp32_flops < 1e15
    assert (found.bf16_flops is not None) == has_bf16_units(torch.device("cpu"))
    assert found.fp8_flops is None
    assert probe("cpu") is found
