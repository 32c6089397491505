"""`canvasbench verify`: PASS on good weights, FAIL on planted faults, told by the exit code."""

import json
import shutil
import sys
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import model as engine
from bench import cli
from bench.verify import run as verify_run
from bench.verify import upstream
from bench.verify.judge import Status
from bench.verify.run import Verdict, Wanted, verify_checkpoint
from model import LoadedModel
from model.config import ModelConfig, preset
from model.loading import make_model
from model.ops import make_ops
from model.tiny.tokenizer import build_tokenizer
from tests.model.fp8_checkpoint import write_fp8
from tests.model.upstream import (
    CASES,
    autoregressive_config,
    randomise,
    save_upstream,
    upstream_diffusion,
    upstream_multimodal,
)

CONFIGS = {
    "diffusion": CASES[0].config,
    "autoregressive": autoregressive_config(CASES[0].config),
}


def wanted(folder: Path, precision: str | None = None) -> Wanted:
    return Wanted(folder, precision, "cpu", "torch", "sort dacb=", "abcd")


def statuses(verdict: Verdict) -> dict[str, Status]:
    return {check.name: check.status for check in verdict.checks}


@pytest.fixture(params=list(CONFIGS))
def bf16(request, tmp_path: Path) -> Path:
    """What upstream saves of a tiny model, in the released layout with a vision tower."""
    config = CONFIGS[request.param]
    model = (upstream_multimodal if config.canvas_length is None else upstream_diffusion)(config)
    randomise(model, 6)
    save_upstream(model, tmp_path, torch.bfloat16)
    build_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_good_weights_pass_exactly(bf16: Path) -> None:
    verdict = verify_checkpoint(wanted(bf16, "fp32"))
    assert verdict.verdict == "PASS", verdict
    found = statuses(verdict)
    assert found.pop("known question") is Status.NOT_APPLICABLE
    assert set(found.values()) == {Status.PASS}
    assert len(found) == 5


SHIPPED = Path(engine.__file__).parent / "tiny" / "weights"


@pytest.fixture(params=[(d, p) for d in CONFIGS for p in ("bf16", "fp8")], ids=str)
def trained(request, tmp_path: Path) -> Path:
    """The shipped tiny model, bf16 or quantised, as a checkpoint folder that takes questions."""
    decoding, precision = request.param
    folder = tmp_path / "trained"
    if precision == "bf16":
        shutil.copytree(SHIPPED / decoding, folder)
    else:
        loaded = engine.load(f"tiny-{decoding}", kernels="reference")
        write_fp8(loaded.model, loaded.config, folder)
    template = "{{ bos_token }}{{ messages[0]['content'] }}"
    (folder / "chat_template.jinja").write_text(template)
    token = build_tokenizer().id_to_token(preset("tiny-diffusion").bos_token_id)
    (folder / "tokenizer_config.json").write_text(json.dumps({"bos_token": token}))
    return folder


def test_trained_weights_pass_in_the_checkpoint_s_precision(trained: Path) -> None:
    verdict = verify_checkpoint(wanted(trained))
    assert verdict.verdict == "PASS", verdict
    assert verdict.checkpoint.split()[0] == verdict.precision
    assert statuses(verdict)["known question"] is Status.PASS


def plant(monkeypatch: pytest.MonkeyPatch, change: Callable[[LoadedModel], object]) -> None:
    """Our side alone computes with something else than the files hold."""
    load = engine.load

    def wrong(*args, **kwargs) -> LoadedModel:
        loaded = load(*args, **kwargs | {"kernels": "reference"})
        change(loaded)
        return loaded

    monkeypatch.setattr(verify_run.engine, "load", wrong)


def double_a_norm(loaded: LoadedModel) -> None:
    loaded.model.blocks[1].post_feedforward_norm.weight.mul_(2)


def swap_two_experts(loaded: LoadedModel) -> None:
    for matrix in (loaded.model.blocks[0].experts.gate_up, loaded.model.blocks[0].experts.down):
        matrix[[0, 1]] = matrix[[1, 0]]


@pytest.mark.parametrize("change", [double_a_norm, swap_two_experts])
def test_a_wrong_weight_of_ours_fails(bf16: Path, change, monkeypatch) -> None:
    plant(monkeypatch, change)
    verdict = verify_checkpoint(wanted(bf16, "fp32"))
    assert (verdict.verdict, verdict.exit_code) == ("FAIL", 1)
    assert statuses(verdict)["first-step logits"] is Status.FAIL


def test_a_wrong_norm_fails_in_narrow_precisions_too(trained: Path, monkeypatch) -> None:
    plant(monkeypatch, double_a_norm)
    found = statuses(verify_checkpoint(wanted(trained)))
    assert found["first-step logits"] is Status.FAIL


def test_a_wrong_answer_fails(trained: Path) -> None:
    verdict = verify_checkpoint(replace(wanted(trained), expected="dcba"))
    assert statuses(verdict)["known question"] is Status.FAIL
    assert verdict.exit_code == 1


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def an_encoder_or_norm(tensors: dict[str, torch.Tensor]) -> str:
    return sorted(name for name in tensors if name.endswith("post_feedforward_layernorm.weight"))[0]


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (lambda t: t.pop(an_encoder_or_norm(t)), {"tensor names", "bytes of data"}),
        (
            lambda t: t.update(surprise=torch.zeros(1, dtype=torch.bfloat16)),
            {"tensor names", "bytes of data"},
        ),
        (
            lambda t: t.update({an_encoder_or_norm(t): torch.ones(48)}),
            {"tensor shapes and types", "bytes of data"},
        ),
    ],
)
def test_files_that_are_not_as_published_fail(bf16: Path, change, failing: set[str]) -> None:
    rewrite(bf16, change)
    verdict = verify_checkpoint(wanted(bf16, "fp32"))
    found = statuses(verdict)
    assert {name for name, status in found.items() if status is Status.FAIL} == failing
    assert found["first-step logits"] is Status.NOT_RUN
    assert verdict.exit_code == 1


def test_a_truncated_file_fails(bf16: Path) -> None:
    path = next(bf16.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1])
    verdict = verify_checkpoint(wanted(bf16, "fp32"))
    assert statuses(verdict)["files"] is Status.FAIL


def test_a_value_that_is_not_finite_fails(bf16: Path) -> None:
    rewrite(bf16, lambda t: t[an_encoder_or_norm(t)].fill_(torch.nan))
    verdict = verify_checkpoint(wanted(bf16, "fp32"))
    loading = next(check for check in verdict.checks if check.name == "loading")
    assert "post_feedforward_layernorm.weight" in loading.detail
    assert verdict.exit_code == 1


def test_without_transformers_the_verdict_is_incomplete(bf16: Path, monkeypatch) -> None:
    monkeypatch.setattr(verify_run, "find_spec", lambda name: None)
    verdict = verify_checkpoint(wanted(bf16, "fp32"))
    assert (verdict.verdict, verdict.exit_code) == ("INCOMPLETE", 3)
    logits = next(check for check in verdict.checks if check.name == "first-step logits")
    assert "pip install" in logits.detail
    assert statuses(verdict)["tensor names"] is Status.PASS


def test_a_failing_transformers_leaves_the_verdict_incomplete(bf16: Path, monkeypatch) -> None:
    def fail(*args: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    monkeypatch.setattr(upstream, "from_folder", fail)
    verdict = verify_checkpoint(wanted(bf16, "fp32"))
    assert verdict.verdict == "INCOMPLETE"
    assert "transformers fails: CUDA out of memory." in {c.detail for c in verdict.checks}


def test_one_model_is_in_memory_at_a_time(bf16: Path, monkeypatch) -> None:
    made: list[weakref.ref] = []
    from_folder, load = upstream.from_folder, engine.load

    def noted(*args):
        model = from_folder(*args)
        made.append(weakref.ref(model))
        return model

    def load_alone(*args, **kwargs) -> LoadedModel:
        assert [reference() for reference in made] == [None]
        return load(*args, **kwargs)

    monkeypatch.setattr(upstream, "from_folder", noted)
    monkeypatch.setattr(verify_run.engine, "load", load_alone)
    assert verify_checkpoint(wanted(bf16, "fp32")).verdict == "PASS"


def verb(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["canvasbench", "verify", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_verb_prints_json_and_says_by_its_exit_code(bf16, monkeypatch, capsys) -> None:
    assert verb(monkeypatch, str(bf16), "--precision", "fp32", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == "PASS"
    assert {check["status"] for check in told["checks"]} == {"PASS", "n/a"}
    rewrite(bf16, lambda t: t.pop(an_encoder_or_norm(t)))
    assert verb(monkeypatch, str(bf16)) == 1
    assert "FAIL" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is no checkpoint folder"),
        ([".", "--precision", "int3"], "config.json is missing"),
    ],
)
def test_bad_input_is_one_line(arguments, message: str, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    assert verb(monkeypatch, *arguments) == 2
    assert message in capsys.readouterr().err


def test_an_fp8_checkpoint_is_verified_as_fp8(tmp_path: Path) -> None:
    config = CONFIGS["diffusion"]
    model = make_model(config, make_ops("reference"))
    fp8 = write_fp8(model.requires_grad_(False), config, tmp_path / "fp8")
    with pytest.raises(ValueError, match="holds fp8 weights; valid: --precision fp8"):
        verify_checkpoint(wanted(fp8, "bf16"))
    with pytest.raises(ValueError, match="precision 'int3' is unknown; valid: fp32, bf16, fp8"):
        verify_checkpoint(wanted(fp8, "int3"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"device": "tpu?"}, "device 'tpu\\?' is unknown"),
        ({"device": "cuda"}, "device 'cuda' is not available here"),
        ({"kernels": "magic"}, "kernels 'magic' are unknown"),
        ({"kernels": "triton"}, "kernels 'triton' run bf16 and fp8 on a CUDA device"),
    ],
)
def test_what_this_machine_lacks_is_refused_at_once(change, message: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=message):
        verify_checkpoint(replace(wanted(SHIPPED / "diffusion"), **change))


def test_who_says_what_a_checkpoint_holds() -> None:
    from bench.verify.inventory import _authority

    real: list[ModelConfig] = [preset("diffusiongemma-26b-a4b"), preset("gemma-4-26b-a4b")]
    assert _authority(real[0], fp8=True) == "the published list"
    assert "no published list is kept here" in _authority(real[1], fp8=True)
    assert "no released shape" in _authority(CONFIGS["diffusion"], fp8=False)
