"""What `results/published` holds is still what today's code calls it."""

import json
from pathlib import Path

import pandas as pd
import pytest

from bench.ab.aa_blocks import Recorded, read_recorded
from bench.ab.arm import Arm
from bench.ab.asked import asked
from bench.ab.blocks import MAX_PAIRS
from bench.ab.held import detectable
from bench.ab.prepared import AskedPoint, Prepared
from bench.ab.run import DEFAULT_METRICS
from bench.ab.source import Source
from bench.comparison.metrics import chosen
from bench.compose import compose_points, restore_point
from bench.preregistration import State, standing

PUBLISHED = Path(__file__).parents[2] / "results" / "published"
# Their hashes are of older rules (a rehearsal counted, self-conditioning had no line in
# `bench.later`); what was measured or preregistered under them is not written anew.
OLDER = ("claims-amd-epyc-2026-11-26", "ab-amd-epyc-2-cores")
RUNS = sorted(
    path.parent
    for path in PUBLISHED.rglob("run.json")
    if path.relative_to(PUBLISHED).parts[0] not in OLDER
)
AA = PUBLISHED / "aa-amd-epyc-2-cores"


@pytest.mark.parametrize("run", RUNS, ids=lambda run: str(run.relative_to(PUBLISHED)))
def test_a_published_run_has_todays_hashes(run: Path) -> None:
    """In run.json and in every table: else `resume`, `compare` and `history` take it for another.

    Where this fails an option came without its line in `bench.later`.
    """
    info = json.loads((run / "run.json").read_text())
    hashes = info["config_hashes"]
    for name, config in info["config"].items():
        assert restore_point(name, hashes[name], config).config_hash == hashes[name]
    assert standing(info).state is not State.CHANGED
    for path in run.glob("*.parquet"):
        keys = pd.read_parquet(path, columns=["point_id", "config_hash"]).drop_duplicates()
        assert all(hashes[row.point_id] == row.config_hash for row in keys.itertuples()), path


def _asked_now(recorded: Recorded) -> Prepared:
    """The default points of `canvasbench ab`, on the machine of the blocks."""
    overrides = [*asked([])[1:], f"measure.num_processes={MAX_PAIRS}"]
    points = compose_points(overrides, lambda name: "diffusion", default_sweep=False)
    ready = [AskedPoint(p.point_id, p.config_hash, p.resolved) for p in points]
    arm = Arm("candidate", Source("here", PUBLISHED, "0" * 40, dirty=False), Path("python"))
    (host,) = set(recorded.rows["host"])
    return Prepared(arm, tuple(ready), {"host": host})


def test_the_published_blocks_are_of_what_ab_measures_by_default() -> None:
    """README gives the bound that all of the default speeds can have with them."""
    recorded = read_recorded(AA)
    speeds = [metric for metric in chosen(list(DEFAULT_METRICS)) if metric.is_speed]
    held = detectable(recorded, _asked_now(recorded), speeds, 0.035)
    assert {name.split()[1] for name in held} == {
        "step_ms",
        "delivered_tok_per_s",
        "decode_tok_per_s",
    }
    with pytest.raises(ValueError, match=r"decode_tok_per_s: bound 2 % is tighter"):
        detectable(recorded, _asked_now(recorded), speeds, 0.02)
