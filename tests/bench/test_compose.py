"""From overrides to points: the default sweep, narrowing, widening, and every kind of bad input."""

import pytest

from bench.compose import compose_points
from bench.refusal import is_refusal
from bench.schema import BlockDiffusionConfig, GreedyConfig


def decoding_of(model: str) -> str:
    return "autoregressive" if "autoregressive" in model else "diffusion"


def point_ids(*overrides: str, default_sweep: bool = True) -> list[str]:
    points = compose_points(overrides, decoding_of, default_sweep=default_sweep)
    return [point.point_id for point in points]


def test_default_sweep_is_both_siblings_in_both_precisions() -> None:
    assert sorted(point_ids()) == [
        "autoregressive-bf16",
        "autoregressive-fp8",
        "diffusion-bf16",
        "diffusion-fp8",
    ]


def test_an_override_narrows_its_axis() -> None:
    assert point_ids("precision=fp8") == ["diffusion-fp8", "autoregressive-fp8"]
    assert point_ids("precision=fp32", "model=tiny-diffusion") == ["diffusion-fp32"]


def test_multirun_sweeps_only_what_is_given() -> None:
    assert point_ids(default_sweep=False) == ["diffusion-bf16"]
    assert point_ids("precision=fp32,fp8", default_sweep=False) == [
        "diffusion-fp32",
        "diffusion-fp8",
    ]


def test_a_sampler_axis_reaches_diffusion_points_only() -> None:
    names = point_ids("precision=bf16", "sampler.max_denoising_steps=4,8")
    assert names == [
        "diffusion-bf16-max_denoising_steps=4",
        "autoregressive-bf16",
        "diffusion-bf16-max_denoising_steps=8",
    ]


def test_siblings_carry_their_own_sampler_only() -> None:
    points = compose_points(["precision=bf16", "sampler.entropy_bound=0.3"], decoding_of)
    by_id = {point.point_id: point.config.sampler for point in points}
    assert by_id["diffusion-bf16"] == BlockDiffusionConfig(entropy_bound=0.3)
    assert by_id["autoregressive-bf16"] == GreedyConfig()


def test_prepared_experiment() -> None:
    assert len(point_ids("experiment=step_cap")) == 5


def test_config_hash_names_what_is_measured_and_nothing_else() -> None:
    def digest(*overrides: str) -> str:
        given = ["model=tiny-diffusion", "precision=bf16", *overrides]
        (point,) = compose_points(given, decoding_of)
        return point.config_hash

    assert digest() == digest("run_dir=elsewhere")
    assert digest() != digest("seed=1")
    assert digest() != digest("workload.num_prompts=7")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("precisio=fp8", "'precisio' is unknown; did you mean 'precision'"),
        ("+extra=1", "'extra' is unknown"),
        ("sampler.max_steps=3", "did you mean 'sampler.max_denoising_steps'"),
        ("sampler.stabilty_threshold=2", "did you mean 'sampler.stability_threshold'"),
        ("measure.num_repeat=2", "did you mean 'measure.num_repeats'"),
        ("num_repeat=2", "did you mean 'measure.num_repeats'"),
        ("backend.url=x", "'backend.url' is unknown here; backend=openai has it"),
        ("measure.frob=1", "valid: measure.name, measure.num_processes, measure.num_repeats, "),
        ("+workload.domain=x", "'workload.domain' is unknown; did you mean 'workload.domains'"),
        ("precision=fp9", "expected one of [fp32, bf16, fp8]"),
        ("precision=fp8,fp9", "expected one of [fp32, bf16, fp8]"),
        ("workload=nothing", "valid: fixed_work, long_context, text, tiny, tiny_hard"),
        ("workload.num_prompts=many", "could not be converted to Integer"),
        ("workload.max_new_tokens=0", "workload.max_new_tokens is 0; it must be >= 1"),
        ("batch_size=0", "batch_size is 0; it must be >= 1"),
        ("threads=0", "threads is 0; it must be >= 1"),
        ("seed=[", "override seed=[ cannot be read: no viable alternative"),
        ("seed", "override seed cannot be read: missing EQUAL"),
        ("run_dir=/tmp/ä", """needs quotes of its own around its value: "run_dir='/tmp/ä'\""""),
        ("run_dir=a#b", """needs quotes of its own around its value: "run_dir='a#b'\""""),
        ("run_dir=a'b", "needs quotes of its own around its value: "),
        ("run_dir=/tmp/a,b", "run_dir=/tmp/a,b names several values of what a whole run has one"),
        ("launcher=local,slurm", "names several values of what a whole run has one of"),
        ("workload=0", "workload=0: Config group override must be a string"),
        (f"time_budget_s={'9' * 400}", "too large to convert to float"),
    ],
)
def test_bad_input_is_one_clear_line(override: str, expected: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        compose_points([override], decoding_of)
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message
    assert is_refusal(caught.value)


def test_a_knob_without_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="max_denoising_steps=3 has no effect"):
        compose_points(["model=tiny-autoregressive", "sampler.max_denoising_steps=3"], decoding_of)
