"""Whether a bound can be held on this machine, by the A/A blocks that were recorded on it."""

from collections.abc import Sequence

from bench.ab.aa_blocks import Recorded, pair_log_ratios
from bench.ab.blocks import MAX_PAIRS
from bench.ab.measuring import LOOKS
from bench.ab.prepared import Prepared
from bench.comparison.metrics import Metric
from bench.stats import check_bound, nominal_levels


def detectable(
    recorded: Recorded, ready: Prepared, by_process: Sequence[Metric], bound: float
) -> dict[str, float]:
    """Smallest change that all pairs of a comparison tell from none, by point and metric.

    Args:
        ready: an arm, which says the machine and the points' configurations.
        by_process: those that were never recorded are left out.

    Raises:
        ValueError: the blocks are of another machine or configuration, there are too few, or the
            bound is tighter than what they allow; the metric that needs the widest is named.
    """
    host = str(ready.info.get("host"))
    if set(recorded.rows["host"]) != {host}:
        raise ValueError(f"the A/A blocks were recorded on another machine than this ({host})")
    hashes = dict(zip(recorded.rows["point"], recorded.rows["config_hash"], strict=True))
    known, level = set(recorded.series), nominal_levels(LOOKS)[-1]
    pairs = {}
    for point in ready.points:
        if hashes.get(point.point_id) != point.config_hash:
            raise ValueError(
                f"the A/A blocks are not of {point.point_id} as it is configured now"
                f" ({point.config_hash}): record new ones"
            )
        for metric in by_process:
            if (point.point_id, metric.name) in known:
                own = pair_log_ratios(recorded.blocks(point.point_id, metric.name))
                pairs[f"{point.point_id} {metric.name}"] = own
    found = {}
    for name in sorted(pairs, key=lambda name: -float((pairs[name] ** 2).mean())):
        try:
            found[name] = check_bound(bound, pairs[name], MAX_PAIRS, level=level)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return {name: found[name] for name in pairs}
