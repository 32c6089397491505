"""The upstream backend: the same answers as ours; events, ledger and times as we define them."""

import itertools
import subprocess
import sys
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch

import model as engine
from bench import open_run
from bench.backends import Delivery, Forward
from bench.backends.native import NativeSession
from bench.backends.transformers import TransformersConfig
from bench.backends.transformers.config import Attention, Cache, Experts
from bench.backends.transformers.loading import Upstream, dummy, load
from bench.backends.transformers.session import TransformersSession
from bench.build import build_sessions, check_point, decoding_of
from bench.compose import Point, compose_points, restore_point
from bench.metrics import audit
from bench.requests import run_batch
from bench.verify.recording import recording
from bench.workloads import Prompt, make_workload
from model.cost import num_parameters
from model.sampling import BlockDelivered, RecordedNoise
from tests.bench.backends.driving import tables_of
from tests.bench.comparison.command import Command

FORCED = engine.DiffusionSampling(max_denoising_steps=3, early_stop=False)
STOPPING = engine.DiffusionSampling()


@cache
def upstream(name: str) -> Upstream:
    return load(name, precision="fp32", device="cpu", weights=None, seed=0)


def session(
    sampling: engine.DiffusionSampling | engine.GreedySampling,
    knobs: TransformersConfig | None = None,
    *,
    max_new_tokens: int = 64,
    eos_policy: engine.EosPolicy = engine.EosPolicy.STOP,
) -> TransformersSession:
    greedy = isinstance(sampling, engine.GreedySampling)
    return TransformersSession(
        loaded=upstream("tiny-autoregressive" if greedy else "tiny-diffusion"),
        knobs=knobs or TransformersConfig(),
        sampling=sampling,
        max_new_tokens=max_new_tokens,
        eos_policy=eos_policy,
        seed=0,
    )


def ours(theirs: TransformersSession) -> NativeSession:
    return NativeSession(
        loaded=engine.load(theirs.identity.model),
        sampling=theirs.sampling,
        max_new_tokens=theirs.max_new_tokens,
        eos_policy=theirs.eos_policy,
        trace=engine.TraceLevel.COUNTS,
        seed=0,
    )


def prompts(count: int) -> tuple[Prompt, ...]:
    return make_workload("tiny", count).prompts


def phases(events: Sequence[Forward | Delivery]) -> list[str]:
    return [e.phase if isinstance(e, Forward) else "delivery" for e in events]


@pytest.mark.parametrize("batch_size", [1, 2])
def test_the_autoregressive_sibling_gives_our_tokens(batch_size: int) -> None:
    theirs = session(engine.GreedySampling())
    asked = prompts(3 * batch_size)
    for begin in range(0, len(asked), batch_size):
        batch = asked[begin : begin + batch_size]
        found, wanted = (
            run_batch(s, batch, process_id=0, repeat=0) for s in (theirs, ours(theirs))
        )
        for a, b in zip(found, wanted, strict=True):
            assert a.text == b.text != ""
            assert [n for _, n in a.deliveries] == [1] * a.delivered_tokens
            assert (a.finish_reason, a.scores_finite) == (b.finish_reason, True) == ("eos", True)
            assert [s.phase for s in a.steps] == [s.phase for s in b.steps]


def test_the_diffusion_sibling_is_about_as_often_right_and_as_quick_as_ours() -> None:
    theirs = session(STOPPING)
    asked = prompts(9)
    found, wanted = (
        [record for p in asked for record in run_batch(s, [p], process_id=0, repeat=0)]
        for s in (theirs, ours(theirs))
    )
    right = [sum(bool(r.correct) for r in records) for records in (found, wanted)]
    steps = [sum(r.active_row_steps for r in records) for records in (found, wanted)]
    assert min(right) >= 7
    assert 0.5 < steps[0] / steps[1] < 2
    for record in found:
        for canvas in record.canvases:
            assert canvas.stop_reason == "converged"
            assert 1 < canvas.steps < STOPPING.max_denoising_steps


@pytest.mark.parametrize("sampling", [STOPPING, FORCED], ids=["stopping", "forced"])
def test_the_same_noise_gives_our_steps_and_tokens_canvas_by_canvas(
    sampling: engine.DiffusionSampling,
) -> None:
    """Both loaded with the trained pair's weights; upstream draws, and ours is given its draws."""
    theirs = session(sampling)
    mine = ours(theirs).loaded.model
    canvases = 0
    for prompt in prompts(8):
        ids = [prompt.ids(theirs.encode)]
        with recording() as recorded:
            found = [e for e in theirs.answer(ids, [0]) if isinstance(e, Delivery)]
        noise = RecordedNoise(recorded.noise(sampling.max_denoising_steps))
        events = engine.generate(
            mine, ids, sampling, max_new_tokens=theirs.max_new_tokens, noise=noise
        )
        wanted = [event.rows[0] for event in events if isinstance(event, BlockDelivered)]
        assert [e.rows[0].tokens for e in found] == [row.tokens for row in wanted]
        assert [e.rows[0].steps for e in found] == [row.steps for row in wanted]
        canvases += len(found)
    assert canvases > 8


def test_routers_touch_the_same_experts_as_ours_over_the_prompt() -> None:
    for sampling in (engine.GreedySampling(), STOPPING):
        theirs = session(sampling)
        ids = [prompts(3)[2].ids(theirs.encode)]
        found = list(theirs.touched_experts(ids, [0]))
        wanted = list(ours(theirs).touched_experts(ids, [0]))
        assert found[0] == wanted[0]
        assert found[0][0].phase == "prefill"
        main = "denoise" if sampling is STOPPING else "decode"
        assert all(len(n) == 6 and min(n) >= 2 for f, n in found if f.phase == main)


def test_forced_steps_and_the_limit_are_kept_for_every_row() -> None:
    """Two rows of different lengths, 40 tokens asked of canvases of 32, ends of text ignored."""
    one = session(FORCED, max_new_tokens=40, eos_policy=engine.EosPolicy.IGNORE)
    ids = [p.ids(one.encode) for p in prompts(2)]
    assert len(ids[0]) != len(ids[1])
    events = list(one.answer(ids, [0, 1]))
    canvas = ["denoise"] * 3 + ["delivery"]
    assert phases(events) == ["prefill", *canvas, "commit", *canvas]
    forwards = [(e.canvas_index, e.step) for e in events if isinstance(e, Forward)]
    assert forwards == [(0, 1), (0, 1), (0, 2), (0, 3), (1, 1), (1, 1), (1, 2), (1, 3)]
    first, second = (e for e in events if isinstance(e, Delivery))
    for row in (0, 1):
        a, b = first.rows[row], second.rows[row]
        assert (len(a.tokens), a.after_eos, a.over_limit, a.finish_reason) == (32, 0, 0, None)
        assert (len(b.tokens), b.after_eos, b.over_limit, b.finish_reason) == (8, 0, 24, "length")
        assert (a.steps, b.steps, a.stop_reason, b.stop_reason) == (3, 3, "forced", "forced")
        assert a.tokens == a.slots
        assert b.tokens == b.slots[:8]


def test_the_ledger_sums_where_one_row_ends_a_canvas_before_the_other() -> None:
    many = engine.DiffusionSampling(max_denoising_steps=6, early_stop=False)
    one = session(many)
    asked = sorted(prompts(24), key=lambda p: len(p.answer or ""))
    short, long = asked[0], asked[-1]
    assert len(long.answer or "") > 32
    records = run_batch(one, [short, long], process_id=0, repeat=0)
    assert [len(r.canvases) for r in records] == [2, 2]
    assert (records[0].ended_row_steps, records[0].active_row_steps) == (6, 6)
    assert records[0].canvases[1].row_ended == 32
    assert records[0].text == short.answer
    tables = tables_of(one, [short, long], records, batch_size=2)  # type: ignore[arg-type]
    assert audit(tables["requests"], tables["steps"], 32, "stop") == []
    assert (tables["canvases"]["steps"] == 6).all()


def test_marks_are_made_when_things_happen_and_not_afterwards() -> None:
    one = session(FORCED, eos_policy=engine.EosPolicy.IGNORE)
    order: list[str] = []
    parts = one.loaded.model.model
    begun = [
        parts.encoder.register_forward_pre_hook(lambda *_: order.append("encoder")),
        parts.decoder.register_forward_pre_hook(lambda *_: order.append("decoder")),
    ]
    try:
        events = list(one.answer([[2, *range(8, 40)]], [0], mark=lambda: order.append("mark")))
    finally:
        for each in begun:
            each.remove()
    canvas = ["encoder", "mark", *["decoder", "mark"] * 3, "mark"]  # the last one: delivered
    assert order == canvas * 2
    assert order.count("mark") == len(events) == 10


def test_a_repair_starts_from_the_canvas_it_is_given() -> None:
    one = session(replace(FORCED, max_denoising_steps=1))
    asked = prompts(6)
    right = [run_batch(session(STOPPING), [p], process_id=0, repeat=0)[0] for p in asked]
    given = [r for r in right if r.correct and len(r.canvases) == 1]
    assert len(given) >= 3

    def kept(start: bool) -> int:
        """How many answers one step leaves right."""
        same = 0
        for record in given:
            canvas = record.canvases[0].slots.tolist()
            ids = [asked[record.request_id].ids(one.encode)]
            events = list(one.answer(ids, [0], first_canvas=[canvas] if start else None))
            delivered = next(e for e in events if isinstance(e, Delivery))
            same += delivered.rows[0].tokens == record.canvases[0].tokens.tolist()
        return same

    assert kept(True) == len(given)
    assert kept(False) < len(given)


def told(one: TransformersSession, ids: list[list[int]]) -> list[object]:
    return [e.rows if isinstance(e, Delivery) else e for e in one.answer(ids, [5])]


@cache
def usual(decoding: str) -> list[object]:
    """What the default implementation tells of the first prompt."""
    one = session(STOPPING if decoding == "diffusion" else engine.GreedySampling())
    return told(one, [prompts(1)[0].ids(one.encode)])


@pytest.mark.parametrize("experts", list(Experts))
@pytest.mark.parametrize("cache_kind", list(Cache))
def test_every_implementation_gives_the_same_answer(experts: Experts, cache_kind: Cache) -> None:
    ids = [prompts(1)[0].ids(session(STOPPING).encode)]
    samplings = {"diffusion": STOPPING, "autoregressive": engine.GreedySampling()}
    for decoding, attention in itertools.product(samplings, Attention):
        if (decoding, attention, cache_kind) == ("diffusion", Attention.eager, Cache.static):
            continue  # upstream's masks fail there
        knobs = TransformersConfig(experts=experts, attention=attention, cache=cache_kind)
        assert told(session(samplings[decoding], knobs), ids) == usual(decoding)


@pytest.mark.parametrize("name", ["tiny-diffusion", "tiny-autoregressive"])
def test_dummy_weights_fill_the_architecture_and_are_seeded(name: str) -> None:
    config = engine.PRESETS[name]
    one, same, other = (
        dummy(config, torch.bfloat16, torch.device("cpu"), seed) for seed in (0, 0, 1)
    )
    text = {n: p for n, p in one.named_parameters() if "vision" not in n}
    scalars = [b for n, b in one.named_buffers() if n.endswith("layer_scalar")]
    counted = sum(p.numel() for p in [*text.values(), *scalars])
    assert counted == num_parameters(config)
    assert {p.dtype for p in text.values()} == {torch.bfloat16}
    assert not any(p.is_meta for p in (*one.parameters(), *one.buffers()))
    matrix = next(n for n, p in text.items() if p.ndim == 2)
    assert torch.equal(text[matrix], same.get_parameter(matrix))
    assert not torch.equal(text[matrix], other.get_parameter(matrix))


@cache
def point(*overrides: str) -> Point:
    fixed = ["backend=transformers", "model=tiny-diffusion", "precision=fp32", *overrides]
    (found,) = compose_points(fixed, decoding_of, default_sweep=False)
    return found


def test_knobs_are_typed_and_ours_do_not_make_two_points_of_one() -> None:
    found = point("backend.experts=batched_mm", "kernels=torch,triton", "execution=compiled")
    backend = found.config.backend
    assert isinstance(backend, TransformersConfig)
    assert (backend.experts, backend.attention) == (Experts.batched_mm, Attention.sdpa)
    assert (found.config.kernels.name, found.config.execution.name) == ("torch", "eager")
    assert restore_point(found.point_id, found.config_hash, found.resolved) == found
    check_point(found.config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["precision=fp8"], "valid: fp32, bf16"),
        (["backend.experts=fast"], "grouped_mm"),
        (["backend.compiled=true"], "valid: backend.cache=static"),
        (
            ["model=tiny-autoregressive", "backend.compiled=true", "backend.cache=static"],
            "valid: backend.compiled=false",
        ),
        (
            ["backend.compiled=true", "backend.cache=static", "backend.experts=eager"],
            "valid: grouped_mm, batched_mm",
        ),
        (["batch_size=4"], "sampler.early_stop=false"),
    ],
)
def test_what_upstream_cannot_run_or_tell_is_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        check_point(point(*overrides).config)


def test_a_missing_package_is_one_line_with_the_way_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bench.backends.transformers.config.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'canvasbench\[transformers\]'"):
        check_point(point().config)


def test_another_version_of_the_package_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bench.backends.transformers.loading", None)
    with pytest.raises(ValueError, match="needs another version of it"):
        build_sessions(["one"], [point().config], 0)


def test_points_share_a_model_unless_it_is_compiled() -> None:
    first, second = (deepcopy(point().config) for _ in range(2))
    second.workload.max_new_tokens = 32
    sessions = build_sessions(["a", "b"], [first, second], 0)
    assert sessions[0].loaded is sessions[1].loaded  # type: ignore[attr-defined]
    for config in (first, second):
        config.backend = TransformersConfig(cache=Cache.static, compiled=True)
    with pytest.raises(ValueError, match="a process for each of its points"):
        build_sessions(["a", "b"], [first, second], 0)


def test_nothing_imports_the_package_before_it_is_used() -> None:
    code = (
        "import sys, bench.cli, bench.build, bench.compose, bench.worker, bench.sweep;"
        "sys.exit('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_ends_in_valid_tables_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bench.report.figures.DPI", 40)
    arguments = (
        "run -m model=tiny-diffusion precision=fp32 backend=transformers kernels=triton threads=1 "
        "workload.num_prompts=3 measure.num_repeats=1 measure.max_repairs=1 run_dir=run "
        "measure.num_routing_prompts=1 measure.min_warmup_prompts=1 measure.max_warmup_prompts=1"
    )
    done = Command(monkeypatch, capsys)(*arguments.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    run = open_run(tmp_path / "run")
    (theirs,) = (row for _, row in run.points.iterrows())
    assert theirs["backend"] == "transformers"
    assert theirs["validity"] != "invalid", theirs["validity_reason"]
    assert run.points[["kernels", "execution"]].isna().all(axis=None)
    for name in ("delivered_tok_per_s", "step_ms", "prefill_ms", "accuracy", "cap_rate"):
        assert theirs[name] >= 0
    for name in ("steps_per_canvas_median", "repaired_share", "distinct_experts_per_layer"):
        assert theirs[name] > 0
    # What no public hook tells is unknown, not zero.
    for name in ("argmax_flip_rate", "revocations_per_token", "net_correction"):
        assert theirs[name] != theirs[name]
    assert run.steps[["accepted_slots", "mean_entropy_nat"]].isna().all(axis=None)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "n/a" in page


@pytest.mark.slow
def test_compiled_tells_every_pass_apart_from_the_first_batch_on() -> None:
    alone = load("tiny-diffusion", precision="fp32", device="cpu", weights=None, seed=0)
    knobs = TransformersConfig(cache=Cache.static, compiled=True)
    one = replace(
        session(FORCED, knobs, eos_policy=engine.EosPolicy.IGNORE),
        loaded=alone,
    )
    canvas = ["denoise"] * 3 + ["delivery"]
    for _ in range(2):
        events = list(one.answer([[2, *range(8, 40)]], [0]))
        assert phases(events) == ["prefill", *canvas, "commit", *canvas]
    plain = replace(one, knobs=TransformersConfig(cache=Cache.static))
    with pytest.raises(ValueError, match="valid: true"):
        list(plain.answer([[2, 9]], [0]))
