"""Checks beside a sweep: each finds what was planted, and leaves the model as it was."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.budget import Budget
from bench.build import build_sessions, decoding_of
from bench.checks import CHECKS, check_names, checks_to_do, graph_equals_eager, op_groups
from bench.checks.run import run_checks
from bench.compose import Point, compose_points
from model.kernels import OP_GROUPS
from model.sampling.block_diffusion import CanvasState

KERNELS = Path(__file__).parents[2] / "model" / "kernels"


def point(*overrides: str) -> Point:
    given = [
        "weights=dummy",
        "precision=bf16",
        "threads=1",
        "workload=fixed_work",
        "workload.num_prompts=1",
        "workload.prompt_tokens=9",
        "workload.max_new_tokens=40",
    ]
    if "model=tiny-autoregressive" not in overrides:
        given += ["sampler=forced", "sampler.max_denoising_steps=8"]
    (found,) = compose_points([*given, *overrides], decoding_of, default_sweep=False)
    return found


class Wrapper:
    """Stands for a graph: runs the step and, after the first call, may change what it gives."""

    fixed_shapes = False

    def __init__(self, change: Any) -> None:
        self._change = change

    def __call__(self, step: Any, kind: str) -> Any:
        def run(*args: Any) -> Any:
            return self._change(step(*args), kind)

        return run


def other_token(result: Any, kind: str) -> Any:
    if kind != "denoise":
        return result
    state, trace = result
    argmax = state.argmax_BL.clone()
    argmax[0, 3] ^= 1
    changed = {name: getattr(state, name) for name in CanvasState.__dataclass_fields__}
    return CanvasState(**changed | {"argmax_BL": argmax}), trace


def other_entropy(result: Any, kind: str) -> Any:
    if kind != "denoise":
        return result
    result[1].entropy_BL.add_(1e-6)
    return result


@pytest.mark.parametrize(
    ("execution", "change", "passed"),
    [
        ("cuda_graph", lambda result, kind: result, True),
        ("cuda_graph", other_token, False),
        ("cuda_graph", other_entropy, False),
        ("compiled", other_entropy, True),
        ("compiled", other_token, False),
    ],
)
def test_a_graph_that_gives_something_else_is_found(
    execution: str, change: Any, passed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("model.loading.make_wrapper", lambda name, device: Wrapper(change))
    found = graph_equals_eager.check(point(f"execution={execution}").config)
    assert found.passed is passed, found.detail


def test_eager_has_nothing_to_compare() -> None:
    assert graph_equals_eager.check(point().config).passed is None


@pytest.mark.parametrize("decoding", ["diffusion", "autoregressive"])
def test_a_steps_time_is_told_apart_by_op_group(decoding: str) -> None:
    found = op_groups.check(point(f"model=tiny-{decoding}").config)
    groups = {row["op_group"]: row for row in found.op_groups}
    expected = {"projections", "attention", "router", "experts", "dense", "norms", "logits"}
    expected |= {"sampling", "self_conditioning"} if decoding == "diffusion" else set()
    assert expected <= set(groups)
    assert all(row["step_ms"] > 0 for row in groups.values())
    assert "launches a step" in found.detail


def test_too_few_steps_are_said() -> None:
    config = point("sampler.max_denoising_steps=2").config
    with pytest.raises(ValueError, match="needs 8 steps, the point has 4"):
        op_groups.check(config)


def test_labels_leave_the_model_as_it_was() -> None:
    (session,) = build_sessions(["x"], [point().config], 0)
    model = session.loaded.model  # type: ignore[attr-defined]
    before, ops = set(model.embedding.__dict__), model.ops
    with op_groups.labelled(model):
        assert set(model.embedding.__dict__) != before
        assert model.ops is not ops
    assert set(model.embedding.__dict__) == before
    assert model.ops is ops
    assert not any(module._forward_hooks for module in model.modules())


def event(name: str, device: str = "CPU", parent: Any = None, **fields: Any) -> Any:
    return SimpleNamespace(
        name=name, device_type=f"DeviceType.{device}", cpu_parent=parent, **{"kernels": []} | fields
    )


def test_kernels_belong_to_their_range_or_to_their_name() -> None:
    inside = event("op_group:dense")
    gemm = SimpleNamespace(name="cutlass_gemm", duration=5.0)
    own = SimpleNamespace(name="gate_up_kernel", duration=7.0)
    events = [
        inside,
        event("aten::mm", parent=event("aten::linear", parent=inside), kernels=[gemm]),
        event("launch", parent=inside, kernels=[own]),
        event("cutlass_gemm", "CUDA", self_device_time_total=5.0),
        event("gate_up_kernel", "CUDA", self_device_time_total=7.0),
        event("down_kernel", "CUDA", self_device_time_total=3.0),
        event("memset", "CUDA", self_device_time_total=1.0),
    ]
    assert op_groups.group_times_us(events, on_gpu=True) == {
        "dense": (5.0, 1),
        "experts": (10.0, 2),
        "other": (1.0, 1),
    }


def test_every_kernel_that_is_launched_has_an_op_group() -> None:
    launched = set()
    jitted = set()
    for path in KERNELS.glob("*.py"):
        text = path.read_text()
        launched |= set(re.findall(r"\b([a-z_]+)\[(?:grid|\()", text))
        jitted |= set(re.findall(r"^def ([a-z_]+)\(", text, re.MULTILINE))
    assert launched & jitted
    assert launched & jitted <= set(OP_GROUPS)
    assert set(OP_GROUPS) <= jitted


def test_checks_are_done_once_and_only_within_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.checks import Finding
    from bench.checks import run as running

    asked = [point(), point("model=tiny-autoregressive"), point("workload.num_prompts=2")]
    calls: list[str] = []

    def fake(name: str, looked_at: Point, log: Path) -> Finding | str:
        calls.append(looked_at.point_id)
        return Finding(True, "fine") if len(calls) != 2 else "the process ended with exit code 9"

    monkeypatch.setattr(running, "_run", fake)
    spent = Budget(0.0)
    assert spent.allows_another()  # the first, whatever there is
    with spent.spent_on():
        pass
    run_checks(tmp_path, asked, ["graph_equals_eager"], spent)
    assert calls == []
    run_checks(tmp_path, asked, ["graph_equals_eager"], Budget(None))
    assert len(calls) == 2  # two loaded models, the third point shares one
    left = list(checks_to_do(tmp_path, asked, ["graph_equals_eager"]))
    assert [p.point_id for _, p in left] == [asked[1].point_id]  # it failed
    run_checks(tmp_path, asked, ["graph_equals_eager"], Budget(None))
    assert len(calls) == 3
    assert not list(checks_to_do(tmp_path, asked, ["graph_equals_eager"]))
    with pytest.raises(ValueError, match=f"check 'x' is unknown; valid: {', '.join(CHECKS)}"):
        check_names(["x"])


def test_a_check_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    run_checks(tmp_path, [point()], ["graph_equals_eager"], Budget(None))
    from bench.merge import merged

    (row,) = merged(tmp_path)["checks"].to_dict("records")
    assert row["detail"] == "execution is eager: there is nothing to compare"
    assert row["passed"] not in (True, False)
