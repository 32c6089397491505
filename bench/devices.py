"""Accelerators by their data sheets: what a roofline divides by. Dense rates, no sparsity.

Where a maker prints rates with sparsity only, half of them stands here.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Device:
    """Peak figures of one device.

    Attributes:
        bytes_per_s: memory bandwidth.
        bf16_flops, fp8_flops: matrix products a second, fp32 accumulation; None where the device
            has none of the kind.
        matches: words of the name the driver reports, lower case, by which it is recognised.
        source: where the figures stand.
    """

    label: str
    bytes_per_s: float
    bf16_flops: float
    fp8_flops: float | None
    memory_bytes: float
    matches: tuple[str, ...]
    source: str

    def flops(self, *, is_fp8: bool) -> float:
        """The rate of a product; without fp8 units its values are multiplied as bf16."""
        return self.fp8_flops if is_fp8 and self.fp8_flops else self.bf16_flops


DEVICES: Mapping[str, Device] = {
    "h100": Device(
        "H100 SXM", 3.35e12, 989e12, 1979e12, 80e9, ("h100", "hbm3"), "NVIDIA H100 data sheet"
    ),
    "h100-pcie": Device(
        "H100 PCIe", 2.0e12, 756e12, 1513e12, 80e9, ("h100", "pcie"), "NVIDIA H100 PCIe data sheet"
    ),
    "h100-nvl": Device(
        "H100 NVL", 3.9e12, 835e12, 1671e12, 94e9, ("h100", "nvl"), "NVIDIA H100 data sheet"
    ),
    "h200": Device("H200 SXM", 4.8e12, 989e12, 1979e12, 141e9, ("h200",), "NVIDIA H200 data sheet"),
    "b200": Device(
        "B200", 8.0e12, 2250e12, 4500e12, 192e9, ("b200",), "NVIDIA Blackwell architecture brief"
    ),
    "l40s": Device("L40S", 0.864e12, 362e12, 733e12, 48e9, ("l40s",), "NVIDIA L40S data sheet"),
    "a100": Device(
        "A100 80 GB SXM", 2.039e12, 312e12, None, 80e9, ("a100", "80gb"), "NVIDIA A100 data sheet"
    ),
    "mi300x": Device(
        "MI300X", 5.3e12, 1307e12, 2615e12, 192e9, ("mi300x",), "AMD Instinct MI300X data sheet"
    ),
}


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
    found = [d for d in DEVICES.values() if all(word in words for word in d.matches)]
    return found[0] if len(found) == 1 else None
