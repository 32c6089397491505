"""A rate as forwards: milliseconds each, shares of the device's floors, and where they differ.

Floors are those of the claim's device by its data sheet, as published figures come without a
measured bandwidth, for the mean forward of a delivered block: a canvas's steps and its commit, its
steps alone where one of them commits the canvas before, or one token's step. The prefix is the
prompt and half of the reply; routing is uniform.
"""

import math
from dataclasses import dataclass

from bench.claims.claim import Claim
from bench.claims.observed import Observed
from bench.devices import DEVICES, Device


@dataclass(frozen=True, slots=True)
class Floors:
    """Least milliseconds of a block's mean forward, and the claim's rate at them.

    Attributes:
        block_tokens: a canvas, or one token.
        forwards: of a block.
    """

    device: str
    block_tokens: int
    forwards: int
    op_ms: float
    streaming_ms: float

    def rate(self, forward_ms: float) -> float:
        """Tokens a second when a forward takes so long."""
        return 1e3 * self.block_tokens / (self.forwards * forward_ms)

    def forward_ms(self, rate: float) -> float:
        """The mean forward behind a rate, host time included."""
        return 1e3 * self.block_tokens / (self.forwards * rate)


@dataclass(frozen=True, slots=True)
class BlockTime:
    """How long a block takes, and what of it each forward.

    Attributes:
        forward_ms: host time included; `device_ms` without it.
        host_ms: of the block, in which no forward ran.
    """

    name: str  # published | measured
    block_ms: float
    forwards: float | None
    forward_ms: float | None
    device_ms: float | None
    host_ms: float | None
    op_floor_share: float | None
    streaming_floor_share: float | None


@dataclass(frozen=True, slots=True)
class Decomposition:
    """Both rates as forwards, and the log of their ratio as a sum.

    Attributes:
        by_steps, by_forward: share of the rates' log ratio: fewer forwards a block, shorter ones.
        host_share: of the measured block, outside of forwards; part of `by_forward`.
    """

    published: BlockTime
    measured: BlockTime | None
    log_ratio: float | None
    by_steps: float | None
    by_forward: float | None
    host_share: float | None


def claim_floors(claim: Claim, point: Observed | None = None) -> Floors | None:
    """Floors under the claim's conditions; None for a device or model that is not listed.

    Args:
        point: gives them for its forwards, where it fuses commits and the source does not.
    """
    device, forwards = DEVICES.get(claim.conditions.device or ""), _forwards(claim)
    if device is None or forwards is None or not _is_decode_rate(claim):
        return None
    fused = point is not None and point.fuses_commits
    return _floors(claim, claim.conditions.model, device, forwards - fused, fused=fused)


def sibling_floors(claim: Claim) -> Floors | None:
    """The same of the autoregressive sibling of a diffusion claim's model: one step a token."""
    device = DEVICES.get(claim.conditions.device or "")
    if device is None:
        return None
    from model import PRESETS  # loads torch, as all of the engine

    config = PRESETS.get(_model(claim))
    if config is None:
        return None
    return _floors(claim, config.sibling, device, 1, fused=False)


def decompose(claim: Claim, floors: Floors | None, point: Observed | None) -> Decomposition | None:
    """The published rate as forwards, and the measured one in the same way.

    Returns:
        None for claims about no rate of decoding, or where a block's length is not known.
    """
    tokens = _block_tokens(claim, point)
    if not _is_decode_rate(claim) or tokens is None:
        return None
    forwards = _forwards(claim)
    published = _block("published", tokens, claim.value, forwards, floors)
    rate = None if point is None else point.value(claim.metric)
    if point is None or not rate:
        return Decomposition(published, None, None, None, None, None)
    own, host = _own_forwards(point), _host_share(point)
    measured = _block("measured", tokens, rate, own, claim_floors(claim, point), host)
    ratio = math.log(rate / claim.value)
    by_steps = math.log(forwards / own) if forwards and own else None
    by_forward = None if by_steps is None else ratio - by_steps
    return Decomposition(published, measured, ratio, by_steps, by_forward, host)


def _is_decode_rate(claim: Claim) -> bool:
    """Whether the rate is blocks over their time alone; others hold a prefill, or count twice."""
    return claim.over is None and claim.metric in ("decode_tok_per_s", "decode_tok_per_s_median")


def _block(
    name: str,
    tokens: int,
    rate: float,
    forwards: float | None,
    floors: Floors | None,
    host_share: float | None = None,
) -> BlockTime:
    block_ms = 1e3 * tokens / rate
    forward_ms = block_ms / forwards if forwards else None
    device_ms = op_share = streaming_share = None
    if forward_ms is not None:
        if host_share is not None:
            device_ms = (1 - host_share) * forward_ms
        if floors is not None and forwards == floors.forwards:
            op_share, streaming_share = floors.op_ms / forward_ms, floors.streaming_ms / forward_ms
    host_ms = None if host_share is None else host_share * block_ms
    return BlockTime(
        name, block_ms, forwards, forward_ms, device_ms, host_ms, op_share, streaming_share
    )


def _forwards(claim: Claim) -> int | None:
    """Forwards a block: a canvas's forced steps and its commit, or a token's one."""
    if claim.conditions.decoding != "diffusion":
        return 1 if claim.conditions.drafter == "none" else None
    return None if claim.conditions.forced_steps is None else claim.conditions.forced_steps + 1


def _own_forwards(point: Observed) -> float | None:
    """Of a point's block: a canvas's commit is one more, unless a step does it."""
    if point.conditions["decoding"] != "diffusion":
        return 1.0
    steps = point.steps_per_canvas
    return None if steps is None else steps + (not point.fuses_commits)


def _block_tokens(claim: Claim, point: Observed | None) -> int | None:
    """Positions of a canvas, or one token; not known of a claim's model that is no preset."""
    if claim.conditions.decoding != "diffusion":
        return 1
    length = None if point is None else point.value("canvas_length")
    if length is not None:
        return int(length)
    from model import PRESETS  # loads torch, as all of the engine

    config = PRESETS.get(_model(claim))
    return None if config is None else config.canvas_length


def _host_share(point: Observed) -> float | None:
    """Share of the time from first to last delivery in which no forward ran.

    Not known where forwards were not recorded, and of a batch, whose rows share them.
    """
    requests, steps = point.requests, point.steps
    if steps.empty or (requests["batch_size"] > 1).any():
        return None
    decoding_s = float((requests["last_delivery_s"] - requests["first_canvas_s"]).sum())
    later = steps[(steps["canvas_index"] > 0) & (steps["phase"] != "prefill")]
    return 1 - float(later["device_ms"].sum()) / 1e3 / decoding_s if decoding_s > 0 else None


def _model(claim: Claim) -> str:
    return claim.conditions.model or ""


def _floors(
    claim: Claim, model: str | None, device: Device, forwards: int, *, fused: bool
) -> Floors | None:
    from bench.roofline import op_floor_s, streaming_floor_s
    from model import PRESETS
    from model.precision import Precision
    from model.work import ForwardKind, forward_work

    config, own = PRESETS.get(model or ""), claim.conditions
    if config is None or own.precision is None:
        return None
    kinds: dict[ForwardKind, int] = {"denoise": forwards - 1, "fused" if fused else "commit": 1}
    if config.canvas_length is None:
        kinds = {"decode": 1}
    context = (own.prompt_tokens or 0) + (own.max_new_tokens or 0) // 2
    op_s = streaming_s = 0.0
    for kind, count in kinds.items():
        batch_size, precision = own.batch_size or 1, Precision(own.precision)
        groups = forward_work(config, kind, precision, context=context, batch_size=batch_size)
        op_s += count * op_floor_s(groups, device)
        streaming_s += count * streaming_floor_s(groups, device)
    return Floors(
        device.label,
        config.canvas_length or 1,
        forwards,
        1e3 * op_s / forwards,
        1e3 * streaming_s / forwards,
    )
