"""Accelerators by their data sheets (`devices.yaml`): what a roofline divides by."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml

FIGURES = ("memory_gb", "bandwidth_tb_per_s", "bf16_tflop_per_s", "fp8_tflop_per_s", "tdp_w")
"""What the file says of a device, in its units."""


@dataclass(frozen=True, slots=True)
class Device:
    """Peak figures of one device.

    Attributes:
        architecture: devices that share one run the same kernels.
        bytes_per_s: memory bandwidth.
        bf16_flops, fp8_flops: dense matrix products a second, fp32 accumulation; None where the
            maker does not state them, or the device has none of the kind.
        tdp_w: of the whole board, or of the package where processor and GPU share one.
        matches, excludes: lower-case words of the name the driver reports, by which the device is
            recognised: all of the former, none of the latter.
        sources: where each figure of `FIGURES` stands.
    """

    label: str
    architecture: str
    bytes_per_s: float
    bf16_flops: float | None
    fp8_flops: float | None
    memory_bytes: float
    tdp_w: float | None
    matches: tuple[str, ...]
    excludes: tuple[str, ...]
    source: str
    sources: Mapping[str, str]

    def flops(self, *, is_fp8: bool) -> float | None:
        """The rate of a product; without fp8 units its values are multiplied as bf16.

        None where it is not known.
        """
        return self.fp8_flops if is_fp8 and self.fp8_flops else self.bf16_flops


def device(name: str) -> Device:
    """The device called `name`.

    Raises:
        ValueError: it is not listed; the message names those that are.
    """
    if name not in DEVICES:
        raise ValueError(f"device {name!r} is not listed; valid: {', '.join(DEVICES)}")
    return DEVICES[name]


def recognised(reported: str) -> Device | None:
    """The listed device behind a driver's name, None where none or more than one fits."""
    words = reported.lower()
    found = [
        d
        for d in DEVICES.values()
        if all(word in words for word in d.matches) and not any(w in words for w in d.excludes)
    ]
    return found[0] if len(found) == 1 else None


def _device(given: Mapping[str, Any]) -> Device:
    own, terabyte = given.get("sources", {}), 1e12

    def scaled(name: str) -> float | None:
        return None if given[name] is None else given[name] * terabyte

    return Device(
        label=given["label"],
        architecture=given["architecture"],
        bytes_per_s=given["bandwidth_tb_per_s"] * terabyte,
        bf16_flops=scaled("bf16_tflop_per_s"),
        fp8_flops=scaled("fp8_tflop_per_s"),
        memory_bytes=given["memory_gb"] * 1e9,
        tdp_w=given["tdp_w"],
        matches=tuple(given["matches"]),
        excludes=tuple(given.get("excludes", ())),
        source=given["source"],
        sources={name: own.get(name, given["source"]) for name in FIGURES},
    )


DEVICES: Mapping[str, Device] = {
    name: _device(given)
    for name, given in yaml.safe_load(
        (files("bench") / "devices.yaml").read_text(encoding="utf-8")
    ).items()
}
