"""`vocabulary=fp8` through the harness: refusals, memory before loading, floors, a row."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from bench.build import build_sessions, check_point, decoding_of
from bench.claims.experiment import overrides_for
from bench.claims.files import read_claim
from bench.collect import _knobs
from bench.compose import Point, compose_points, restore_point
from bench.memory import need
from bench.plan import clean_slate
from bench.records import StepRecord
from bench.roofline_table import print_roofline
from bench.step_work import step_work
from model import preset
from model.cost import stored_bytes
from model.precision import Precision
from model.vocabulary import Vocabulary

FP8 = "vocabulary=fp8"
FULL = preset("diffusiongemma-26b-a4b")


def point(*overrides: str) -> Point:
    (found,) = compose_points(["precision=bf16", *overrides], decoding_of, default_sweep=False)
    return found


def test_it_is_an_axis_of_both_siblings_and_needs_a_process_of_its_own() -> None:
    models = "model=tiny-diffusion,tiny-autoregressive"
    points = compose_points([models, "precision=bf16", "vocabulary=exact,fp8"], decoding_of)
    names = [p.point_id for p in points]
    assert names == [
        f"{decoding}-bf16-vocabulary={each}"
        for decoding in ("diffusion", "autoregressive")
        for each in ("exact", "fp8")
    ]
    assert len({clean_slate(p.config) for p in points}) == 4
    for each in points:
        check_point(each.config)
        assert restore_point(each.point_id, each.config_hash, each.resolved) == each


def test_where_it_is_not_told_a_point_is_what_it_was() -> None:
    assert point().config_hash == point("vocabulary=exact").config_hash
    assert point().config_hash != point(FP8).config_hash


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("precision=fp32",), "vocabulary is fp8 with precision fp32; it must be exact there"),
        (("backend=transformers",), "fp8, which backend=transformers does not know; valid: vocab"),
        (("backend=simulated",), "fp8, which backend=simulated does not know; valid: vocab"),
        (("measure=publish",), "measure=publish needs exact until a quality run on real weights"),
        (("sampler.min_belief=0.01",), "sampler.min_belief is 0.01; it must be 0"),
    ],
)
def test_what_it_does_not_go_with_is_one_line(overrides: tuple[str, ...], message: str) -> None:
    config = point(FP8, *overrides).config
    with pytest.raises(ValueError, match=message) as refused:
        check_point(config)
    assert "\n" not in str(refused.value)


def test_a_server_is_not_asked_for_it() -> None:
    served = ("backend=openai", "backend.url=http://127.0.0.1:9/v1", "backend.served_model=x")
    with pytest.raises(ValueError, match="vocabulary is fp8, which backend=openai does not know"):
        check_point(point(FP8, *served).config)


def test_an_unknown_one_names_the_choices() -> None:
    with pytest.raises(ValueError, match=r"vocabulary: .*expected one of .exact, fp8"):
        point("vocabulary=fp4")


def test_a_claims_experiment_cannot_be_run_with_it() -> None:
    """It publishes, and a point with it would be comparable to no published figure."""
    claims = [read_claim("h200-fp8")]
    overrides = overrides_for(claims, [FP8], lambda kind: "h200" if kind == "cuda" else None)
    assert FP8 in overrides
    (found,) = compose_points(
        [line for line in overrides if line not in ("device=cuda", "kernels=triton")], decoding_of
    )
    with pytest.raises(ValueError, match="measure=publish needs exact"):
        check_point(replace(found.config, device="cpu"))


def test_memory_before_loading_knows_the_copies() -> None:
    table = FULL.vocab_size * FULL.hidden_size
    for model, copies in ((FULL.name, 2), (FULL.sibling, 1)):
        keys = ("weights=dummy", f"model={model}", "precision=fp8", FP8)
        asked = point(*keys).config
        for device, width in (("cuda", 1), ("cpu", 4)):
            fp8 = replace(asked, device=device)
            exact = replace(fp8, vocabulary=type(fp8.vocabulary).exact)
            more = need(fp8).weights - need(exact).weights
            assert more == pytest.approx(copies * width * table, rel=1e-3)
            assert need(fp8).cache == need(exact).cache
            assert need(fp8).logits == need(exact).logits
        stored = stored_bytes(preset(model), Precision.FP8, Vocabulary.FP8)
        assert need(replace(asked, device="cuda")).weights == stored


def work(*overrides: str) -> dict[str, Any]:
    """Op groups of a denoise step that one request took, by name."""
    step = StepRecord(canvas_index=0, step=2, phase="denoise", device_ms=1.0)
    request: Any = SimpleNamespace(prompt_tokens=9, steps=[step])
    found = step_work(point(*overrides).config, [request])
    assert found is not None
    return {group["name"]: group for group in found["groups"]}


def test_a_rows_floor_is_of_the_products_and_the_feeding_back_it_had() -> None:
    exact, fp8 = work(), work(FP8)
    for name in ("logits", "self_conditioning"):
        assert fp8[name]["is_fp8"]
        assert not exact[name]["is_fp8"]
        assert fp8[name]["weight_bytes"] < exact[name]["weight_bytes"]
    alone = work(FP8, "sampler.self_conditioning=false")["self_conditioning"]
    assert alone["activation_bytes"] == 0
    assert alone["weight_bytes"] < fp8["self_conditioning"]["weight_bytes"]
    assert not alone["is_fp8"]


def test_a_point_is_loaded_and_told_as_it_is_asked_for() -> None:
    found = []
    for each in (point(), point(FP8), point(FP8, "sampler.self_conditioning=false")):
        (session,) = build_sessions([each.point_id], [each.config], 0)
        run: Any = SimpleNamespace(
            point=each, session=session, workload=SimpleNamespace(sha256="none")
        )
        found.append((_knobs(run)["vocabulary"], session.weight_bytes(4)))  # type: ignore[union-attr]
    assert [vocabulary for vocabulary, _ in found] == ["exact", "fp8", "fp8"]
    assert found[0][1] > found[1][1] > found[2][1]


def test_the_table_of_floors_takes_it(capsys: pytest.CaptureFixture[str]) -> None:
    print_roofline(["device=h200", FP8])
    told = " ".join(capsys.readouterr().out.split())
    assert "vocabulary fp8" in told
    assert "denoise 5.77 / " in told  # the kernel plan's, at 1,024 cached positions
    with pytest.raises(ValueError, match="vocabulary 'fp4' is unknown; valid: exact, fp8"):
        print_roofline(["vocabulary=fp4"])
