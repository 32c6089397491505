"""What a machine can run, in lines and in JSON: the same facts."""

import json
from dataclasses import asdict

import pytest
import torch
from typer.testing import CliRunner

from bench import doctor
from bench.cli import app
from bench.probe import Probe

REACHED = Probe(copy_bytes_per_s=3e12, fp32_flops=4e13, bf16_flops=7.5e14, fp8_flops=None)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU of 40 GiB beside a processor, without the time of a probe."""
    gpu = doctor.Gpu("Fake GPU", 40 << 30, "580.1", (9, 0))
    monkeypatch.setattr(doctor, "gpus", lambda: [gpu])
    monkeypatch.setattr(doctor, "probe", lambda device: REACHED)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


@pytest.mark.usefixtures("machine")
def test_json_has_what_the_lines_say() -> None:
    told = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
    lines = CliRunner().invoke(app, ["doctor"]).stdout
    assert told["processor"]["reached"] == told["gpu_reached"] == asdict(REACHED)
    assert lines.count("copy 3e+03 GB/s, fp32 40 TFLOP/s, bf16 750 TFLOP/s\n") == 2
    assert told["gpus"] == [
        {
            "name": "Fake GPU",
            "memory_bytes": 40 << 30,
            "driver": "580.1",
            "capability": [9, 0],
            "has_fp8": True,
        }
    ]
    assert "Fake GPU, 40 GiB, native fp8, driver 580.1" in lines
    large = told["models"]["diffusiongemma-26b-a4b"]
    assert (large["fits_in"], large["weights"]) == (["fp8"], "dummy, or a checkpoint")
    assert "25.25 B  fp8 (weights: dummy, or a checkpoint)" in lines
    assert told["models"]["tiny-diffusion"]["weights"] == "shipped"


@pytest.mark.parametrize(
    ("found", "line"), [(None, "gpu        none (no NVIDIA driver)"), ([], "gpu        none")]
)
def test_without_a_gpu_it_says_why(
    monkeypatch: pytest.MonkeyPatch, found: list[doctor.Gpu] | None, line: str
) -> None:
    monkeypatch.setattr(doctor, "gpus", lambda: found)
    monkeypatch.setattr(doctor, "probe", lambda device: REACHED)
    described = doctor.describe()
    assert line in doctor.in_lines(described)
    assert (described["gpus"], described["driver"]) == ([], found is not None)
