"""The dataset of published figures: well-formed, sourced, and the same as the shipped claims."""

from collections import Counter
from importlib.resources import files

import pytest
import yaml

from bench.claims.files import shipped_claims
from bench.devices import DEVICES
from bench.metrics import RATES
from bench.procurement.published import published_figures

FIGURES = published_figures()
BY_ID = {figure.id: figure for figure in FIGURES}
METRICS = {*RATES, "decode_tok_per_s_median", "step_ms", "joules_per_token"}


def test_every_figure_is_well_formed() -> None:
    assert max(Counter(figure.id for figure in FIGURES).values()) == 1
    for figure in FIGURES:
        assert figure.value > 0
        assert figure.device is None or figure.device in DEVICES, figure.id
        assert figure.decoding in ("diffusion", "autoregressive")
        assert figure.tag in ("V", "S", "D")
        assert figure.metric is None or figure.metric in METRICS, figure.id
        assert figure.unit in "tok/s tok/s/W J/token W ms x tok/forward".split()
        assert figure.steps is None or figure.decoding == "diffusion"
        assert not figure.is_forced or figure.steps
        for name in ("definition", "workload", "engine", "source", "device_label"):
            text = getattr(figure, name)
            assert isinstance(text, str), (figure.id, name)
            assert text, (figure.id, name)
        for name in ("prompt_tokens", "reply_tokens", "batch_size"):
            value = getattr(figure, name)
            assert value is None or value >= 1, (figure.id, name)


def test_every_source_is_used_and_none_is_a_bare_key() -> None:
    text = (files("bench.procurement") / "published.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    assert set(document["sources"]) == {row["source"] for row in document["figures"]}
    assert all(len(source) > 15 for source in document["sources"].values())


@pytest.mark.parametrize(
    ("claim", "figure"),
    [
        ("h100-fp8", "h100-vllm-16"),
        ("h200-fp8", "h200-vllm-16"),
        ("h100-ar-fp8", "h100-vllm-ar"),
        ("h200-ar-fp8", "h200-vllm-ar"),
        ("h100-mtp-fp8", "h100-vllm-ar-mtp"),
        ("h200-mtp-fp8", "h200-vllm-ar-mtp"),
        ("card-1100", "h100-card"),
    ],
)
def test_claims_and_dataset_say_the_same(claim: str, figure: str) -> None:
    (own,) = [each for each in shipped_claims() if each.name == claim]
    found = BY_ID[figure]
    assert found.value == own.value
    assert found.device == own.conditions.device
    assert found.precision == own.conditions.precision
    assert found.decoding == own.conditions.decoding
    assert found.prompt_tokens == own.conditions.prompt_tokens
    if own.conditions.forced_steps is not None:
        assert found.steps == own.conditions.forced_steps


def test_derived_figures_follow_from_what_they_are_derived_of() -> None:
    for card in ("h100", "h200"):
        top = BY_ID[f"{card}-vllm-16"]
        assert top.autoregressive == BY_ID[f"{card}-vllm-ar"].value
        for ratio, bottom in (("over-ar", "vllm-ar"), ("over-mtp", "vllm-ar-mtp")):
            quotient = top.value / BY_ID[f"{card}-{bottom}"].value
            assert BY_ID[f"{card}-{ratio}"].value == pytest.approx(quotient, rel=2e-3)
    power_w, rate = BY_ID["gb10-r0b0tlab-power"].value, BY_ID["gb10-r0b0tlab-16"].value
    assert BY_ID["gb10-r0b0tlab-efficiency"].value == pytest.approx(rate / power_w, abs=0.05)
    assert BY_ID["gb10-r0b0tlab-energy"].value == pytest.approx(power_w / rate, abs=0.005)
