"""Weights counted from dimensions: against the model's own tensors and the released sizes."""

import pytest
import torch

from model import PRESETS, preset
from model.cost import num_parameters, weight_bytes
from model.diffusion import DiffusionTransformer
from model.ops import make_ops
from model.precision import Precision
from model.transformer import Transformer


@pytest.mark.parametrize("name", PRESETS)
def test_parameters_are_those_of_the_model(name: str) -> None:
    config = preset(name)
    kind = Transformer if config.canvas_length is None else DiffusionTransformer
    with torch.device("meta"):
        tensors = kind(config, make_ops("torch")).state_dict().values()
    assert num_parameters(config) == sum(tensor.numel() for tensor in tensors)


def test_the_released_models_weigh_what_is_published() -> None:
    config = preset("diffusiongemma-26b-a4b")
    assert num_parameters(config) == pytest.approx(25.25e9, rel=1e-3)
    # A denoise step that touches all experts reads 27.5 GB in fp8 and 52.0 GB in bf16.
    for precision, published in ((Precision.FP8, 27.5e9), (Precision.BF16, 52.0e9)):
        total = sum(weight_bytes(config, precision, 128).values())
        assert total == pytest.approx(published, rel=3e-3)


def test_only_experts_depend_on_routing_and_only_diffusion_conditions_itself() -> None:
    config = preset("mini-diffusion")
    few, many = (weight_bytes(config, Precision.BF16, n) for n in (4, 16))
    assert many["experts"] == 4 * few["experts"]
    assert {k: v for k, v in few.items() if k != "experts"} == {
        k: v for k, v in many.items() if k != "experts"
    }
    sibling = weight_bytes(preset("mini-autoregressive"), Precision.BF16, 4)
    assert set(few) - set(sibling) == {"self_conditioning"}


def test_bf16_bytes_are_twice_the_parameters_read() -> None:
    """With every expert touched, a step of the autoregressive model reads all it has, once."""
    config = preset("tiny-autoregressive")
    total = sum(weight_bytes(config, Precision.BF16, config.moe.num_experts).values())
    scalars = config.num_layers + config.num_layers * config.hidden_size
    assert total / 2 == pytest.approx(num_parameters(config), abs=2 * scalars)
