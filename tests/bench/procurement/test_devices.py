"""The device list: complete, sourced, in the right units, recognised by a driver's name."""

import pytest

from bench.devices import DEVICES, FIGURES, device, recognised
from bench.roofline import group_floors, op_floor_s
from bench.roofline_table import print_roofline
from model import preset
from model.precision import Precision
from model.work import forward_work

WANTED = "h100 h100-pcie h100-nvl h200 b200 gb10 rtx5090 rtx-pro-6000 l40s a100 mi300x".split()


def test_every_device_that_a_buyer_asks_for_is_listed_with_sourced_figures() -> None:
    assert set(WANTED) <= set(DEVICES)
    for name, listed in DEVICES.items():
        assert set(listed.sources) == set(FIGURES), name
        assert all(len(source) > 10 for source in listed.sources.values()), name
        assert 1e11 < listed.bytes_per_s < 1e13
        assert 1e10 < listed.memory_bytes < 1e12
        assert listed.tdp_w is None or 50 < listed.tdp_w < 2000


def test_rates_are_dense() -> None:
    """A rate with sparsity is twice the dense one; fp8 is twice bf16 on all of these."""
    assert DEVICES["h100"].bf16_flops == 989e12
    assert DEVICES["h200"].fp8_flops == 1979e12
    for name, listed in DEVICES.items():
        if listed.bf16_flops and listed.fp8_flops:
            assert listed.fp8_flops / listed.bf16_flops == pytest.approx(2, rel=0.03), name


def test_what_is_not_stated_is_unknown() -> None:
    spark = device("gb10")
    assert spark.bf16_flops is spark.fp8_flops is None
    assert spark.flops(is_fp8=True) is None
    assert "not stated" in spark.sources["bf16_tflop_per_s"]
    ampere = device("a100")
    assert ampere.fp8_flops is None
    assert ampere.flops(is_fp8=True) == ampere.bf16_flops


def test_a_floor_without_a_product_rate_is_memorys() -> None:
    config = preset("diffusiongemma-26b-a4b")
    groups = forward_work(config, "denoise", Precision.FP8, context=1024)
    floors = group_floors(groups, device("gb10"))
    assert all(floor.arithmetic_s is None for floor in floors)
    moved = sum(group.bytes for group in groups)
    assert op_floor_s(groups, device("gb10")) == pytest.approx(moved / 273e9)


@pytest.mark.parametrize(
    ("reported", "name"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GB10", "gb10"),
        ("NVIDIA GeForce RTX 5090", "rtx5090"),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "rtx-pro-6000"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_a_device_is_recognised(reported: str, name: str) -> None:
    assert recognised(reported) is DEVICES[name]


@pytest.mark.parametrize(
    "reported",
    [
        "NVIDIA GH200 480GB",
        "NVIDIA H200 NVL",
        "NVIDIA GB200",
        "NVIDIA GeForce RTX 5090 Laptop GPU",
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        "NVIDIA A100 80GB PCIe",
    ],
)
def test_a_sister_with_other_figures_is_not(reported: str) -> None:
    assert recognised(reported) is None


@pytest.mark.parametrize("name", ["gb10", "rtx5090", "a100"])
def test_the_roofline_accepts_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_roofline([f"device={name}"])
    text = capsys.readouterr().out
    assert DEVICES[name].label in text
    assert ("n/a" in text) == (name in ("gb10", "a100"))
    assert ("floors are those of memory alone" in text) == (name == "gb10")
