"""Random layers and inputs at the model's sizes with what fp32 products over them answer.

Legend: T tokens, D model, E experts, K experts a token, F expert hidden, N = T * K assignments.
"""

import statistics
from dataclasses import dataclass

import torch
from torch import Tensor

from model.kernels.experts import FP8
from model.ops import reference


@dataclass(frozen=True)
class Sizes:
    experts: int = 128
    top_k: int = 8
    width: int = 2816
    hidden: int = 704


@dataclass
class Layer:
    """One layer's weights in one dtype with fp32 scales per output channel (bf16: ones)."""

    gate_up: Tensor
    gate_up_scale: Tensor
    down: Tensor
    down_scale: Tensor


@dataclass
class Case:
    """Inputs of one number of tokens with what fp32 products over the same weights answer."""

    x: Tensor
    row_scale: Tensor
    expert: list[Tensor]
    weight: Tensor
    hidden: Tensor
    hidden_scale: Tensor
    want_hidden: Tensor
    want_rows: Tensor
    want: Tensor


def quantised(x: Tensor) -> tuple[Tensor, Tensor]:
    scale = x.float().abs().amax(-1, keepdim=True).clamp_(min=1e-30) / 448
    return (x.float() / scale).to(FP8), scale.squeeze(-1)


def take(matrix: Tensor, rows: Tensor) -> Tensor:
    """Rows of a matrix of any dtype (e4m3 has no index kernel everywhere)."""
    if matrix.dtype == FP8:
        return matrix.view(torch.uint8)[rows].view(FP8)
    return matrix[rows]


def random_layer(sizes: Sizes, dtype: torch.dtype, device: str) -> Layer:
    def matrix(rows: int, depth: int) -> tuple[Tensor, Tensor]:
        weight = torch.empty(sizes.experts, rows, depth, dtype=dtype, device=device)
        scale = torch.ones(sizes.experts, rows, device=device)
        for index in range(sizes.experts):
            values = torch.randn(rows, depth, device=device) / depth**0.5
            if dtype == FP8:
                weight[index], scale[index] = quantised(values)
            else:
                weight[index] = values.to(dtype)
        return weight, scale

    return Layer(*matrix(2 * sizes.hidden, sizes.width), *matrix(sizes.width, sizes.hidden))


def random_case(
    layer: Layer, sizes: Sizes, tokens: int, dtype: torch.dtype, device: str, zipf: float = 0
) -> Case:
    """A few expert choices to rotate over, answers for the first; uniform routing or Zipf's law."""
    x = torch.randn(tokens, sizes.width, device=device).bfloat16()
    row_scale = torch.ones(tokens, device=device)
    if dtype == FP8:
        x, row_scale = quantised(x)
    log_share = -zipf * torch.arange(1, sizes.experts + 1, device=device).log()
    gumbel = [
        -torch.rand(tokens, sizes.experts, device=device).log_().neg_().log_() for _ in range(6)
    ]
    choices = [(log_share + one).topk(sizes.top_k).indices.int() for one in gumbel]
    weight = torch.rand(tokens, sizes.top_k, device=device) / sizes.top_k
    flat = choices[0].flatten()
    count = tokens * sizes.top_k
    want_hidden = torch.empty(count, sizes.hidden, device=device, dtype=torch.bfloat16)
    want_rows = torch.empty(count, sizes.width, device=device, dtype=torch.bfloat16)
    hidden = torch.empty(count, sizes.hidden, device=device, dtype=dtype)
    hidden_scale = torch.ones(count, device=device)
    for index in flat.unique().tolist():
        mine = torch.where(flat == index)[0]
        token = mine // sizes.top_k
        scales = row_scale[token, None] * layer.gate_up_scale[index]
        merged = take(x, token).float() @ layer.gate_up[index].float().t() * scales
        want_hidden[mine] = reference.gated_gelu(merged.bfloat16())
        if dtype == FP8:
            values, hidden_scale[mine] = quantised(want_hidden[mine])
            hidden.view(torch.uint8)[mine] = values.view(torch.uint8)
        else:
            hidden[mine] = want_hidden[mine]
        scales = hidden_scale[mine, None] * layer.down_scale[index]
        answer = take(hidden, mine).float() @ layer.down[index].float().t() * scales
        want_rows[mine] = answer.bfloat16()
    chosen = want_rows.view(tokens, sizes.top_k, -1).float() * weight[..., None]
    want = chosen.sum(1)
    return Case(x, row_scale, choices, weight, hidden, hidden_scale, want_hidden, want_rows, want)


def relative_error(got: Tensor, want: Tensor) -> float:
    return float((got.float() - want.float()).norm() / want.float().norm())


def touched_bytes(case: Case, matrix: Tensor) -> float:
    """Weight bytes of the experts that a call reads, averaged over the rotated choices."""
    touched = [choice.unique().numel() for choice in case.expert]
    return statistics.mean(touched) * matrix[0].numel() * matrix.element_size()
