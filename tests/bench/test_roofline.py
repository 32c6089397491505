"""Floors of listed devices: the published plan's figures, and what the table refuses."""

import json

import pytest
from rich.console import Console

from bench.devices import DEVICES, device, recognised
from bench.roofline import floor_columns, op_floor_s, streaming_floor_s, tokens_per_s
from bench.roofline_table import print_roofline
from model import preset
from model.precision import Precision
from model.work import forward_work

FULL, SIBLING = preset("diffusiongemma-26b-a4b"), preset("gemma-4-26b-a4b")


@pytest.mark.parametrize(
    ("name", "precision", "denoise_ms", "commit_ms", "rate"),
    [
        ("h100", Precision.BF16, 15.79, 14.79, 957),
        ("h100", Precision.FP8, 8.47, 7.49, 1790),
        ("h200", Precision.FP8, 6.15, 5.40, None),
    ],
)
def test_floors_agree_with_the_kernel_plan(
    name: str, precision: Precision, denoise_ms: float, commit_ms: float, rate: float | None
) -> None:
    on = device(name)
    denoise, commit = (
        forward_work(FULL, kind, precision, context=1024) for kind in ("denoise", "commit")
    )
    assert op_floor_s(denoise, on) * 1e3 == pytest.approx(denoise_ms, rel=5e-3)
    assert op_floor_s(commit, on) * 1e3 == pytest.approx(commit_ms, rel=1e-2)
    assert streaming_floor_s(denoise, on) < op_floor_s(denoise, on)
    if rate is not None:
        assert tokens_per_s(256, 16, denoise, commit, on) == pytest.approx(rate, rel=5e-3)


def test_a_device_is_recognised_by_what_its_driver_says() -> None:
    assert recognised("NVIDIA H100 80GB HBM3") is DEVICES["h100"]
    assert recognised("NVIDIA H100 PCIe") is DEVICES["h100-pcie"]
    assert recognised("NVIDIA H200") is DEVICES["h200"]
    assert recognised("NVIDIA H100 NVL") is DEVICES["h100-nvl"]
    assert recognised("cpu") is None


def test_every_device_names_its_source() -> None:
    for listed in DEVICES.values():
        assert "data sheet" in listed.source or "brief" in listed.source
        assert listed.bytes_per_s > 1e11


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("device=h300", "device 'h300' is not listed; valid: h100"),
        ("contxt=1", "key 'contxt' is unknown; valid: device"),
        ("context=many", "context is 'many'"),
        ("context=10000000", "context is 10000000; .* has 262144 positions, .* 0 to 261888 before"),
        ("context=261889", "context is 261889"),
        ("model=gemma-4-26b-a4b", "is no diffusion preset; valid: diffusiongemma-26b-a4b"),
    ],
)
def test_bad_input_is_one_line(override: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        print_roofline([override])


def test_the_table_prints(capsys: pytest.CaptureFixture[str]) -> None:
    print_roofline(["device=h200", "context=0"])
    text = capsys.readouterr().out
    assert "projected" in text
    assert "experts" in text


def test_the_same_stands_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_roofline(["device=h100", "context=0", "batch_size=2"], as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["class"], told["context"], told["batch_size"]) == ("projected", 0, 2)
    assert told["device"]["bytes_per_s"] == DEVICES["h100"].bytes_per_s
    assert list(told["precisions"]) == ["fp8", "bf16"]
    fp8 = told["precisions"]["fp8"]
    assert list(fp8["forwards"]) == ["denoise", "commit", "fused", "decode"]
    floors_s = {kind: own["op_floor_s"] for kind, own in fp8["forwards"].items()}
    for own in fp8["forwards"].values():
        assert sum(group["floor_s"] for group in own["op_groups"]) == pytest.approx(
            own["op_floor_s"]
        )
    rates = fp8["tok_per_s_by_steps"]
    separate_s = 16 * floors_s["denoise"] + floors_s["commit"]
    assert rates["commit=separate"]["16"] == pytest.approx(2 * 256 / separate_s)
    fused_s = 15 * floors_s["denoise"] + floors_s["fused"]
    assert rates["commit=fused"]["16"] == pytest.approx(2 * 256 / fused_s)
    assert fp8["autoregressive_tok_per_s"] == pytest.approx(2 / floors_s["decode"])


WORK = {
    "context": 12,
    "expert_bytes": 1e6,
    "groups": [
        {"name": "experts", "weight_bytes": 0.0, "activation_bytes": 0.0, "flops": 8e9}
        | {"is_fp8": True},
        {"name": "logits", "weight_bytes": 2e6, "activation_bytes": 1e6, "flops": 1e6}
        | {"is_fp8": False},
    ],
}
PROBE = {"copy_bytes_per_s": 1e9, "fp32_flops": 1e12, "bf16_flops": 2e12, "fp8_flops": 4e12}
ROW = {
    "decoding": "diffusion",
    "precision": "fp8",
    "emulated": False,
    "device": "NVIDIA H200",
    "distinct_experts_per_layer": 4.0,
    "step_ms": 14.0,
    "decode_ms": None,
}


def test_a_points_share_is_of_what_its_device_reached() -> None:
    found = floor_columns(ROW, WORK, PROBE)
    # experts: max(4 MB / 1 GB/s, 8 GFLOP / 4 TFLOP/s) = 4 ms; logits: max(3 MB, ...) = 3 ms
    assert found["op_floor_ms"] == pytest.approx(7.0)
    assert found["op_floor_share"] == pytest.approx(0.5)
    assert found["streaming_floor_ms"] == pytest.approx(6e6 / 4.8e12 * 1e3)
    arithmetic = floor_columns(ROW | {"distinct_experts_per_layer": 1.0}, WORK, PROBE)
    assert arithmetic["op_floor_ms"] == pytest.approx(2.0 + 3.0)  # fp8 products bind now
    wide = floor_columns(ROW | {"precision": "fp32", "device": "cpu"}, WORK, PROBE)
    assert wide["streaming_floor_ms"] is wide["streaming_floor_share"] is None


@pytest.mark.parametrize(
    ("row", "work", "probe"),
    [
        (ROW | {"emulated": True}, WORK, PROBE),
        (ROW | {"distinct_experts_per_layer": None}, WORK, PROBE),
        (ROW | {"min_belief": 0.001}, WORK, PROBE),
        (ROW, None, PROBE),
        (ROW, WORK, None),
    ],
)
def test_a_floor_that_cannot_be_known_is_unknown(row, work, probe) -> None:
    assert floor_columns(row, work, probe) == {}


def test_no_name_is_cut_on_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "bench.roofline_table.screen",
        lambda: Console(width=80, force_terminal=True, color_system=None),
    )
    print_roofline(["device=h200", "context=261888", "batch_size=64"])
    text = capsys.readouterr().out
    assert "…" not in text
    for name in ("projections", "self conditioning", "arithmetic"):
        assert name in text
    assert max(map(len, text.splitlines())) <= 80
