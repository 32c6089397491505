"""From claims to the run that can judge them, and what is refused before anything runs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from bench.build import check_points, decoding_of
from bench.claims.claim import Claim
from bench.claims.experiment import overrides_for, unmeasurable, without_drafter
from bench.claims.files import read_claim
from bench.claims.observed import Observed
from bench.claims.verdict import Outcome
from bench.compose import Point, compose_points
from bench.servers.engines import PUBLISHED_VLLM_ARGS

NAMES = ("h200-fp8", "h200-ar-fp8", "h200-over-ar")


def here(gpu: str | None, cpu: str = "AMD EPYC") -> Callable[[str], str | None]:
    return lambda kind: gpu if kind == "cuda" else cpu


def composed(names: tuple[str, ...], *given: str, gpu: str | None = "h200") -> list[Point]:
    overrides = overrides_for([read_claim(name) for name in names], given, here(gpu))
    return compose_points(overrides, decoding_of, default_sweep=False)


def test_a_fixed_work_claim_becomes_its_experiment() -> None:
    (point,) = composed(("h200-fp8",))
    config = point.config
    assert config.model == "diffusiongemma-26b-a4b"
    assert (config.weights, config.device, config.kernels.name) == ("dummy", "cuda", "triton")
    assert (config.precision.name, config.batch_size) == ("fp8", 1)
    sampler, workload = point.resolved["sampler"], point.resolved["workload"]
    assert (sampler["max_denoising_steps"], sampler["early_stop"]) == (16, False)
    assert (workload["tasks"], workload["eos_policy"]) == ("fixed_work", "ignore")
    assert (workload["prompt_tokens"], workload["max_new_tokens"]) == (1024, 1024)


def test_a_ratio_measures_both_siblings_in_one_run() -> None:
    points = composed(NAMES)
    assert [p.config.model for p in points] == ["diffusiongemma-26b-a4b", "gemma-4-26b-a4b"]
    assert composed(("h200-over-ar",)) == points


@pytest.mark.parametrize(
    ("names", "given", "processes"),
    [
        (NAMES, (), 8),
        (("h200-fp8",), ("measure=screening",), 1),
        (("h200-fp8",), ("measure=screening", "measure.num_processes=2"), 2),
    ],
)
def test_processes_and_prompts_suffice(
    names: tuple[str, ...], given: tuple[str, ...], processes: int
) -> None:
    needed = max(read_claim(name).min_requests for name in names)
    for point in composed(names, *given):
        measure, workload = point.config.measure, point.config.workload
        assert measure.num_processes == processes
        assert measure.num_processes * measure.num_repeats * workload.num_prompts >= needed


def test_prompts_fill_whole_batches() -> None:
    claim = read_claim("h200-fp8")
    batched = replace(claim, conditions=replace(claim.conditions, batch_size=3))
    own = overrides_for([batched], ["measure=screening"], here("h200"))
    assert {"batch_size=3", "workload.num_prompts=12"} <= set(own)


def test_how_it_is_measured_is_the_users() -> None:
    (point,) = composed(
        ("h200-fp8",), "measure=screening", "workload.num_prompts=20", "kernels=torch"
    )
    assert point.config.measure.num_processes == 1
    assert point.config.workload.num_prompts == 20
    assert point.config.kernels.name == "torch"


def test_what_is_measured_is_the_claims() -> None:
    with pytest.raises(
        ValueError, match="precision=bf16 contradicts claim h200-fp8: precision=fp8"
    ):
        composed(("h200-fp8",), "precision=bf16")
    assert composed(("h200-fp8",), "precision=fp8") == composed(("h200-fp8",))


@pytest.mark.parametrize(
    ("names", "gpu", "message"),
    [
        (("h200-fp8",), None, "the claim is about device h200; this machine has no GPU"),
        (("h100-fp8",), "h200", "the claim is about device h100; here it is h200"),
        (("h100-fp8", "h200-fp8"), "h200", "need different runs: device h100 and h200"),
        (("h200-fp8", "steps-per-canvas"), "h200", "content-dependent and fixed work"),
        (("steps-per-canvas",), "h200", "give the released ones as weights=PATH"),
    ],
)
def test_what_cannot_be_measured_here_is_refused(
    names: tuple[str, ...], gpu: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match="claim") as error:
        composed(names, gpu=gpu)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_contents_need_real_weights() -> None:
    with pytest.raises(ValueError, match="random weights cannot tell"):
        composed(("steps-per-canvas",), "weights=dummy")
    (point,) = composed(("steps-per-canvas", "card-tokens-per-forward"), "weights=/weights")
    assert (point.config.weights, point.config.workload.tasks) == ("/weights", "text")
    assert point.config.workload.num_prompts >= 10
    assert point.resolved["sampler"]["early_stop"] is True


def written(folder: Path, **conditions: str) -> Claim:
    lines = "".join(f"  {name}: {value}\n" for name, value in conditions.items())
    path = folder / "mine.yaml"
    path.write_text(
        "title: mine\nvalue: 100\nunit: tok/s\nrelation: at_least\nmetric: delivered_tok_per_s\n"
        f"conditions:\n{lines}source:\n  title: me\n  date: now\n"
    )
    return read_claim(str(path))


def test_a_users_claims_about_processors_and_simulations(tmp_path: Path) -> None:
    tiny = written(tmp_path, decoding="diffusion", model="tiny-diffusion", device="AMD EPYC")
    own = overrides_for([tiny], [], here(None))
    assert {"device=cpu", "model=tiny-diffusion", "workload=tiny", "measure=publish"} <= set(own)
    with pytest.raises(ValueError, match="device AMD EPYC; here it is Other"):
        overrides_for([tiny], [], here(None, cpu="Other"))
    made_up = written(tmp_path, decoding="diffusion", model="tiny-diffusion", device="simulated")
    assert "backend=simulated" in overrides_for([made_up], [], here(None))
    for claim in (tiny, made_up):
        assert compose_points(overrides_for([claim], [], here(None)), decoding_of)
    nameless = written(tmp_path, decoding="diffusion")
    with pytest.raises(ValueError, match="names no model"):
        overrides_for([nameless], [], here(None))


def test_nothing_is_measured_for_a_drafter_that_nobody_has() -> None:
    claims = [read_claim(name) for name in ("h200-fp8", "h200-mtp-fp8", "h200-over-mtp")]
    measured, drafted = without_drafter(claims)
    assert [c.name for c in measured] == ["h200-fp8"]
    for claim in drafted:
        found = unmeasurable(claim)
        assert found.outcome is Outcome.NOT_COMPARABLE
        assert "mtp 4 drafts, synthetic 80 % acceptance, and no engine here" in found.reasons[0]


SERVER = ("backend=openai", "backend.url=http://127.0.0.1:1/v1", "backend.served_model=dg")


def test_a_server_that_runs_is_asked_as_the_claim_says() -> None:
    """On a machine without a GPU: where the server runs is its operator's word."""
    (point,) = composed(("h200-fp8",), *SERVER, "backend.device=h200", gpu=None)
    check_points([point.config])
    config, backend = point.config, point.resolved["backend"]
    assert (config.model, config.precision.name) == ("diffusiongemma-26b-a4b", "fp8")
    assert (backend["max_denoising_steps"], backend["early_stop"]) == (16, False)
    assert (backend["endpoint"], backend["device"]) == ("completions", "h200")
    assert (config.device, config.workload.eos_policy.name) == ("cpu", "ignore")
    assert config.measure.name.name == "publish"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "nobody says where the server runs; valid: backend.device=h200"),
        (("backend.device=h100",), "the server runs on h100; valid: backend.device=h200"),
        (
            ("backend.device=h200", "backend.max_denoising_steps=8"),
            "backend.max_denoising_steps=8 contradicts claim h200-fp8",
        ),
    ],
)
def test_a_server_that_does_not_fit_is_refused(given: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        composed(("h200-fp8",), *SERVER, *given)


def test_one_server_is_not_both_siblings() -> None:
    with pytest.raises(ValueError, match="a server serves one model"):
        composed(("h200-over-ar",), *SERVER, "backend.device=h200")


@pytest.mark.parametrize("name", ["h200-fp8", "h200-ar-fp8"])
def test_a_started_vllm_gets_the_published_flags(name: str) -> None:
    own = ("backend=openai", "backend.launch.engine=vllm", "weights=/weights")
    (point,) = composed((name,), *own)
    launch = point.resolved["backend"]["launch"]
    decoding = read_claim(name).conditions.decoding
    assert launch["args"] == PUBLISHED_VLLM_ARGS[decoding]
    assert point.config.device == "cuda"
    (chosen,) = composed((name,), *own, "backend.launch.args=[--max-num-seqs,'8']")
    assert chosen.resolved["backend"]["launch"]["args"] == ["--max-num-seqs", "8"]


def served(**changes: object) -> Observed:
    row = {
        **{"point_id": "p", "backend": "openai", "decoding": "diffusion", "workload": "fixed_work"},
        **{"model": "diffusiongemma-26b-a4b", "device": "h200", "precision": "fp8"},
        **{"connections": 1, "batch_size": 1, "max_new_tokens": 64, "eos_policy": "ignore"},
        **{"max_denoising_steps": 16, "early_stop": False, "server": "vllm 0.32"},
        **{"server_steps_per_canvas": 16.0, "weights": "served"},
    }
    requests = pd.DataFrame({"prompt_tokens": [1024, 1024]})
    return Observed.of(row | changes, requests, pd.DataFrame(), pd.DataFrame())


def test_a_servers_conditions_are_what_it_did() -> None:
    seen = served().conditions
    assert (seen["device"], seen["steps"], seen["prompt_tokens"]) == ("h200", "forced 16", 1024)
    assert (seen["batch_size"], seen["drafter"]) == (1, "none")
    assert "vllm 0.32" in served().engine
    assert served().disclosed["engine and version"] == "openai, vllm 0.32"
    assert served(early_stop=True).steps_per_canvas == 16.0
    unproven = served(max_denoising_steps=None, early_stop=None, server_steps_per_canvas=None)
    assert (unproven.conditions["steps"], unproven.steps_per_canvas) == (None, None)
    assert served(connections=4).conditions["batch_size"] == 4
    assert served(connections=None, rate_per_s=2.0).conditions["batch_size"] is None
    assert served(device="served").conditions["device"] is None
    sibling = served(decoding="autoregressive")
    assert sibling.conditions["drafter"] is None
    assert served(decoding="autoregressive", drafter="none").conditions["drafter"] == "none"
