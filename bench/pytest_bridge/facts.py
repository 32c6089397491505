"""What a benchmark of a point says of itself, as plain data for `extra_info`."""

from collections.abc import Sequence
from typing import Any

from bench import provenance
from bench.collect import point_note
from bench.comparison import fingerprint
from bench.history.entry import SERIES
from bench.redact import redact
from bench.requests import TIMED
from bench.runner import PointRun

Facts = dict[str, Any]
VERSION = 1

DEFINITIONS = {
    "round": f"every prompt of the workload answered once, batch after batch; each: {TIMED}",
    "delivered_tokens": "tokens of a round up to and including each answer's first end-of-sequence",
    "delivered_tok_per_s": "delivered_tokens / mean seconds of a round, prefill included",
    "steps_per_canvas": "denoise forwards until a canvas stopped; its commit is none",
    "figures": "of the harness's own pass over the same prompts, after the warm-up, as in a run's "
    "table `points`; forward times (step_ms, ...) are medians by the device's clock",
    "interval": "none: rounds of one process say nothing of the next process",
}


def facts_of(
    run: PointRun,
    row: dict[str, Any],
    overrides: Sequence[str],
    *,
    delivered_tokens: int,
    threads: int,
) -> Facts:
    """Everything that makes a round's seconds readable.

    Args:
        run: warmed.
        row: of `points`, summarised from the harness's own pass.
        delivered_tokens: of one round.
    """
    point, config = run.point, run.point.config
    assert run.warmed is not None
    code, machine = provenance.git_state(), provenance.machine(config.device, threads)
    info = {"git": code, "machine": machine, "config": {point.point_id: point.resolved}}
    known = point_note(run)["knobs"] | {"point_id": point.point_id, "device": machine["device"]}
    return {
        "version": VERSION,
        "point_id": point.point_id,
        "config_hash": point.config_hash,
        "overrides": [redact(override) for override in overrides],
        "commit": code["commit"],
        "dirty": code["dirty"],
        "host": provenance.host(),
        "device": machine["device"],
        "fingerprint": fingerprint(info, known),
        "clock": known["clock"],
        "warm_up": {"num_batches": run.warmed.num_batches, "stable": run.warmed.stable},
        "num_prompts": row["num_prompts"],
        "batch_size": config.batch_size,
        "num_canvases": row.get("num_canvases"),
        "delivered_tokens": delivered_tokens,
        "condition": f"{row['condition']}: {row['condition_reason']}",
        "validity": row["validity"],
        "validity_reason": row["validity_reason"],
        "figures": {name: float(row[name]) for name in SERIES if row.get(name) is not None},
        "definitions": DEFINITIONS,
    }
