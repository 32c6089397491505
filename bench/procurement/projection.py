"""A calibrated roofline: what a device would deliver that nobody has measured.

Forwards take what `calibration` says. What it leaves open makes the limits: work beyond what was
measured (`projected_times`; the value is the geometric mean of both ends), and another device, by
the errors found in `transfer`. On an architecture on which nothing was measured the fast end is the
data sheet's op floor, and the slow end that of kernels which run anywhere.

Everything is *projected*: the limits are no confidence interval of a measurement, and no figure
here may stand in for one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.devices import Device, device
from bench.procurement.calibration import Calibration, Work, calibrate, shipped_measurements
from bench.procurement.cell import Cell, NumberClass
from bench.procurement.operating_point import OperatingPoint
from bench.procurement.projected_times import (
    CANVAS,
    KINDS,
    Setting,
    Times,
    calibrated_times,
    figures,
    floor_times,
)
from bench.procurement.transfer import log_half_width, transfer_errors
from bench.roofline import op_floor_s, streaming_floor_s

__all__ = ["CANVAS", "Projection", "Projector", "Setting", "projected_points", "projector"]

_FIGURES = {
    "step_ms": ("ms", "mean step"),
    "commit_ms": ("ms", "mean commit"),
    "prefill_ms": ("ms", "prefill of the batch's prompts"),
    "first_s": ("s", "request to first delivery"),
    "gap_s": ("s", "between deliveries"),
    "end_to_end_s": ("s", "request to last delivery"),
    "system_tok_per_s": ("tok/s", "delivered tokens / wall seconds of the batch"),
    "decode_tok_per_s": ("tok/s", "(delivered - first delivery) / (last delivery - first)"),
    "power_w": ("W", "the data sheet's power by the share that was drawn where measured"),
    "joules_per_token": ("J/token", "power / delivered tokens a second"),
}
_MODELS = {"diffusion": "diffusiongemma-26b-a4b", "autoregressive": "gemma-4-26b-a4b"}
_Limits = tuple[float, float, float]
"""Value, low and high."""


@dataclass(frozen=True, slots=True)
class Projection:
    """Projected figures of one setting.

    Attributes:
        step_ms: one denoise or decode step of the batch; commit_ms: unknown when autoregressive.
        decode_tok_per_s: of the batch, after every request's first delivery; unknown with one.
        point: the rest, as an operating point.
    """

    step_ms: Cell
    commit_ms: Cell
    prefill_ms: Cell
    decode_tok_per_s: Cell
    point: OperatingPoint


@dataclass(frozen=True, slots=True)
class Projector:
    """A calibration, ready to project.

    Attributes:
        log_half_width: of a time on another device of a measured architecture.
    """

    calibration: Calibration
    log_half_width: float
    source: str
    work: Work

    def project(self, setting: Setting) -> Projection:
        """The figures of one setting.

        Raises:
            ValueError: an unknown device, decoding or precision, or a count below one.
        """
        on = device(setting.device)
        self._refuse_uncalibrated(setting)
        known = self._limits(setting, on)
        floor = floor_times(setting, on, self.work, op_floor_s)
        streaming = floor_times(setting, on, self.work, streaming_floor_s)
        is_diffusion = setting.decoding == "diffusion"
        cells = {name: self._cell(name, known.get(name)) for name in _FIGURES}
        if not is_diffusion:
            cells["commit_ms"] = self._cell("commit_ms", None, "autoregressive: no commit")
        if "decode_tok_per_s" not in known:
            cells["decode_tok_per_s"] = self._cell("decode_tok_per_s", None, "one delivery")
        point = OperatingPoint(
            device=setting.device,
            label=on.label,
            decoding=setting.decoding,
            precision=setting.precision,
            batch_size=setting.batch_size,
            prompt_tokens=setting.prompt_tokens,
            reply_tokens=setting.reply_tokens,
            steps=setting.steps if is_diffusion else None,
            kind=NumberClass.PROJECTED,
            source=self.source,
            system_tok_per_s=cells["system_tok_per_s"],
            first_canvas_s=cells["first_s"],
            canvas_gap_s=cells["gap_s"],
            end_to_end_s=cells["end_to_end_s"],
            power_w=cells["power_w"],
            joules_per_token=cells["joules_per_token"],
            accuracy=Cell(
                value=None,
                low=None,
                high=None,
                kind=NumberClass.PROJECTED,
                unit="share",
                definition="right answers / prompts with an answer",
                why_unknown="a projection knows no answers",
            ),
            op_floor_tok_per_s=figures(setting, floor)["system_tok_per_s"],
            streaming_floor_tok_per_s=figures(setting, streaming)["system_tok_per_s"],
            notes=self._notes(setting, on),
            model=_MODELS[setting.decoding],
            tokens_per_delivery=float(setting.block),
        )
        return Projection(
            cells["step_ms"],
            cells["commit_ms"],
            cells["prefill_ms"],
            cells["decode_tok_per_s"],
            point,
        )

    def _is_measured(self, on: Device) -> bool:
        return on.architecture in self.calibration.architectures

    def _refuse_uncalibrated(self, setting: Setting) -> None:
        timed = self.calibration.timed
        if setting.decoding not in KINDS:
            raise ValueError(f"decoding {setting.decoding!r} is unknown; valid: {', '.join(KINDS)}")
        if (setting.decoding, setting.precision) not in timed:
            valid = [p for decoding, p in timed if decoding == setting.decoding]
            raise ValueError(
                f"precision {setting.precision!r} is not calibrated; valid: {', '.join(valid)}"
            )
        for name in ("prompt_tokens", "reply_tokens", "batch_size", "steps"):
            if getattr(setting, name) < 1:
                raise ValueError(f"{name} is {getattr(setting, name)}; it must be >= 1")

    def _limits(self, setting: Setting, on: Device) -> dict[str, _Limits]:
        """Value, low and high of every figure that is known."""
        own = [
            calibrated_times(setting, on, self.calibration, self.work, end)
            for end in ("fast", "slow")
        ]
        middle = [figures(setting, times) for times in own]
        outer = [figures(setting, times) for times in self._widened(setting, on, *own)]
        found: dict[str, _Limits] = {}
        for name in middle[0]:
            low, high = sorted(each[name] for each in outer)
            found[name] = math.sqrt(middle[0][name] * middle[1][name]), low, high
        if on.tdp_w is not None:
            power = found["power_w"] = self._power_w(setting, on, on.tdp_w)
            value, low, high = found["system_tok_per_s"]
            found["joules_per_token"] = power[0] / value, power[1] / high, power[2] / low
        return found

    def _widened(
        self, setting: Setting, on: Device, fast: Times, slow: Times
    ) -> tuple[Times, Times]:
        """Both ends, with what another device may differ by."""
        wide = math.exp(self.log_half_width)
        if self._is_measured(on):
            return fast.scaled(1 / wide), slow.scaled(wide)
        floor = floor_times(setting, on, self.work, op_floor_s)
        return floor, slow.scaled(wide * self.calibration.untuned_ratio)

    def _power_w(self, setting: Setting, on: Device, tdp_w: float) -> _Limits:
        """As for one request measured; for more, up to the most that any point drew.

        On an architecture on which nothing was measured, anything from the least to all.
        """
        shares = [point.power_share for point in self.calibration.timed.values()]
        low = self.calibration.timed[setting.decoding, setting.precision].power_share
        high = max(shares) if setting.batch_size > 1 else low
        value = math.sqrt(low * high)
        if not self._is_measured(on):
            low, high = min(shares), 1.0
        return tdp_w * value, tdp_w * low, tdp_w * high

    def _cell(self, name: str, limits: _Limits | None, why: str = "") -> Cell:
        value, low, high = limits or (None, None, None)
        unit, definition = _FIGURES[name]
        if limits is None and not why:
            why = "the device's power is not known"
        return Cell(
            value=value,
            low=low,
            high=high,
            kind=NumberClass.PROJECTED,
            unit=unit,
            definition=definition,
            source=self.source,
            why_unknown=why,
        )

    def _notes(self, setting: Setting, on: Device) -> tuple[str, ...]:
        found = []
        if not self._is_measured(on):
            found.append(
                f"nothing was measured on {on.architecture}: limits from the op floor to "
                f"{self.calibration.untuned_ratio:.1f} times the slowest time projected"
            )
        if setting.batch_size > 1:
            found.append("no batch above 1 was measured")
        if on.bf16_flops is None:
            found.append("no product rate is stated: floors are those of memory alone")
        elif setting.precision == "fp8" and on.fp8_flops is None:
            found.append("no fp8 units: fp8 weights, products as bf16")
        return tuple(found)


def projector(work: Work) -> Projector:
    """A projector by the shipped calibration and the errors found for it."""
    given = shipped_measurements()
    calibration = calibrate(given, work)
    errors = transfer_errors(given, calibration, work)
    devices = ", ".join(given.devices)
    source = f"calibrated roofline: data-sheet floors, efficiencies measured on {devices}"
    return Projector(calibration, log_half_width(errors), source, work)


def projected_points(
    device_name: str,
    precision: str,
    *,
    batch_sizes: Sequence[int],
    prompt_tokens: int = 1024,
    reply_tokens: int = 1024,
    steps: float = 16,
    by: Projector,
) -> list[OperatingPoint]:
    """Both siblings on a device at every batch size, diffusion first."""
    return [
        by.project(
            Setting(
                device=device_name,
                decoding=decoding,
                precision=precision,
                prompt_tokens=prompt_tokens,
                reply_tokens=reply_tokens,
                batch_size=batch_size,
                steps=steps,
            )
        ).point
        for decoding in KINDS
        for batch_size in batch_sizes
    ]
