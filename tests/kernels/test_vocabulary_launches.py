"""What a step with fp8 products of the vocabulary launches, at the released size without a GPU."""

from collections import Counter
from unittest import mock

import pytest
import torch

pytest.importorskip("triton")

from model import precision as precisions
from model.kernels import sampler
from model.kernels.vocabulary import fuse_vocabulary
from model.precision import Precision
from model.vocabulary import Vocabulary
from tests.kernels.compiling import inspect, launches
from tests.kernels.launches import counted
from tests.kernels.passes import META, denoising, fused

NAME, LAYERS = "diffusiongemma-26b-a4b", ("sliding", "sliding", "full", "full")


def step(vocabulary: Vocabulary) -> Counter[str]:
    model = fused(NAME, Precision.BF16, LAYERS)
    with (
        mock.patch.object(precisions, "has_bf16_units", return_value=True),
        mock.patch.object(precisions, "has_fp8_units", return_value=True),
    ):
        precisions.finish(model, Precision.BF16, vocabulary)
    fuse_vocabulary(model)
    return Counter(kernel.name for kernel in counted(model, denoising(model)).whole.elements())


def test_two_products_change_and_one_launch_quantises() -> None:
    """The probabilities leave the sampler's kernel in e4m3: no pass over them is added."""
    exact, fp8 = step(Vocabulary.EXACT), step(Vocabulary.FP8)
    more, fewer = fp8 - exact, exact - fp8
    assert more == {"torch _scaled_mm": 2, "quantise_rows_kernel": 1}
    assert fewer == {"torch mm": 2}


@pytest.mark.slow
def test_probabilities_in_e4m3_compile_for_a_hopper_gpu() -> None:
    raw = torch.empty(256, 262144, dtype=torch.bfloat16, device=META)
    row, argmax = torch.empty(256, device=META), torch.empty(256, dtype=torch.int64, device=META)
    with launches() as found:
        sampler.scaled_probabilities(raw, 30.0, row[:1], row, argmax)
    resources = inspect(found[0].binary)
    assert resources.spills == 0
    assert resources.registers <= 128
    assert resources.target == "sm_90a"
