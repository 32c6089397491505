"""Fixed work: random prompts, forced steps, dummy weights; speeds are told and contents are not."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from bench.backends.native import NativeSession
from bench.build import build_sessions, build_workload, check_point, decoding_of
from bench.compose import Point, compose_points, restore_point
from bench.memory import fits_together, need
from bench.merge import merged
from bench.plan import Task
from bench.report.view import View
from bench.requests import run_batch
from bench.runner import PointRun, measure_repeat
from bench.schema import BlockDiffusionConfig, FixedWorkConfig, GreedyConfig
from bench.worker import describe, measure, prepare
from bench.workloads import fixed_work
from tests.bench.scripted import ScriptedSession

SPECIAL = {0, 1, 2, 50, 106}
TINY = (
    "weights=dummy",
    "precision=fp32",
    "threads=1",
    "workload=fixed_work",
    "workload.num_prompts=2",
    "workload.prompt_tokens=9",
    "workload.max_new_tokens=40",
    "measure.num_repeats=1",
    "measure.min_warmup_prompts=1",
    "measure.max_warmup_prompts=1",
    "measure.num_routing_prompts=1",
)


def point(*overrides: str) -> Point:
    (found,) = compose_points([*TINY, *overrides], decoding_of, default_sweep=False)
    return found


def test_prompts_are_random_ids_of_one_length_and_always_the_same() -> None:
    few, many = fixed_work(2, 300, 262_144), fixed_work(5, 300, 262_144)
    assert many.prompts[:2] == few.prompts
    assert {len(p.token_ids or ()) for p in many.prompts} == {300}
    ids = [t for p in many.prompts for t in p.token_ids or ()]
    assert not SPECIAL & set(ids)
    assert max(ids) < 262_144 < 2 * max(ids)
    assert (few.sha256 != many.sha256, few.needs_tokenizer) == (True, False)
    small = {t for p in fixed_work(8, 500, 64).prompts for t in p.token_ids or ()}
    assert small == set(range(64)) - SPECIAL


def test_the_experiment_is_both_siblings_at_the_released_shape() -> None:
    points = compose_points(["experiment=fixed_work"], decoding_of)
    names = [p.point_id for p in points]
    assert names == ["diffusion-fp8", "diffusion-bf16", "autoregressive-fp8", "autoregressive-bf16"]
    config = points[0].config
    assert (config.device, config.weights, config.execution.name) == ("cuda", "dummy", "cuda_graph")
    assert isinstance(config.sampler, BlockDiffusionConfig)
    assert (config.sampler.max_denoising_steps, config.sampler.early_stop) == (16, False)
    assert isinstance(points[2].config.sampler, GreedyConfig)
    assert isinstance(config.workload, FixedWorkConfig)
    for each in points:
        assert restore_point(each.point_id, each.config_hash, each.resolved) == each
    one = "model=gemma-4-26b-a4b"
    assert len(compose_points(["experiment=fixed_work", one], decoding_of)) == 2


def test_work_that_is_not_fixed_is_refused() -> None:
    for overrides, message in (
        ((), "needs sampler=forced or sampler.early_stop=false"),
        (("sampler=forced", "backend=simulated"), "valid: backend=native"),
        (("sampler=forced", "batch_size=4"), "needs a multiple of batch_size"),
        (("sampler=forced", "sampler.self_conditioning=false"), "part of a step's work"),
        (("sampler=forced", "sampler.min_belief=0.001"), "contents decide how much work"),
    ):
        with pytest.raises(ValueError, match=message):
            check_point(point(*overrides).config)
    with pytest.raises(ValueError, match="eos_policy is stop"):
        point("workload.eos_policy=stop")


@pytest.mark.parametrize(
    ("precision", "gigabytes"), [("fp8", (26, 30)), ("bf16", (50, 55)), ("fp32", (100, 106))]
)
def test_memory_on_a_gpu_follows_the_stored_widths(
    precision: str, gigabytes: tuple[int, int]
) -> None:
    overrides = ["experiment=fixed_work", f"precision={precision}"]
    for each in compose_points(overrides, decoding_of):
        assert gigabytes[0] <= need(each.config).total / 1e9 <= gigabytes[1], each.point_id


@pytest.mark.parametrize(("free", "together"), [(78, False), (139, True)])
def test_two_large_models_share_a_gpu_only_where_both_fit_while_they_load(
    free: int, together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (free << 30, free << 30))
    for precision, expected in (("fp8", together), ("bf16", together), ("fp8,bf16", False)):
        points = compose_points(["experiment=fixed_work", f"precision={precision}"], decoding_of)
        assert fits_together([[p.config] for p in points]) == expected


def test_text_needs_a_tokenizer_and_token_ids_do_not() -> None:
    config = point("sampler=forced", "sampler.max_denoising_steps=2").config
    (session,) = build_sessions(["x"], [config], 0)
    records = run_batch(session, build_workload(config).prompts[:1], process_id=0, repeat=0)
    assert (records[0].text, records[0].correct, records[0].prompt_tokens) == ("", None, 9)
    assert (records[0].delivered_tokens, records[0].finish_reason) == (40, "length")
    assert session.vocabulary(7) == "7"
    text = ["weights=dummy", "model=tiny-diffusion"]
    (tiny,) = compose_points(text, decoding_of, default_sweep=False)
    with pytest.raises(ValueError, match="no tokenizer, which workload tiny needs"):
        build_sessions(["x"], [tiny.config], 0)


def test_a_point_s_cache_is_as_large_as_its_own_requests_need() -> None:
    """Whatever ran before in the same process: slots that nobody fills take time too."""
    long, short = (
        point(
            "sampler=forced", "sampler.max_denoising_steps=1", f"workload.prompt_tokens={n}"
        ).config
        for n in (440, 9)
    )
    sessions = build_sessions(["long", "short"], [long, short], 0)
    sizes = []
    for config, session in zip((long, short), sessions, strict=True):
        for prompt in build_workload(config).prompts:
            assert isinstance(session, NativeSession)
            run_batch(session, [prompt], process_id=0, repeat=0)
            spare = session.loaded.model.spare_cache
            assert spare.owner is session
            assert spare._spare is not None
            sizes.append(spare._spare[1])
    assert sizes[0] is sizes[1]
    assert sizes[2] is sizes[3]
    assert sizes[0].num_slots >= 440 > sizes[2].num_slots


def test_only_the_beginning_of_a_long_answer_is_watched() -> None:
    config = point("model=tiny-autoregressive").config
    (session,) = build_sessions(["x"], [config], 0)
    assert isinstance(session, NativeSession)
    long = replace(session, max_new_tokens=100)
    prompt = build_workload(config).prompts[0].ids(session.encode)
    forwards = [forward for forward, _ in long.touched_experts([prompt], [0])]
    assert [f.phase for f in forwards] == ["prefill"] + ["decode"] * 63


def on_a_gpu(note: Path) -> None:
    """Makes a shard say what it would say had it been measured on a GPU."""
    found = json.loads(note.read_text())
    found["machine"]["device"] = "NVIDIA H100 80GB HBM3"
    found["device_memory"] = {"peak_allocated_bytes": 5, "peak_reserved_bytes": 7}
    note.write_text(json.dumps(found))


@pytest.mark.parametrize("decoding", ["diffusion", "autoregressive"])
def test_a_point_tells_speeds_and_no_contents(decoding: str, tmp_path: Path) -> None:
    forced = ["sampler=forced", "sampler.max_denoising_steps=3"] if decoding == "diffusion" else []
    asked = point(f"model=tiny-{decoding}", *forced)
    (run,) = prepare(describe(Task("t", 0, (asked,))))
    measure(run, 0, tmp_path, lambda: None, own_pid=os.getpid())
    tables = merged(tmp_path)
    row = tables["points"].iloc[0]
    known = {name for name, value in row.items() if not pd.isna(value)}
    assert row["validity"] == "valid"
    assert {"delivered_tok_per_s", "decode_tok_per_s", "distinct_experts_per_layer"} <= known
    assert ("step_ms" if decoding == "diffusion" else "decode_ms") in known
    contents = "steps_per_canvas cap_rate tokens_per_forward argmax_flip revocations accuracy "
    contents += "revised net_correction canvas_fill empty_share"
    assert not [name for name in known if name.startswith(tuple(contents.split()))]
    requests = tables["requests"]
    later = requests["delivered_tokens"] - requests["first_delivery_tokens"]
    gap = requests["last_delivery_s"] - requests["first_canvas_s"]
    assert row["decode_tok_per_s"] == pytest.approx(later.sum() / gap.sum())
    delivered = requests["delivered_tokens"].sum() / requests["wall_s"].sum()
    assert row["delivered_tok_per_s"] == pytest.approx(delivered)
    on_a_gpu(next((tmp_path / "shards").iterdir()) / "shard.json")
    row = merged(tmp_path)["points"].iloc[0]
    assert row["device"] == "NVIDIA H100 80GB HBM3"
    assert (row["peak_device_allocated_bytes"], row["peak_device_reserved_bytes"]) == (5, 7)
    step = row["step_ms" if decoding == "diffusion" else "decode_ms"]
    assert 0 < row["streaming_floor_ms"] < row["op_floor_ms"] < step
    assert row["op_floor_share"] == pytest.approx(row["op_floor_ms"] / step)
    assert 9 < row["step_context"] < 49
    fake = SimpleNamespace(path=tmp_path, info={}, **tables)
    view = View.of(fake)
    assert view.dummy
    assert view.tables["canvases"].empty
    assert len(view.tables["requests"]) == 2


@pytest.mark.parametrize(("execution", "untimed"), [("eager", 1), ("cuda_graph", 2)])
def test_graphs_are_warmed_again_before_each_repeat(execution: str, untimed: int) -> None:
    """What runs between two repeats may move the cache that graphs were captured with."""
    asked = point("sampler=forced", f"execution={execution}", "measure.num_routing_prompts=0")
    session = ScriptedSession([(range(10, 18), 16)])
    run = PointRun(asked, session, build_workload(asked.config))
    found = [measure_repeat(run, repeat, lambda: None) for repeat in range(2)]
    assert [len(repeat.requests) for repeat in found] == [2, 2]
    assert len(session.asked) == 2 * 2 + untimed


def test_scores_that_are_not_finite_invalidate_an_autoregressive_point(tmp_path: Path) -> None:
    (run,) = prepare(describe(Task("t", 0, (point("model=tiny-autoregressive"),))))
    assert isinstance(run.session, NativeSession)
    run.session.loaded.model.final_norm.weight.data[0] = float("nan")
    measure(run, 0, tmp_path, lambda: None, own_pid=os.getpid())
    row = merged(tmp_path)["points"].iloc[0]
    assert (row["validity"], row["validity_reason"]) == ("invalid", "scores_not_finite")
