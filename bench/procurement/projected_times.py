"""Seconds of a batch's forwards at both ends of what a calibration leaves open.

Measured was one request with a prefix of about a thousand tokens. For more of either, the slow end
keeps every efficiency and lets a canvas's fixed part grow with the batch; the fast end lets each
group reach the copy or product rate that the card reached, though never less time than it takes for
the request measured.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from bench.devices import Device
from bench.procurement.calibration import Calibration, Forward, Timed, Work
from bench.roofline import Group, group_floors

CANVAS = 256
KINDS: Mapping[str, tuple[str, ...]] = {
    "diffusion": ("denoise", "commit"),
    "autoregressive": ("decode",),
}
End = Literal["fast", "slow"]
FloorSeconds = Callable[[Iterable[Group], Device], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is projected.

    Attributes:
        device: a name in `bench.devices`.
        precision: bf16 or fp8.
        prompt_tokens, reply_tokens: of each request; whole canvases are denoised.
        batch_size: requests decoded together, all of this shape.
        steps: denoise steps a canvas; not used when autoregressive.
    """

    device: str
    decoding: str
    precision: str
    prompt_tokens: int = 1024
    reply_tokens: int = 1024
    batch_size: int = 1
    steps: float = 16

    @property
    def block(self) -> int:
        """Tokens a delivery."""
        return CANVAS if self.decoding == "diffusion" else 1

    @property
    def deliveries(self) -> int:
        return -(-self.reply_tokens // self.block)


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of the batch's forwards; host_s is what a delivery takes besides."""

    step_s: float
    commit_s: float
    prefill_s: float
    host_s: float

    def scaled(self, ratio: float) -> "Times":
        return Times(
            *(ratio * s for s in (self.step_s, self.commit_s, self.prefill_s, self.host_s))
        )


def calibrated_times(
    setting: Setting, on: Device, calibration: Calibration, work: Work, end: End
) -> Times:
    """By the calibration; a prefill takes what the host takes to issue it, or its products."""
    timed = calibration.timed[setting.decoding, setting.precision]
    step, *commit = (
        _forward_s(setting, kind, on, calibration, work, end) for kind in KINDS[setting.decoding]
    )
    # A prefill's products are as wide as a commit's, whichever sibling's.
    like = calibration.forwards["diffusion", "commit", setting.precision]
    groups = _prefill(setting, work)
    parts = like.parts_ms(groups, on) if end == "slow" else _best_ms(like, groups, on, timed)
    device_s = (sum(parts.values()) - like.fixed_ms) / 1e3
    return Times(
        step,
        commit[0] if commit else 0.0,
        max(timed.prefill_ms / 1e3, device_s),
        timed.host_ms / 1e3,
    )


def floor_times(setting: Setting, on: Device, work: Work, floor_s: FloorSeconds) -> Times:
    """By a floor of `bench.roofline`, the host taking nothing."""
    step, *commit = (floor_s(_groups(setting, kind, work), on) for kind in KINDS[setting.decoding])
    prefill_s = floor_s(_prefill(setting, work), on)
    return Times(step, commit[0] if commit else 0.0, prefill_s, 0.0)


def figures(setting: Setting, times: Times) -> dict[str, float]:
    """What a batch of such requests gives; rates are of the whole batch.

    A commit comes between canvases, so none before the first and none after the last.
    """
    blocks_s = setting.steps * times.step_s if setting.decoding == "diffusion" else 0.0
    gap_s = (blocks_s or times.step_s) + times.commit_s + times.host_s
    first_s = times.prefill_s + blocks_s + times.host_s
    end_to_end_s = first_s + (setting.deliveries - 1) * gap_s
    found = {
        "step_ms": 1e3 * times.step_s,
        "commit_ms": 1e3 * times.commit_s,
        "prefill_ms": 1e3 * times.prefill_s,
        "first_s": first_s,
        "gap_s": gap_s,
        "end_to_end_s": end_to_end_s,
        "system_tok_per_s": setting.batch_size * setting.reply_tokens / end_to_end_s,
    }
    if setting.deliveries > 1:
        later = setting.reply_tokens - setting.block
        rate = setting.batch_size * later / ((setting.deliveries - 1) * gap_s)
        found["decode_tok_per_s"] = rate
    return found


def _forward_s(
    setting: Setting, kind: str, on: Device, calibration: Calibration, work: Work, end: End
) -> float:
    timed = calibration.timed[setting.decoding, setting.precision]
    forward = calibration.forwards[setting.decoding, kind, setting.precision]
    groups = _groups(setting, kind, work)
    slow = forward.parts_ms(groups, on)
    if end == "slow":
        if kind != "decode":  # the launches of a decode step stay as small as they are
            slow["fixed"] *= setting.batch_size
        return sum(slow.values()) / 1e3
    measured = replace(setting, batch_size=1, prompt_tokens=timed.prompt_tokens, reply_tokens=1024)
    least = forward.parts_ms(_groups(measured, kind, work), on)
    best = _best_ms(forward, groups, on, timed)
    return sum(max(best[name], min(slow[name], least[name])) for name in slow) / 1e3


def _best_ms(
    forward: Forward, groups: Iterable[Group], on: Device, timed: Timed
) -> dict[str, float]:
    """By part, where a group reaches the card's copy and product rates if it does not already."""
    found = {"fixed": forward.fixed_ms}
    for floor in group_floors(groups, on):
        reached = forward.efficiency.get(floor.name)
        if reached is not None:
            memory_s = floor.memory_s / max(reached, timed.copy_share)
            arithmetic_s = (floor.arithmetic_s or 0.0) / max(reached, timed.product_share)
            found[floor.name] = 1e3 * max(memory_s, arithmetic_s)
    return found


def _groups(setting: Setting, kind: str, work: Work) -> Sequence[Group]:
    """Of a forward at the mean prefix of the reply's steps."""
    return work(
        setting.decoding,
        kind,
        setting.precision,
        context=setting.prompt_tokens + round(setting.block * (setting.deliveries - 1) / 2),
        batch_size=setting.batch_size,
    )


def _prefill(setting: Setting, work: Work) -> Sequence[Group]:
    return work(
        setting.decoding,
        "prefill",
        setting.precision,
        context=0,
        batch_size=setting.batch_size,
        new_tokens=setting.prompt_tokens,
    )
