"""How far a projection from one device to another was off, wherever both devices are known.

Each pair is one engine on two devices: this one by its profiles, leaving either device out in turn,
and vLLM by its published figures, scaled on one device and projected to the other. The spread of
these errors is the uncertainty of every projection. There are few of them and all are between an
H100 and an H200, two cards of one architecture: they say nothing about another.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import scipy

from bench.devices import device
from bench.procurement.calibration import (
    Calibration,
    Measurements,
    Profile,
    Work,
    profiled_forward,
)
from bench.procurement.published import PublishedFigure, published_figures
from bench.stats import CONFIDENCE


@dataclass(frozen=True, slots=True)
class TransferError:
    """One figure projected from another device.

    Attributes:
        pair: what was compared; both directions of a pair are one observation.
        kind: measured by this engine, or published.
        projected, actual: in `unit`.
    """

    pair: str
    kind: str
    from_device: str
    to_device: str
    projected: float
    actual: float
    unit: str

    @property
    def log_error(self) -> float:
        """Of the time: positive where the projection was too slow."""
        ratio = math.log(self.projected / self.actual)
        return ratio if self.unit == "ms" else -ratio


def transfer_errors(
    given: Measurements, calibration: Calibration, work: Work
) -> list[TransferError]:
    """Every pair in both directions."""
    found = []
    for one, other in ((a, b) for a in given.profiles for b in given.profiles if a is not b):
        for kind in ("denoise", "commit"):
            found.append(_profiled(one, other, kind, work))
    figures = [figure for figure in published_figures() if _is_comparable(figure)]
    for here in figures:
        for there in figures:
            if here.decoding == there.decoding and here.device != there.device:
                found.append(_published(here, there, calibration, work))
    return found


def log_half_width(errors: Sequence[TransferError]) -> float:
    """95 % half width of a projection's time on the log scale: Student t, a degree a pair."""
    pairs = {error.pair for error in errors}
    spread = math.sqrt(sum(error.log_error**2 for error in errors) / len(errors))
    return float(scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(pairs))) * spread


def _profiled(one: Profile, other: Profile, kind: str, work: Work) -> TransferError:
    profiled = profiled_forward([one], work)
    took = {"denoise": (one.step_ms, other.step_ms), "commit": (one.commit_ms, other.commit_ms)}
    groups = work("diffusion", kind, one.precision, context=one.context)
    here, actual = took[kind]
    scaled = profiled.scaled(here / profiled.ms(groups, device(one.device)))
    projected = scaled.ms(groups, device(other.device))
    pair = f"{kind} step, {one.precision}, this engine" if kind == "denoise" else ""
    pair = pair or f"{kind}, {one.precision}, this engine"
    return TransferError(pair, "measured", one.device, other.device, projected, actual, "ms")


def _is_comparable(figure: PublishedFigure) -> bool:
    """The launch post's own pairs: one engine, one workload, both cards, no drafter."""
    is_known = figure.decoding == "autoregressive" or figure.is_forced
    is_pair = figure.id.startswith(("h100-vllm-", "h200-vllm-"))
    return (
        is_pair
        and is_known
        and figure.drafter == "none"
        and figure.metric == "decode_tok_per_s_median"
    )


def _published(
    here: PublishedFigure, there: PublishedFigure, calibration: Calibration, work: Work
) -> TransferError:
    """A rate of one card, projected to the other by the ratio of the block's calibrated times."""
    assert here.device is not None
    assert there.device is not None
    ratio = _block_ms(here, calibration, work) / _block_ms(there, calibration, work)
    pair = f"{here.decoding}, {here.precision}, {here.engine} as published"
    projected = here.value * ratio
    return TransferError(
        pair, "published", here.device, there.device, projected, there.value, "tok/s"
    )


def _block_ms(figure: PublishedFigure, calibration: Calibration, work: Work) -> float:
    """A canvas with its commit, or a token, without what the host adds."""
    assert figure.prompt_tokens is not None
    assert figure.reply_tokens is not None
    on, precision = device(figure.device or ""), figure.precision or ""
    context = figure.prompt_tokens + figure.reply_tokens // 2
    kinds = {"decode": 1.0}
    if figure.decoding == "diffusion":
        kinds = {"denoise": figure.steps or 0.0, "commit": 1.0}
    total = 0.0
    for kind, count in kinds.items():
        groups = work(figure.decoding, kind, precision, context=context)
        total += count * calibration.forwards[figure.decoding, kind, precision].ms(groups, on)
    return total
