"""Floors of a forward by op group, at the rates that the device itself reaches."""

from collections.abc import Iterable

from bench.backends.native import NativeSession
from bench.probe import probe
from bench.profile.names import MERGED_GROUPS
from bench.roofline import Reached, group_floors
from bench.schema import BlockDiffusionConfig, RunConfig
from model.precision import Precision
from model.vocabulary import Vocabulary
from model.work import ForwardKind, forward_work


def phase_floors(
    config: RunConfig,
    session: NativeSession,
    kind: ForwardKind,
    *,
    context: int,
    new_tokens: int | None = None,
) -> dict[str, dict[str, float]]:
    """Each op group's `floor_ms`, `bytes` and `flops`; none where precision is emulated.

    With `min_belief` self-conditioning has none, as beliefs decide how much of the table it reads.

    Groups that may run as one (`MERGED_GROUPS`) are there too, as the sum of their parts.

    Args:
        context: cached positions of every row.
        new_tokens: positions a row, where the kind does not say.
    """
    if session.identity.emulated:
        return {}
    sampler = config.sampler
    diffusion = sampler if isinstance(sampler, BlockDiffusionConfig) else BlockDiffusionConfig()
    groups = forward_work(
        session.loaded.config,
        kind,
        Precision(config.precision.name),
        context=context,
        batch_size=config.batch_size,
        new_tokens=new_tokens,
        vocabulary=Vocabulary(config.vocabulary.name),
        self_conditioning=diffusion.self_conditioning,
    )
    reached = probe(config.device)
    wide = reached.fp32_flops if config.precision.name == "fp32" else reached.bf16_flops
    assert wide is not None
    rates = Reached(reached.copy_bytes_per_s, wide, reached.fp8_flops)
    found = {
        group.name: {"floor_ms": floor.floor_s * 1e3, "bytes": group.bytes, "flops": group.flops}
        for group, floor in zip(groups, group_floors(groups, rates), strict=True)
        if group.name != "self_conditioning" or not diffusion.min_belief
    }
    merged = {name: _sum(found[part] for part in parts) for name, parts in MERGED_GROUPS.items()}
    return found | merged


def _sum(rows: Iterable[dict[str, float]]) -> dict[str, float]:
    rows = list(rows)
    return {key: sum(row[key] for row in rows) for key in rows[0]}
