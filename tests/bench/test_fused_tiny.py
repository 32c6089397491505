"""The tiny model with commits fused, through the harness: the same answers, a forward fewer."""

from bench.build import build_sessions, build_workload
from bench.collect import point_note, repeat_tables
from bench.compose import compose_points
from bench.roofline import floor_columns
from bench.runner import PointRun, measure_repeat
from bench.step_work import step_work
from bench.summary import point_row
from bench.tables import frame
from tests.bench.test_roofline import PROBE

ASKED = (
    *("model=tiny-diffusion", "precision=fp32", "threads=1", "commit=separate,fused"),
    *("workload.num_prompts=2", "workload.eos_policy=ignore", "workload.max_new_tokens=96"),
    *("measure.num_repeats=1", "measure.min_warmup_prompts=0", "measure.max_warmup_prompts=0"),
    *("measure.max_repairs=1", "measure.num_routing_prompts=1"),
)
_NEEDED = (
    *("requests", "canvases", "steps", "repairs", "experts", "windows"),
    *("failed_requests", "loads"),
)
CANVASES = 3


def test_fused_commits_change_nothing_but_the_forwards() -> None:
    rows, steps, contents = [], [], []
    for point in compose_points(ASKED, lambda _: "diffusion"):
        (session,) = build_sessions([point.point_id], [point.config], 0)
        run = PointRun(point, session, build_workload(point.config), 0)
        found = measure_repeat(run, 0, lambda: None)
        keys = {"config_hash": point.config_hash, "point_id": point.point_id, "host": "here"}
        tables = {name: frame(name, [], keys) for name in _NEEDED}
        tables |= repeat_tables(run, found, "here")
        row = point_row({name: tables[name] for name in _NEEDED}, point_note(run)["knobs"])
        rows.append(row | floor_columns(row, step_work(point.config, found.requests), PROBE))
        steps.append(tables["steps"])
        contents.append(
            [(c.steps, c.slots.tolist(), c.stop_reason) for r in found.requests for c in r.canvases]
        )
    separate, fused = rows
    assert contents[0] == contents[1]
    assert len(contents[1]) == 2 * CANVASES
    phases = [own["phase"].tolist() for own in steps]
    assert phases[0].count("commit") == phases[1].count("fused") == 2 * (CANVASES - 1)
    assert "commit" not in phases[1]
    assert "fused" not in phases[0]
    assert [row["commit_mode"] for row in rows] == ["separate", "fused"]
    assert [row["validity"] for row in rows] == ["valid", "valid"]
    assert separate["weight_passes"] - fused["weight_passes"] == fused["fused_forwards"] == 4
    assert fused["fused_ms"] > 0
    assert fused["commit_ms"] is None
    for name in ("steps_per_canvas_median", "tokens_per_forward_all", "accuracy"):
        assert separate[name] == fused[name], name
    assert fused["fused_distinct_experts_per_layer"] >= fused["distinct_experts_per_layer"]
    assert fused["fused_op_floor_ms"] > fused["op_floor_ms"] > 0
    assert "fused_op_floor_ms" not in separate
