"""`sampler.min_belief`: recorded in every row, refused where it would mislead, without a floor."""

import os
from pathlib import Path

import pandas as pd
import pytest

from bench.build import check_point, decoding_of
from bench.compose import Point, compose_points
from bench.merge import merged
from bench.plan import Task
from bench.worker import describe, measure, prepare

KNOB = "sampler.min_belief=0.001"


def point(*overrides: str) -> Point:
    (found,) = compose_points(overrides, decoding_of, default_sweep=False)
    return found


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("sampler.min_belief=1",), "sampler.min_belief is 1.0; it must be >= 0 and < 1"),
        (
            (KNOB, "sampler.self_conditioning=false"),
            "sampler.min_belief is 0.001; it must be 0 with self_conditioning=False",
        ),
        ((KNOB, "measure=publish"), "measure=publish needs 0 until a quality run on real weights"),
        ((KNOB, "vocabulary=fp8"), "sampler.min_belief is 0.001; it must be 0"),
    ],
)
def test_what_would_mislead_is_refused(overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_point(point(*overrides).config)


def test_upstream_has_no_such_knob() -> None:
    settings = pytest.importorskip("bench.backends.transformers.generation").diffusion_settings
    from model import PRESETS, DiffusionSampling

    config = PRESETS["tiny-diffusion"]
    with pytest.raises(ValueError, match=r"sampler.min_belief=0.1 is not known .* valid: 0"):
        settings(config, DiffusionSampling(min_belief=0.1), 8, None)
    settings(config, DiffusionSampling(), 8, None)


def test_rows_say_what_was_left_out_and_then_know_no_floor(tmp_path: Path) -> None:
    small = (
        *("precision=fp32", "threads=1", "workload.num_prompts=2", "workload.max_new_tokens=8"),
        *("measure.num_repeats=1", "measure.min_warmup_prompts=1", "measure.max_warmup_prompts=1"),
        *("measure.num_routing_prompts=1", "measure.max_repairs=0"),
    )
    axis = "sampler.min_belief=0,0.001"
    points = compose_points([*small, axis], decoding_of, default_sweep=False)
    for each in points:
        check_point(each.config)
    for run in prepare(describe(Task("t", 0, tuple(points)))):
        measure(run, 0, tmp_path, lambda: None, own_pid=os.getpid())
    rows = merged(tmp_path)["points"].sort_values("min_belief")
    assert rows["min_belief"].tolist() == [0.0, 0.001]
    dense, compacted = (row for _, row in rows.iterrows())
    unknown = ["op_floor_ms", "op_floor_share", "weight_bytes_per_step", "step_context"]
    assert dense[unknown].notna().all()
    assert compacted[unknown].isna().all()
    assert not pd.isna(compacted["step_ms"])


def test_its_time_is_self_conditionings_and_has_no_floor() -> None:
    from bench.checks.op_groups import check

    tiny = ("precision=fp32", "threads=1", "workload.num_prompts=1", "sampler=forced")
    found = [
        {row["op_group"]: row for row in check(point(*tiny, knob).config).op_groups}
        for knob in ("sampler.min_belief=0", KNOB)
    ]
    dense, compacted = (groups["self_conditioning"] for groups in found)
    assert compacted["launches"] > dense["launches"]
    assert "floor_ms" in dense
    assert "floor_ms" not in compacted
    others = [{name: row["launches"] for name, row in groups.items()} for groups in found]
    for each in others:
        each.pop("self_conditioning")
    assert others[0] == others[1]
